//! The methods of the papers, each a named combination of what a recipe can say anyway.
//!
//! A method sets start, score, schedule, parameterisation, rewinding and teacher, and distribution and granularity where the
//! paper fixes them. How far to prune, which layers take part and how to train stay as the recipe says; so do the settings of a schedule,
//! parameterisation or teacher that the recipe has chosen already.

use std::mem::discriminant;

use crate::Distill;
use crate::config::{Groups, PruneConfig, Retrain, Start};
use crate::distribution::Distribution;
use crate::granularity::Granularity;
use crate::parameterisation::{Ham, Parameterisation, SignIn, SrSte};
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
        config.retrain = Retrain { rewind: None, rewind_weights: false, ..config.retrain };
        config.distill = None;
        config.parameterisation = Parameterisation::Plain;
        (self.set)(&mut config);
        if discriminant(&config.schedule) == discriminant(&base.schedule) {
            config.schedule = base.schedule;
        }
        if discriminant(&config.parameterisation) == discriminant(&base.parameterisation) {
            config.parameterisation = base.parameterisation;
        }
        if config.distill.is_some() && base.distill.is_some() {
            config.distill = base.distill;
        }
        config
    }
}

/// Every method, in the order in which help lists them. `sr-init` is not here: it removes layers of the graph, not weights.
pub fn methods() -> &'static [Method] {
    METHODS
}

/// The method of that name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

#[rustfmt::skip] // One row per method.
const METHODS: &[Method] = &[
    Method { name: "magnitude", paper: "Han et al. 2015", set: |c| trained(c, Schedule::OneShot),
        about: "train, remove the smallest weights at once, retrain" },
    Method { name: "iterative", paper: "Han et al. 2015", set: |c| trained(c, Schedule::ITERATIVE),
        about: "train, remove the smallest weights in rounds, retrain after each" },
    Method { name: "gmp", paper: "Zhu & Gupta 2017", set: |c| trained(c, Schedule::CUBIC),
        about: "train, remove the smallest weights along a cubic ramp while retraining" },
    Method { name: "n-m", paper: "Mishra et al. 2021", set: |c| { trained(c, Schedule::OneShot); pattern(c); c.retrain.rewind = Some(1.0); },
        about: "train, keep the 2 largest of every 4 weights along the input channels, repeat the training; takes no density" },
    Method { name: "lr-rewind", paper: "Renda et al. 2020", set: |c| { trained(c, Schedule::OneShot); c.retrain.rewind = Some(0.4); },
        about: "magnitude, but retraining replays the last 40 % of training with its learning rates" },
    Method { name: "weight-rewind", paper: "Frankle & Carbin 2019", set: |c| { trained(c, Schedule::OneShot); rewind(c); },
        about: "magnitude, then survivors go back to their initial values and train for the whole budget" },
    Method { name: "lottery", paper: "Frankle & Carbin 2019", set: |c| { trained(c, Schedule::ITERATIVE); rewind(c); },
        about: "weight-rewind in rounds; each costs a whole training" },
    Method { name: "distill", paper: "Hinton et al. 2015", set: |c| { trained(c, Schedule::CUBIC); c.distill = Some(Distill::default()); },
        about: "gmp with the dense network as teacher" },
    Method { name: "lomp", paper: "Zhang et al. 2024", set: |c| { trained(c, Schedule::OneShot); c.distribution = Distribution::Global { floor: 0.0 }; c.retrain.epochs = 0; },
        about: "one global cut of a network trained with L1 ([train] l1, weight_decay = 0), no retraining" },
    Method { name: "random-uniform", paper: "Frankle et al. 2021", set: |c| fresh(c, ScoreConfig::Random, Distribution::Uniform),
        about: "remove initial weights at random, the same share of every layer, train the rest" },
    Method { name: "random-erk", paper: "Evci et al. 2020", set: |c| fresh(c, ScoreConfig::Random, Distribution::Erk),
        about: "remove initial weights at random, more of them in large layers, train the rest" },
    Method { name: "magnitude-init", paper: "Frankle et al. 2021", set: |c| fresh(c, ScoreConfig::Magnitude, global(&c.distribution)),
        about: "remove the smallest initial weights, train the rest" },
    Method { name: "snip", paper: "Lee et al. 2019", set: |c| fresh(c, ScoreConfig::SNIP, global(&c.distribution)),
        about: "keep initial weights whose scaling would change the loss, train them" },
    Method { name: "grasp", paper: "Wang et al. 2020", set: |c| fresh(c, ScoreConfig::GRASP, global(&c.distribution)),
        about: "keep initial weights that keep the gradient up, train them" },
    Method { name: "grasp-abs", paper: "Frankle et al. 2021", set: |c| fresh(c, ScoreConfig::GRASP_ABSOLUTE, global(&c.distribution)),
        about: "grasp by the size of its score, whatever the sign" },
    Method { name: "synflow", paper: "Tanaka et al. 2020", set: |c| fresh(c, ScoreConfig::SYNFLOW, global(&c.distribution)),
        about: "keep initial weights that much flow goes through, chosen in 100 rounds without images, train them" },
    Method { name: "ac-dc", paper: "Peste et al. 2021", set: |c| dynamic(c, ScoreConfig::Magnitude, global(&c.distribution), Schedule::AC_DC),
        about: "train from initial weights in dense and sparse phases in turns, the last one sparse" },
    Method { name: "sr-ste", paper: "Zhou et al. 2021", set: |c| { dynamic(c, ScoreConfig::Magnitude, global(&c.distribution), Schedule::RESELECT); pattern(c); c.parameterisation = sr_ste(); },
        about: "train from initial weights through a 2:4 mask chosen anew at every step, removed weights train on unseen; takes no density" },
    Method { name: "rigl", paper: "Evci et al. 2020", set: |c| dynamic(c, ScoreConfig::Random, Distribution::Erk, Schedule::RIGL),
        about: "random-erk, then exchange small weights for those with a large gradient while training" },
    Method { name: "set", paper: "Mocanu et al. 2018", set: |c| dynamic(c, ScoreConfig::Random, Distribution::Erk, Schedule::SET),
        about: "random-erk, then exchange small weights for random ones while training" },
    Method { name: "sign-in", paper: "Gadhikar et al. 2025", set: |c| { fresh(c, ScoreConfig::Random, Distribution::Erk); c.parameterisation = sign_in(); },
        about: "random-erk, each weight trained as a product of two factors" },
    Method { name: "ham", paper: "Jacobs et al. 2026", set: |c| { fresh(c, ScoreConfig::Random, Distribution::Erk); c.parameterisation = ham(); },
        about: "random-erk, each step followed by a multiplicative one" },
    Method { name: "sign-in-rigl", paper: "Gadhikar et al. 2025", set: |c| { dynamic(c, ScoreConfig::Random, Distribution::Erk, Schedule::RIGL); c.parameterisation = sign_in(); },
        about: "rigl, each weight trained as a product of two factors" },
];

