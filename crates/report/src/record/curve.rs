//! One row per epoch of training, and one per sparsity of a sensitivity scan.

use serde::{Deserialize, Deserializer, Serialize};

/// What one epoch of one phase did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Phase of the run, for example `train` or `retrain 90 %`.
    pub phase: String,
    /// Epoch within the phase, from 1.
    pub epoch: u64,
    /// Mean training loss; JSON `null` reads back as NaN.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_loss: f64,
    /// Fraction of training samples classified correctly, in `[0, 1]`.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_accuracy: f64,
    /// Mean loss on the validation split, if there is one.
    pub val_loss: Option<f64>,
    /// Fraction of validation samples classified correctly, in `[0, 1]`.
    pub val_accuracy: Option<f64>,
    /// Kept fraction of the prunable weights at the end of the epoch, in `[0, 1]`.
    pub density: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Wall time of the epoch.
    pub seconds: f64,
}

/// Accuracy of the model when one layer alone is pruned, at several sparsities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityScan {
    /// Layer that was pruned.
    pub layer: String,
    /// One point per sparsity, ascending.
    pub points: Vec<SensitivityPoint>,
}

/// One point of a [`SensitivityScan`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityPoint {
    /// Removed fraction of the layer's weights, in `[0, 1]`.
    pub sparsity: f64,
    /// Accuracy on the split of the scan, in `[0, 1]`.
    pub accuracy: f64,
}

/// JSON has no NaN: serde_json writes `null`, and a diverged run must still be readable.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diverged_epoch_survives_json() {
        let row = EpochRow {
            phase: "train".into(),
            epoch: 1,
            train_loss: f64::NAN,
            train_accuracy: 0.5,
            val_loss: None,
            val_accuracy: None,
            density: 1.0,
            learning_rate: 0.1,
            seconds: 2.0,
        };
        let text = serde_json::to_string(&row).unwrap();
        let back: EpochRow = serde_json::from_str(&text).unwrap();
        assert!(back.train_loss.is_nan());
        assert_eq!(back.train_accuracy, 0.5);
    }
}
