//! Schedule: which density holds when.

mod ac_dc;
mod cubic;
mod gradual;
mod regrow;
mod reselect;
mod rigl;
mod set;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::score::Pruner;

pub use ac_dc::AcDc;
pub use cubic::Cubic;
pub use gradual::{Gradual, MaskPolicy, Remask, StepView};
pub use regrow::Exchanges;
pub use reselect::Reselect;
pub use rigl::Rigl;
pub use set::Set;

/// When weights are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// All at once, then retrain.
    #[default]
    OneShot,
    /// In rounds that each keep the same fraction of what is left, with retraining after each.
    Iterative {
        /// Number of rounds, at least 1.
        #[serde(default = "rounds")]
        rounds: u32,
    },
    /// Along a [`Cubic`] ramp during one training.
    Cubic {
        /// Where the ramp starts, as a fraction of all steps.
        #[serde(default = "start")]
        start: f64,
        /// Where the ramp ends, as a fraction of all steps.
        #[serde(default = "end")]
        end: f64,
        /// Steps between two removals, at least 1.
        #[serde(default = "every_steps")]
        every_steps: u64,
    },
    /// [`AcDc`]: sparse and dense phases in turns, the last one sparse. Lengths are fractions of all steps.
    AcDc {
        /// Dense training before the first sparse phase.
        #[serde(default = "warm_up")]
        warm_up: f64,
        /// Length of each phase after that.
        #[serde(default = "phase")]
        phase: f64,
        /// Length of the last, sparse phase.
        #[serde(default = "last")]
        last: f64,
    },
    /// [`Rigl`]: cut at the start, then exchange small weights for those with a large gradient.
    Rigl(Exchange),
    /// [`Set`]: cut at the start, then exchange small weights for random ones.
    Set(Exchange),
    /// [`Reselect`]: the largest of the hidden weights are chosen again and again; goes with the parameterisation `sr_ste`.
    Reselect {
        /// Steps between two choices, at least 1.
        #[serde(default = "reselect_every")]
        every_steps: u64,
        /// Where the choices end, as a fraction of all steps: the rest of the training keeps its masks.
        #[serde(default = "end")]
        end: f64,
    },
}

/// How weights are exchanged during a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exchange {
    /// Steps between two exchanges, at least 1.
    pub every_steps: u64,
    /// Share of each layer's kept weights that an exchange moves, in `(0, 1]`; [`Rigl`] lowers it on the way.
    pub fraction: f64,
    /// Where the exchanges end, as a fraction of all steps.
    pub end: f64,
}

impl Exchange {
    const DEFAULT: Exchange = Exchange { every_steps: EXCHANGE_EVERY, fraction: FRACTION, end: END };
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange::DEFAULT
    }
}

const ROUNDS: u32 = 3;
const START: f64 = 0.1;
const END: f64 = 0.75;
/// The paper cuts every 100 to 1,000 steps of long trainings; here a retraining may have a few hundred steps in all, and a ramp
/// of two cuts would be none.
const EVERY_STEPS: u64 = 10;
const WARM_UP: f64 = 0.1;
const PHASE: f64 = 0.05;
const LAST: f64 = 0.25;
/// The papers exchange every 100 steps of long trainings; here a training may have a few hundred steps in all.
const EXCHANGE_EVERY: u64 = 20;
/// As in the paper, which chooses in every forward pass.
const RESELECT_EVERY: u64 = 1;
const FRACTION: f64 = 0.3;

fn warm_up() -> f64 {
    WARM_UP
}
fn phase() -> f64 {
    PHASE
}
fn last() -> f64 {
    LAST
}

fn rounds() -> u32 {
    ROUNDS
}
fn start() -> f64 {
    START
}
fn end() -> f64 {
    END
}
fn every_steps() -> u64 {
    EVERY_STEPS
}
fn reselect_every() -> u64 {
    RESELECT_EVERY
}

impl Schedule {
    /// Rounds with the default settings.
    pub const ITERATIVE: Schedule = Schedule::Iterative { rounds: ROUNDS };
    /// A cubic ramp with the default settings.
    pub const CUBIC: Schedule = Schedule::Cubic { start: START, end: END, every_steps: EVERY_STEPS };
    /// Alternating phases with the default settings.
    pub const AC_DC: Schedule = Schedule::AcDc { warm_up: WARM_UP, phase: PHASE, last: LAST };
    /// Exchanges by gradient with the default settings.
    pub const RIGL: Schedule = Schedule::Rigl(Exchange::DEFAULT);
    /// Random exchanges with the default settings.
    pub const SET: Schedule = Schedule::Set(Exchange::DEFAULT);

