//! The methods of the papers, each a named combination of what a recipe can say anyway.
//!
//! A method sets score, start, schedule and, where the paper fixes it, distribution. How far to prune, which layers take
//! part and how to train stay as the recipe says.

use crate::config::{PruneConfig, Start};
use crate::distribution::Distribution;
use crate::parameterisation::{Ham, Parameterisation, SignIn};
use crate::schedule::Schedule;
use crate::score::ScoreConfig;

/// A named combination.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Name on the command line, in sweeps and in tables.
    pub name: &'static str,
    /// What it does, one line.
    pub about: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    set: fn(&mut PruneConfig),
}

impl Method {
    /// `base` with everything set that makes up the method; the rest stays as it is.
    pub fn configure(&self, base: &PruneConfig) -> PruneConfig {
        let mut config = base.clone();
        (self.set)(&mut config);
        config
    }
}

/// Every method, in the order in which help lists them.
pub fn methods() -> &'static [Method] {
    METHODS
}

/// The method of that name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

const METHODS: &[Method] = &[
    Method {
        name: "magnitude",
        about: "train, remove the smallest weights at once, retrain",
        paper: "Han et al. 2015",
        set: |c| trained(c, Schedule::OneShot),
    },
    Method {
        name: "iterative",
        about: "train, then remove the smallest weights in rounds with retraining after each",
        paper: "Han et al. 2015",
        set: |c| trained(c, iterative(c.schedule)),
    },
    Method {
        name: "gmp",
        about: "train, then remove the smallest weights bit by bit along a cubic ramp while retraining",
        paper: "Zhu & Gupta 2017",
        set: |c| trained(c, cubic(c.schedule)),
    },
    Method {
        name: "magnitude-init",
        about: "remove the smallest initial weights, train the rest",
        paper: "Frankle et al. 2021",
        set: |c| fresh(c, ScoreConfig::Magnitude, global(&c.distribution)),
    },
    Method {
        name: "snip",
        about: "keep the initial weights whose scaling would change the loss, train them",
        paper: "Lee et al. 2019",
        set: |c| fresh(c, ScoreConfig::SNIP, global(&c.distribution)),
    },
    Method {
        name: "grasp",
        about: "keep the initial weights that keep the gradient up, train them",
        paper: "Wang et al. 2020",
        set: |c| fresh(c, ScoreConfig::GRASP, global(&c.distribution)),
    },
    Method {
        name: "grasp-abs",
        about: "keep the initial weights that change the gradient most, either way, train them",
        paper: "Frankle et al. 2021",
        set: |c| fresh(c, ScoreConfig::GRASP_ABSOLUTE, global(&c.distribution)),
    },
    Method {
        name: "synflow",
        about: "keep the initial weights that the flow goes through, found in 100 rounds without data, train them",
        paper: "Tanaka et al. 2020",
        set: |c| fresh(c, ScoreConfig::SYNFLOW, global(&c.distribution)),
    },
    Method {
        name: "random-uniform",
        about: "remove initial weights at random, the same share of every layer, train the rest",
        paper: "Frankle et al. 2021",
        set: |c| fresh(c, ScoreConfig::Random, Distribution::Uniform),
    },
    Method {
        name: "random-erk",
        about: "remove initial weights at random, more from large layers, train the rest",
        paper: "Evci et al. 2020; Gadhikar et al. 2023",
        set: |c| fresh(c, ScoreConfig::Random, Distribution::Erk),
    },
    Method {
        name: "sign-in",
        about: "random-erk with every weight as the product of two trained factors",
        paper: "Gadhikar et al. 2025",
        set: |c| {
            fresh(c, ScoreConfig::Random, Distribution::Erk);
            if !matches!(c.parameterisation, Parameterisation::SignIn(_)) {
                c.parameterisation = Parameterisation::SignIn(SignIn::default());
            }
        },
    },
    Method {
        name: "ham",
        about: "random-erk with a multiplicative step after each ordinary one",
        paper: "Jacobs et al. 2026",
        set: |c| {
            fresh(c, ScoreConfig::Random, Distribution::Erk);
            if !matches!(c.parameterisation, Parameterisation::Ham(_)) {
                c.parameterisation = Parameterisation::Ham(Ham::default());
            }
        },
    },
];

/// Magnitudes of a trained network.
fn trained(config: &mut PruneConfig, schedule: Schedule) {
    config.start = Start::Trained;
    config.score = ScoreConfig::Magnitude;
    config.schedule = schedule;
}

/// One cut of a network with initial weights.
fn fresh(config: &mut PruneConfig, score: ScoreConfig, distribution: Distribution) {
    config.start = Start::Fresh;
    config.score = score;
    config.distribution = distribution;
    config.schedule = Schedule::OneShot;
}

/// The recipe's own floor, if it ranks globally.
fn global(base: &Distribution) -> Distribution {
    if matches!(base, Distribution::Global { .. }) { base.clone() } else { Distribution::default() }
}

/// The recipe's own rounds, if it has any.
fn iterative(base: Schedule) -> Schedule {
    if matches!(base, Schedule::Iterative { .. }) { base } else { Schedule::ITERATIVE }
}

/// The recipe's own ramp, if it has one.
fn cubic(base: Schedule) -> Schedule {
    if matches!(base, Schedule::Cubic { .. }) { base } else { Schedule::CUBIC }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_method_is_a_valid_configuration_that_keeps_the_sparsity() {
        for (i, method) in METHODS.iter().enumerate() {
            assert!(METHODS[..i].iter().all(|m| m.name != method.name), "{}", method.name);
            let base = PruneConfig { sparsity: Some(0.8), prune_first: false, ..PruneConfig::default() };
            let config = method.configure(&base);
            assert_eq!(config.check(), Ok(()), "{}", method.name);
            assert_eq!((config.sparsity, config.prune_first), (Some(0.8), false), "{}", method.name);
            assert_eq!(method.configure(&config), config, "{} is idempotent", method.name);
        }
        assert!(method("no-such-method").is_none());
    }
}
