//! What a recipe says about training and pruning. Every struct refuses unknown keys and has a default for each key.

mod name_or_table;
mod prune;
mod train;

pub use prune::{Groups, PruneConfig, Regulariser, Retrain, Start};
pub use train::{AugmentConfig, ClassWeights, LearningRateSchedule, OptimizerConfig, SelectBy, TrainConfig};

/// A value in a recipe that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {why}")]
pub struct ConfigError {
    /// Key in the recipe.
    pub key: &'static str,
    /// Expected and found.
    pub why: String,
}

/// `Ok` when `holds`, else an error about `key`.
pub(crate) fn require(holds: bool, key: &'static str, why: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { key, why: why() }) }
}

/// Whether `value` is a finite number of at least 0.
fn is_amount(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