/// Magnitudes of a trained network.
fn trained(config: &mut PruneConfig, schedule: Schedule) {
    config.start = Start::Trained;
    config.score = ScoreConfig::Magnitude;
    config.schedule = schedule;
    if !schedule.in_rounds() {
        config.groups = Groups::All;
    }
}

/// 2:4, or the recipe's own N:M. The pattern decides how much each layer keeps.
fn pattern(config: &mut PruneConfig) {
    config.distribution = global(&config.distribution);
    if !matches!(config.granularity, Granularity::NM { .. }) {
        config.granularity = Granularity::TWO_OF_FOUR;
    }
}

/// Survivors go back to their initial values and train as the dense network did.
fn rewind(config: &mut PruneConfig) {
    config.retrain = Retrain { rewind: Some(1.0), rewind_weights: true, ..config.retrain.clone() };
}

/// One cut of a network with initial weights.
fn fresh(config: &mut PruneConfig, score: ScoreConfig, distribution: Distribution) {
    dynamic(config, score, distribution, Schedule::OneShot);
}

/// Sparse training of a network with initial weights; what compares with a trained one has no place in it.
fn dynamic(config: &mut PruneConfig, score: ScoreConfig, distribution: Distribution, schedule: Schedule) {
    config.start = Start::Fresh;
    config.score = score;
    config.distribution = distribution;
    config.schedule = schedule;
    config.groups = Groups::All;
    config.error_budget_points = None;
}

/// One ranking over all layers, with the recipe's own floor if it has one.
fn global(own: &Distribution) -> Distribution {
    if matches!(own, Distribution::Global { .. }) { own.clone() } else { Distribution::default() }
}

fn sign_in() -> Parameterisation {
    Parameterisation::SignIn(SignIn::default())
}

fn ham() -> Parameterisation {
    Parameterisation::Ham(Ham::default())
}

fn sr_ste() -> Parameterisation {
    Parameterisation::SrSte(SrSte::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_method_is_a_valid_configuration_that_keeps_the_sparsity() {
        let alternating =
            PruneConfig { groups: Groups::Alternate, error_budget_points: Some(1.0), ..PruneConfig::default() };
        for (i, method) in METHODS.iter().enumerate() {
            assert!(METHODS[..i].iter().all(|m| m.name != method.name), "{}", method.name);
            for base in [PruneConfig::default(), alternating.clone()] {
                let mut base = PruneConfig { sparsity: Some(0.8), prune_first: false, ..base };
                if ["n-m", "sr-ste"].contains(&method.name) {
                    assert_eq!(method.configure(&base).check().unwrap_err().key, "sparsity", "the pattern says it");
                    base.sparsity = None;
                }
                let config = method.configure(&base);
                assert_eq!(config.check(), Ok(()), "{}", method.name);
                assert_eq!((config.sparsity, config.prune_first), (base.sparsity, false), "{}", method.name);
                assert_eq!(method.configure(&config), config, "{} is idempotent", method.name);
            }
        }
        assert!(method("no-such-method").is_none());
    }

    #[test]
    fn a_method_forgets_another_and_keeps_settings_of_its_own_kind() {
        let base = PruneConfig::default();
        let after = method("sign-in-rigl").unwrap().configure(&method("lottery").unwrap().configure(&base));
        assert_eq!(method("magnitude").unwrap().configure(&after).retrain, base.retrain);
        let ramp = Schedule::Cubic { start: 0.0, end: 0.6, every_steps: 25 };
        let own = PruneConfig { schedule: ramp, ..base };
        assert_eq!(method("gmp").unwrap().configure(&own).schedule, ramp);
        assert_eq!(method("rigl").unwrap().configure(&own).schedule, Schedule::RIGL);
    }
}