    /// Choices by magnitude with the default settings.
    pub const RESELECT: Schedule = Schedule::Reselect { every_steps: RESELECT_EVERY, end: END };

    /// Whether the masks change between trainings only.
    pub fn in_rounds(&self) -> bool {
        matches!(self, Schedule::OneShot | Schedule::Iterative { .. })
    }

    /// Whether weights are removed before the training; otherwise they are removed during it.
    pub fn cuts_first(&self) -> bool {
        !matches!(self, Schedule::Cubic { .. } | Schedule::AcDc { .. } | Schedule::Reselect { .. })
    }

    /// Whether a removed weight may return.
    pub fn regrows(&self) -> bool {
        !(self.in_rounds() || matches!(self, Schedule::Cubic { .. }))
    }

    /// What changes the masks during a training, if anything does.
    ///
    /// * `pruner`: what is removed; its seed is also that of random growth.
    /// * `from`, `to`: density before the training and at its end, in `(0, 1]`.
    /// * `steps`: optimiser steps of the whole training.
    pub fn policy<'a>(
        &self,
        pruner: &'a Pruner<'a>,
        [from, to]: [f64; 2],
        steps: u64,
    ) -> Option<Box<dyn MaskPolicy + 'a>> {
        let final_step = steps.saturating_sub(1);
        let at = |share: f64| (share * final_step as f64).round() as u64;
        let exchanges =
            |e: Exchange| Exchanges { every_steps: e.every_steps, end: (e.end * steps as f64).round() as u64 };
        Some(match *self {
            Schedule::OneShot | Schedule::Iterative { .. } => return None,
            Schedule::Cubic { start, end, every_steps } => {
                let ramp = Cubic { from: 1.0 - from, to: 1.0 - to, start: at(start), span: at(end) - at(start) };
                Box::new(Gradual { ramp, every_steps, pruner })
            }
            Schedule::AcDc { warm_up, phase, last } => {
                let (warm_up, phase, last) = (at(warm_up), at(phase).max(1), at(1.0 - last));
                Box::new(AcDc { pruner, density: to, warm_up, phase, last })
            }
            Schedule::Rigl(settings) => {
                Box::new(Rigl { pruner, exchanges: exchanges(settings), fraction: settings.fraction })
            }
            Schedule::Set(settings) => {
                Box::new(Set { pruner, exchanges: exchanges(settings), fraction: settings.fraction })
            }
            Schedule::Reselect { every_steps, end } => {
                Box::new(Reselect { pruner, density: to, every_steps, end: at(end) })
            }
        })
    }

    /// Density after each round, on the way from `from` to `to`; a cubic ramp counts as one round.
    ///
    /// Rounds are geometric: each keeps the same fraction of what the one before left. The last is `to` exactly.
    pub fn rounds(&self, from: f64, to: f64) -> Vec<f64> {
        let rounds = if let Schedule::Iterative { rounds } = self { *rounds } else { 1 };
        let density = |r: u32| if r == rounds { to } else { from * (to / from).powf(f64::from(r) / f64::from(rounds)) };
        (1..=rounds).map(density).collect()
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let error = |why: &str| Err(ConfigError { key: "schedule", why: why.into() });
        match *self {
            Schedule::Iterative { rounds: 0 } => error("iterative needs at least 1 round"),
            Schedule::Cubic { every_steps: 0, .. } => error("every_steps must be at least 1"),
            Schedule::Reselect { every_steps: 0, .. } => error("every_steps must be at least 1"),
            Schedule::Reselect { end, .. } if !(0.0..=1.0).contains(&end) => error("expected end in [0, 1]"),
            Schedule::Cubic { start, end, .. } if !(0.0 <= start && start < end && end <= 1.0) => {
                error("expected 0 <= start < end <= 1")
            }
            Schedule::AcDc { warm_up, phase, last }
                if !(warm_up >= 0.0 && phase > 0.0 && last > 0.0 && warm_up + last <= 1.0) =>
            {
                error("ac_dc expects warm_up >= 0, phase > 0, last > 0 and warm_up + last <= 1")
            }
            Schedule::Rigl(Exchange { every_steps, fraction, end })
            | Schedule::Set(Exchange { every_steps, fraction, end }) => match every_steps {
                0 => error("every_steps must be at least 1"),
                _ if fraction > 0.0 && fraction <= 1.0 && (0.0..=1.0).contains(&end) => Ok(()),
                _ => error("expected fraction in (0, 1] and end in [0, 1]"),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
