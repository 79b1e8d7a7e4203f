//! Schedule: which density holds when.

mod cubic;
mod gradual;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

pub use cubic::Cubic;
pub use gradual::{Gradual, MaskPolicy, Remask, StepView};

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
}

const ROUNDS: u32 = 3;
const START: f64 = 0.1;
const END: f64 = 0.75;
const EVERY_STEPS: u64 = 100;

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

impl Schedule {
    /// Rounds with the default settings.
    pub const ITERATIVE: Schedule = Schedule::Iterative { rounds: ROUNDS };
    /// A cubic ramp with the default settings.
    pub const CUBIC: Schedule = Schedule::Cubic { start: START, end: END, every_steps: EVERY_STEPS };

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
            Schedule::Cubic { start, end, .. } if !(0.0 <= start && start < end && end <= 1.0) => {
                error("expected 0 <= start < end <= 1")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_keep_the_same_fraction_each_and_end_exactly() {
        let densities = Schedule::Iterative { rounds: 3 }.rounds(1.0, 0.001);
        for (found, expected) in densities.iter().zip([0.1, 0.01, 0.001]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert_eq!(densities[2], 0.001);
        assert_eq!(Schedule::OneShot.rounds(1.0, 0.3), [0.3]);
    }

    #[test]
    fn ramps_that_run_backwards_are_refused() {
        assert!(Schedule::Cubic { start: 0.8, end: 0.2, every_steps: 1 }.check().is_err());
        assert!(Schedule::Iterative { rounds: 0 }.check().is_err());
        assert_eq!(Schedule::Cubic { start: 0.0, end: 1.0, every_steps: 1 }.check(), Ok(()));
    }
}
