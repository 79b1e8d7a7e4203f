//! The `[prune]` table of a recipe.

use sentei_graph::Graph;
use serde::{Deserialize, Serialize};

use super::{ConfigError, LearningRateSchedule, TrainConfig, is_amount, name_or_table, require};
use crate::distill::Distill;
use crate::distribution::{Collapse, Distribution};
use crate::granularity::Granularity;
use crate::layers::{PrunableSet, prunable_layers};
use crate::masks::MaskError;
use crate::parameterisation::Parameterisation;
use crate::schedule::Schedule;
use crate::score::ScoreConfig;

/// What is pruned, how far, when, and how the rest is retrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PruneConfig {
    /// Which network the pruning starts from.
    pub start: Start,
    /// Which weights matter: `"magnitude"`, `"random"`, or a table with settings.
    #[serde(deserialize_with = "name_or_table::read")]
    pub score: ScoreConfig,
    /// Removed fraction of the prunable weights, in `[0, 1)`; 0.9 when absent.
    /// Must be absent with `per_layer`, `std_threshold` and `n_m`, which imply it.
    pub sparsity: Option<f64>,
    /// How much each layer keeps: `"global"`, `"uniform"`, `"uniform_plus"`, `"erk"`, `per_layer` or `std_threshold`.
    #[serde(deserialize_with = "name_or_table::read")]
    pub distribution: Distribution,
    /// What is removed together: `"unstructured"`, `{ n_m = { n = 2, m = 4 } }` or `{ block = { rows = 4 } }`.
    #[serde(deserialize_with = "name_or_table::read")]
    pub granularity: Granularity,
    /// What happens when a layer would keep nothing: `"refuse"` (an error) or `"allow"` (reported).
    pub collapse: Collapse,
    /// When weights are removed: `"one_shot"`, `"iterative"`, `"cubic"`, `"ac_dc"`, `"rigl"`, `"set"` or `"reselect"`.
    #[serde(deserialize_with = "name_or_table::read")]
    pub schedule: Schedule,
    /// What the optimiser moves in place of the weights: `"plain"`, `"sign_in"`, `"ham"` or `"sr_ste"`.
    #[serde(deserialize_with = "name_or_table::read")]
    pub parameterisation: Parameterisation,
    /// Training after each removal; survivors keep their values.
    pub retrain: Retrain,
    /// Whether the first layer is pruned too.
    pub prune_first: bool,
    /// Whether the last layer, the classifier, is pruned too.
    pub prune_last: bool,
    /// Whether depthwise convolutions are pruned too; they are small and sensitive.
    pub prune_depthwise: bool,
    /// Whether dropout rates shrink with the square root of a layer's density while retraining.
    pub adjust_dropout: bool,
    /// Lets the trained network teach the pruned one while that trains.
    pub distill: Option<Distill>,
    /// Which layers are pruned and retrained together.
    pub groups: Groups,
    /// Largest loss of validation accuracy, in percentage points; a round that loses more is undone and ends the pruning.
    pub error_budget_points: Option<f64>,
}

/// Which network the pruning starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A trained one: removal, then the training of [`Retrain`].
    #[default]
    Trained,
    /// One with initial weights: removal, then the whole `[train]` budget under the masks; [`Retrain`] does not matter.
    Fresh,
}

/// Which layers are pruned and retrained together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// All of them.
    #[default]
    All,
    /// In each round first the linear layers, then the convolutions; the other group is frozen meanwhile.
    Alternate,
}

