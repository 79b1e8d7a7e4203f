//! The `[train]` table of a recipe.

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_amount, name_or_table, require};

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training split, at least 1.
    pub epochs: u64,
    /// Samples per step; the last, short batch of an epoch is left out.
    pub batch_size: usize,
    /// `"sgd"` or `"adamw"`, with settings if wanted.
    #[serde(deserialize_with = "name_or_table::read")]
    pub optimizer: OptimizerConfig,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How the learning rate falls: `"cosine"`, `"step"` or `"constant"`.
    #[serde(deserialize_with = "name_or_table::read")]
    pub schedule: LearningRateSchedule,
    /// Epochs of linear warm-up before the schedule starts; may be a fraction.
    pub warmup_epochs: f64,
    /// Epochs left out at the beginning of warm-up and schedule: training runs the last `epochs` of
    /// `skip_epochs + epochs`. Learning-rate rewinding sets this.
    pub skip_epochs: u64,
    /// Where the cosine ends; a lower bound for the step schedule.
    pub min_learning_rate: f64,
    /// L2 coefficient lambda of `lambda * |w|^2 / 2` (SGD), or AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// L1 coefficient lambda of `lambda * |w|_1`, added to the gradient.
    pub l1: f64,
    /// Whether weight decay and L1 also act on biases and batch-norm scale and shift.
    pub decay_bias_and_norm: bool,
    /// Share of the target that is spread over all classes, in `[0, 1)`.
    pub label_smoothing: f64,
    /// Loss weight per class.
    pub class_weights: ClassWeights,
    /// Which epoch's weights are kept, judged on the validation split.
    pub select_by: SelectBy,
    /// Random variation of the training images.
    pub augment: AugmentConfig,
    /// Seed of data order, augmentation and dropout.
    pub seed: u64,
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Share of the last step that is repeated, in `[0, 1)`.
        #[serde(default = "momentum")]
        momentum: f64,
        /// Look ahead along the momentum.
        #[serde(default = "yes")]
        nesterov: bool,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the first moment, in `[0, 1)`.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the second moment, in `[0, 1)`.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
    },
}

/// Learning rate as a function of the step, after warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LearningRateSchedule {
    /// Half a cosine from the peak to `min_learning_rate`.
    Cosine,
    /// Multiply by `gamma` after each milestone.
    Step {
        /// Epochs after which the rate falls, counted from the start.
        milestones: Vec<u64>,
        /// Factor per milestone, in `(0, 1]`.
        #[serde(default = "gamma")]
        gamma: f64,
    },
    /// The peak throughout.
    Constant,
}

/// Loss weight per class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every sample counts the same.
    #[default]
    None,
    /// Every class counts the same: `samples / (classes * samples of the class)`.
    Balanced,
}

/// What the best epoch has the best of, on the validation split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectBy {
    /// Fraction classified correctly.
    #[default]
    Accuracy,
    /// Mean of the per-class recalls.
    BalancedAccuracy,
    /// Mean cross-entropy, lower is better.
    Loss,
}

/// Random variation of training images; the default varies nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Mirror left and right in half of the cases.
    pub flip_horizontal: bool,
    /// Mirror top and bottom in half of the cases.
    pub flip_vertical: bool,
    /// Largest shift along each axis, in pixels.
    pub shift: usize,
    /// Largest brightness offset, as a fraction of full scale.
    pub brightness: f32,
    /// Largest relative contrast change.
    pub contrast: f32,
}

impl From<AugmentConfig> for sentei_data::Augment {
    fn from(c: AugmentConfig) -> Self {
        let AugmentConfig { flip_horizontal, flip_vertical, shift, brightness, contrast } = c;
        sentei_data::Augment { flip_horizontal, flip_vertical, shift, brightness, contrast }
    }
}