/// What retraining takes instead of the recipe's `[train]` table. The rest stays as it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrain {
    /// Epochs after each round; with `cubic`, epochs in all. 0 prunes without retraining.
    pub epochs: u64,
    /// Times the learning rate of training.
    pub learning_rate_factor: f64,
    /// Schedule of the learning rate; absent = as in training.
    #[serde(deserialize_with = "optional_schedule")]
    pub schedule: Option<LearningRateSchedule>,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Share of the training that is repeated, in `(0, 1]`: its last epochs with their learning rates. Takes the place of
    /// `epochs`, `learning_rate_factor`, `schedule` and `warmup_epochs` (Renda et al. 2020, arXiv:2003.02389).
    pub rewind: Option<f64>,
    /// Whether survivors go back to their initial values before retraining (Frankle & Carbin 2019, arXiv:1803.03635).
    pub rewind_weights: bool,
    /// Penalty; absent = as in training.
    pub regulariser: Option<Regulariser>,
}

/// A penalty on the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regulariser {
    /// `lambda * |w|_1`: better before retraining.
    L1(f64),
    /// `lambda * |w|^2 / 2`: better after retraining.
    L2(f64),
}

fn optional_schedule<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<LearningRateSchedule>, D::Error> {
    /// Takes the place of the schedule under `Option`, which knows nothing of names.
    #[derive(Deserialize)]
    struct Named(#[serde(deserialize_with = "name_or_table::read")] LearningRateSchedule);
    Ok(Option::<Named>::deserialize(from)?.map(|named| named.0))
}

impl Default for Retrain {
    fn default() -> Self {
        Retrain {
            epochs: 10,
            learning_rate_factor: 0.1,
            schedule: None,
            warmup_epochs: 0.0,
            rewind: None,
            rewind_weights: false,
            regulariser: None,
        }
    }
}

impl Default for PruneConfig {
    fn default() -> Self {
        PruneConfig {
            start: Start::Trained,
            score: ScoreConfig::default(),
            sparsity: None,
            distribution: Distribution::default(),
            granularity: Granularity::Unstructured,
            collapse: Collapse::default(),
            schedule: Schedule::default(),
            parameterisation: Parameterisation::Plain,
            retrain: Retrain::default(),
            prune_first: true,
            prune_last: true,
            prune_depthwise: false,
            adjust_dropout: true,
            distill: None,
            groups: Groups::All,
            error_budget_points: None,
        }
    }
}

impl Retrain {
    /// The training that follows a removal.
    pub fn train_config(&self, train: &TrainConfig) -> TrainConfig {
        let (weight_decay, l1) = match self.regulariser {
            None => (train.weight_decay, train.l1),
            Some(Regulariser::L1(lambda)) => (0.0, lambda),
            Some(Regulariser::L2(lambda)) => (lambda, 0.0),
        };
        if let Some(share) = self.rewind {
            let epochs = ((share * train.epochs as f64).round() as u64).clamp(1, train.epochs.max(1));
            let skip_epochs = train.skip_epochs + train.epochs.saturating_sub(epochs);
            return TrainConfig { epochs, skip_epochs, weight_decay, l1, ..train.clone() };
        }
        TrainConfig {
            epochs: self.epochs,
            skip_epochs: 0,
            learning_rate: train.learning_rate * self.learning_rate_factor,
            min_learning_rate: train.min_learning_rate * self.learning_rate_factor,
            schedule: self.schedule.clone().unwrap_or_else(|| train.schedule.clone()),
            warmup_epochs: self.warmup_epochs,
            weight_decay,
            l1,
            ..train.clone()
        }
    }
}

impl PruneConfig {
    /// Density to reach, in `(0, 1]`: that of the N:M pattern, else what the recipe says, else 0.1.
    pub fn density(&self) -> f64 {
        self.granularity.density().unwrap_or(self.sparsity.map_or(0.1, |s| 1.0 - s))
    }

    /// Whether the density is chosen from outside; otherwise granularity or distribution imply it.
    pub fn takes_a_target(&self) -> bool {
        self.granularity.density().is_none() && self.distribution.takes_a_target()
    }

    /// The training under the masks: all of `train` from fresh weights, else what [`PruneConfig::retrain`] makes of it.
    pub fn training(&self, train: &TrainConfig) -> TrainConfig {
        match self.start {
            Start::Fresh => train.clone(),
            Start::Trained => self.retrain.train_config(train),
        }
    }

    /// Whether a trained network must be there: to prune, or to teach.
    pub fn needs_trained(&self) -> bool {
        self.start == Start::Trained || self.distill.is_some()
    }

    /// Epochs of [`PruneConfig::training`] over all rounds and groups; groups without layers are counted too.
    pub fn training_epochs(&self, train: &TrainConfig) -> u64 {
        let groups = if self.groups == Groups::Alternate { 2 } else { 1 };
        self.training(train).epochs * self.schedule.rounds(1.0, 1.0).len() as u64 * groups
    }

    /// Whether the density leaves room for the floors under the layers of `graph` that take part: what can be told of a cut
    /// before anything is trained or scored.
    ///
    /// # Errors
    /// [`MaskError::Floor`] when it does not.
    pub fn check_floors(&self, graph: &Graph) -> Result<(), MaskError> {
        if !self.takes_a_target() {
            return Ok(());
        }
        let layers = prunable_layers(graph, self.prunable_set());
        let groups: Vec<usize> = layers.iter().map(|layer| self.granularity.groups(layer).len()).collect();
        self.distribution.check_floors(&groups, self.density())
    }

    /// Which layers take part.
    pub fn prunable_set(&self) -> PrunableSet {
        PrunableSet { first: self.prune_first, last: self.prune_last, depthwise: self.prune_depthwise }
    }

    /// Checks ranges and combinations that the types do not hold.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first key out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.granularity.check()?;
        if self.granularity.density().is_some() {
            let pattern = self.granularity;
            require(self.sparsity.is_none(), "sparsity", || {
                format!("granularity {pattern} says how much is kept; remove --sparsity or --density, or the pattern")
            })?;
            require(self.distribution.takes_a_target(), "distribution", || {
                format!("granularity {pattern} says how much each layer keeps; remove one of the two")
            })?;
            let exchanges = matches!(self.schedule, Schedule::Rigl(_) | Schedule::Set(_));
            require(!exchanges, "schedule", || {
                format!("rigl and set move weights all over a layer and would break {pattern}; ac_dc keeps to it")
            })?;
        }
        if let Some(sparsity) = self.sparsity {
            require((0.0..1.0).contains(&sparsity), "sparsity", || {
                let percent = if (1.0..100.0).contains(&sparsity) {
                    format!("; {sparsity} % is {}", sparsity / 100.0)
                } else {
                    String::new()
                };
                format!("expected a fraction in [0, 1), found {sparsity}{percent}")
            })?;
            require(self.distribution.takes_a_target(), "sparsity", || {
                "the distribution implies it; remove --sparsity or choose another".into()
            })?;
        }
        if let Distribution::StdThreshold { quality, layers, .. } = &self.distribution {
            let fine = is_amount(*quality) && layers.values().all(|q| is_amount(*q));
            require(fine, "distribution", || "qualities must be at least 0".into())?;
            let cuts_first = self.schedule.cuts_first();
            require(cuts_first, "schedule", || {
                "std_threshold has no target that it could approach in training".into()
            })?;
        }
        if self.distribution == Distribution::UniformPlus {
            let ends = self.prune_first && self.prune_last;
            require(ends, "distribution", || {
                "uniform_plus needs prune_first and prune_last: it rules both ends".into()
            })?;
        }
        self.score.check()?;
        self.schedule.check()?;
        self.parameterisation.check()?;
        let hidden = matches!(self.parameterisation, Parameterisation::SrSte(_));
        let reselects = matches!(self.schedule, Schedule::Reselect { .. });
        require(hidden || !reselects, "schedule", || {
            "reselect chooses among hidden weights: add parameterisation = \"sr_ste\" (--parameterisation sr_ste)"
                .into()
        })?;
        require(reselects || !hidden, "parameterisation", || {
            "sr_ste trains removed weights so that they can return: add schedule = \"reselect\" (--schedule reselect)"
                .into()
        })?;
        require(!reselects || self.score == ScoreConfig::Magnitude, "score", || {
            "reselect ranks hidden weights, which only score = \"magnitude\" looks at".into()
        })?;
        let rounds = self.schedule.in_rounds();
        let fresh = self.start == Start::Fresh;
        if fresh {
            let iterative = matches!(self.schedule, Schedule::Iterative { .. });
            require(!iterative, "schedule", || {
                "iterative retrains after each round: it needs start = \"trained\"".into()
            })?;
            require(self.groups == Groups::All, "groups", || {
                "alternate retrains: it needs start = \"trained\"".into()
            })?;
            let budget = self.error_budget_points.is_none();
            require(budget, "error_budget_points", || {
                "it compares with a trained network: start = \"trained\"".into()
            })?;
        }
        require(rounds || self.groups == Groups::All, "groups", || "alternate needs one_shot or iterative".into())?;
        if let Some(share) = self.retrain.rewind {
            require(share > 0.0 && share <= 1.0, "retrain.rewind", || format!("expected (0, 1], found {share}"))?;
        }
        if let Some(Distill { weight, temperature }) = self.distill {
            require(weight > 0.0 && weight <= 1.0, "distill.weight", || format!("expected (0, 1], found {weight}"))?;
            let fine = temperature.is_finite() && temperature > 0.0;
            require(fine, "distill.temperature", || format!("expected more than 0, found {temperature}"))?;
        }
        let trains = self.retrain.epochs > 0 || self.retrain.rewind.is_some();
        require(rounds || fresh || trains, "retrain.epochs", || {
            "this schedule changes the masks while it trains: at least 1".into()
        })?;
        let factor = self.retrain.learning_rate_factor;
        let fine = is_amount(factor) && factor > 0.0;
        require(fine, "retrain.learning_rate_factor", || format!("expected more than 0, found {factor}"))?;
        if let Some(Regulariser::L1(lambda) | Regulariser::L2(lambda)) = self.retrain.regulariser {
            require(is_amount(lambda), "retrain.regulariser", || format!("expected at least 0, found {lambda}"))?;
        }
        let budget = self.error_budget_points.unwrap_or(0.0);
        require(is_amount(budget), "error_budget_points", || format!("expected at least 0, found {budget}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PruneConfig, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_tables_give_the_same_choices() {
        let names = parse(r#"{"distribution": "global", "schedule": "iterative", "sparsity": 0.9}"#).unwrap();
        let tables = r#"{"distribution": {"global": {}}, "schedule": {"iterative": {"rounds": 3}}, "sparsity": 0.9}"#;
        assert_eq!(names, parse(tables).unwrap());
        assert_eq!(names.check(), Ok(()));
        let retrain = parse(r#"{"retrain": {"schedule": "constant", "regulariser": {"l1": 0.5}}}"#).unwrap().retrain;
        assert_eq!(retrain.schedule, Some(LearningRateSchedule::Constant));
        let train = retrain.train_config(&TrainConfig::default());
        assert_eq!((train.l1, train.weight_decay), (0.5, 0.0));
        assert!((train.learning_rate - 0.005).abs() < 1e-12);
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = PruneConfig {
            distribution: Distribution::PerLayer { densities: [("fc1".to_string(), 0.08)].into(), others: 0.5 },
            schedule: Schedule::Cubic { start: 0.1, end: 0.7, every_steps: 50 },
            ..PruneConfig::default()
        };
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn a_key_that_would_do_nothing_is_refused() {
        let threshold = parse(r#"{"distribution": "std_threshold", "sparsity": 0.9}"#).unwrap();
        assert_eq!(threshold.check().unwrap_err().key, "sparsity");
        let ramp = parse(r#"{"distribution": "std_threshold", "schedule": "cubic"}"#).unwrap();
        assert_eq!(ramp.check().unwrap_err().key, "schedule");
        assert!(parse(r#"{"distribution": {"global": {"flor": 0.1}}}"#).unwrap_err().contains("`flor`"));
    }

    #[test]
    fn percent_in_place_of_a_fraction_is_answered_with_the_fraction() {
        let why =
            |sparsity| PruneConfig { sparsity: Some(sparsity), ..PruneConfig::default() }.check().unwrap_err().why;
        assert_eq!(why(90.0), "expected a fraction in [0, 1), found 90; 90 % is 0.9");
        assert_eq!(why(f64::NAN), "expected a fraction in [0, 1), found NaN");
        assert_eq!(why(-0.5), "expected a fraction in [0, 1), found -0.5");
    }

    #[test]
    fn granularities_are_read_written_and_checked() {
        for (json, expected) in [
            (r#""unstructured""#, Granularity::Unstructured),
            (r#""n_m""#, Granularity::TWO_OF_FOUR),
            (r#"{"n_m": {"n": 1}}"#, Granularity::NM { n: 1, m: 4 }),
            (r#"{"block": {"rows": 8}}"#, Granularity::Block { rows: 8, columns: 1 }),
            (r#"{"block": {"rows": 1, "columns": 4}}"#, Granularity::Block { rows: 1, columns: 4 }),
            (r#""block""#, Granularity::Block { rows: 4, columns: 1 }),
        ] {
            let config = parse(&format!(r#"{{"granularity": {json}}}"#)).unwrap();
            assert_eq!((config.granularity, config.check()), (expected, Ok(())), "{json}");
            assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        }
        assert!(parse(r#"{"granularity": {"block": {"row": 4}}}"#).unwrap_err().contains("`row`"));
        for bad in [
            r#"{"n_m": {"n": 4, "m": 4}}"#,
            r#"{"n_m": {"n": 0}}"#,
            r#"{"block": {"rows": 1}}"#,
            r#"{"block": {"columns": 0}}"#,
        ] {
            let config = parse(&format!(r#"{{"granularity": {bad}}}"#)).unwrap();
            assert_eq!(config.check().unwrap_err().key, "granularity", "{bad}");
        }
    }

    #[test]
    fn a_pattern_takes_no_target_no_table_and_no_exchanges() {
        let with = |rest: &str| parse(&format!(r#"{{"granularity": "n_m", {rest}}}"#)).unwrap().check();
        let error = with(r#""sparsity": 0.5"#).unwrap_err();
        assert!(error.key == "sparsity" && error.why.contains("2:4") && error.why.contains("--sparsity"), "{error}");
        assert_eq!(with(r#""distribution": "std_threshold""#).unwrap_err().key, "distribution");
        for schedule in ["rigl", "set"] {
            assert_eq!(with(&format!(r#""schedule": "{schedule}""#)).unwrap_err().key, "schedule");
        }
        for schedule in ["one_shot", "iterative", "cubic", "ac_dc"] {
            assert_eq!(with(&format!(r#""schedule": "{schedule}""#)), Ok(()));
        }
        let config = parse(r#"{"granularity": {"n_m": {"n": 1}}}"#).unwrap();
        assert_eq!((config.density(), config.takes_a_target()), (0.25, false));
    }

    #[test]
    fn reselection_needs_hidden_weights_magnitudes_and_the_other_way_round() {
        let key = |json: &str| parse(json).unwrap().check().map_err(|e| e.key);
        assert_eq!(key(r#"{"schedule": "reselect", "parameterisation": "sr_ste"}"#), Ok(()));
        assert_eq!(key(r#"{"schedule": "reselect"}"#), Err("schedule"));
        assert_eq!(key(r#"{"parameterisation": "sr_ste"}"#), Err("parameterisation"));
        assert_eq!(key(r#"{"schedule": "reselect", "parameterisation": "sr_ste", "score": "random"}"#), Err("score"));
        let backwards = r#"{"schedule": {"reselect": {"end": 1.5}}, "parameterisation": "sr_ste"}"#;
        assert_eq!(key(backwards), Err("schedule"));
    }
}