fn momentum() -> f64 {
    0.9
}
fn yes() -> bool {
    true
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}
fn eps() -> f64 {
    1e-8
}
fn gamma() -> f64 {
    0.1
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::Sgd { momentum: momentum(), nesterov: true }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            epochs: 30,
            batch_size: 64,
            optimizer: OptimizerConfig::default(),
            learning_rate: 0.05,
            schedule: LearningRateSchedule::Cosine,
            warmup_epochs: 1.0,
            skip_epochs: 0,
            min_learning_rate: 0.0,
            weight_decay: 5e-4,
            l1: 0.0,
            decay_bias_and_norm: false,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            select_by: SelectBy::Accuracy,
            augment: AugmentConfig::default(),
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Checks ranges that the types do not hold.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first key out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let is_share = |v: f64| (0.0..1.0).contains(&v);
        require(self.epochs > 0, "epochs", || "expected at least 1, found 0".into())?;
        require(self.batch_size > 0, "batch_size", || "expected at least 1, found 0".into())?;
        let rate = self.learning_rate;
        require(is_amount(rate) && rate > 0.0, "learning_rate", || format!("expected more than 0, found {rate}"))?;
        let amounts = [
            ("warmup_epochs", self.warmup_epochs),
            ("min_learning_rate", self.min_learning_rate),
            ("weight_decay", self.weight_decay),
            ("l1", self.l1),
        ];
        for (key, value) in amounts {
            require(is_amount(value), key, || format!("expected at least 0, found {value}"))?;
        }
        let smoothing = self.label_smoothing;
        require(is_share(smoothing), "label_smoothing", || format!("expected [0, 1), found {smoothing}"))?;
        let (decays, eps) = match self.optimizer {
            OptimizerConfig::Sgd { momentum, .. } => ([momentum, 0.0], 1.0),
            OptimizerConfig::AdamW { beta1, beta2, eps } => ([beta1, beta2], eps),
        };
        require(decays.into_iter().all(is_share), "optimizer", || "momentum and betas must be in [0, 1)".into())?;
        require(eps.is_finite() && eps > 0.0, "optimizer", || format!("eps must be more than 0, found {eps}"))?;
        if let LearningRateSchedule::Step { gamma, .. } = self.schedule {
            require(gamma > 0.0 && gamma <= 1.0, "schedule", || format!("gamma must be in (0, 1], found {gamma}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<TrainConfig, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn an_enum_may_be_a_name_or_a_table() {
        assert_eq!(parse(r#"{"optimizer": "sgd"}"#).unwrap(), TrainConfig::default());
        let slow = parse(r#"{"optimizer": {"sgd": {"momentum": 0.5}}, "schedule": "constant"}"#).unwrap();
        assert_eq!(slow.optimizer, OptimizerConfig::Sgd { momentum: 0.5, nesterov: true });
        assert_eq!(slow.schedule, LearningRateSchedule::Constant);
        assert!(parse(r#"{"schedule": "step"}"#).unwrap_err().contains("milestones"));
        assert!(parse(r#"{"optimizer": "adam"}"#).unwrap_err().contains("adamw"));
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        assert!(parse(r#"{"epoch": 3}"#).unwrap_err().contains("`epoch`"));
        assert!(parse(r#"{"optimizer": {"sgd": {"beta1": 0.5}}}"#).unwrap_err().contains("`beta1`"));
        assert!(parse(r#"{"augment": {"rotate": 3}}"#).unwrap_err().contains("`rotate`"));
    }

    #[test]
    fn what_is_written_reads_back() {
        let adamw = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6 };
        let schedule = LearningRateSchedule::Step { milestones: vec![3, 9], gamma: 0.2 };
        let config = TrainConfig { optimizer: adamw, schedule, ..TrainConfig::default() };
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn values_out_of_range_name_their_key() {
        let key = |c: TrainConfig| c.check().unwrap_err().key;
        assert_eq!(key(TrainConfig { epochs: 0, ..TrainConfig::default() }), "epochs");
        assert_eq!(key(TrainConfig { learning_rate: f64::NAN, ..TrainConfig::default() }), "learning_rate");
        assert_eq!(key(TrainConfig { label_smoothing: 1.0, ..TrainConfig::default() }), "label_smoothing");
        assert_eq!(TrainConfig::default().check(), Ok(()));
    }
}
