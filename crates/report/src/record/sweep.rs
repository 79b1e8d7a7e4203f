//! One trained and pruned network of a sweep: what was asked for, what came out.

use serde::{Deserialize, Serialize};

/// Name of the network that nothing was removed from.
pub const DENSE: &str = "dense";

/// What one job of a sweep makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepJob {
    /// Method, or [`DENSE`].
    pub method: String,
    /// Removed fraction of the prunable weights that is asked for, in `[0, 1)`; 0 for the dense network.
    pub sparsity: f64,
    /// Seed of initial weights, sample order and whatever the method draws.
    pub seed: u64,
}

/// What one job of a sweep found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepResult {
    /// What was asked for.
    pub job: SweepJob,
    /// Kept fraction of the prunable weights, in `[0, 1]`.
    pub density: f64,
    /// Parameters that are not 0, over the whole network.
    pub nonzero: u64,
    /// All trainable parameters.
    pub params: u64,
    /// Every prunable layer, in graph order.
    pub layers: Vec<SweepLayer>,
    /// On the validation split; whatever is chosen is chosen by these. Absent without such a split.
    pub val: Option<SplitScores>,
    /// On the test split, read once, after the last weight was final. Absent without such a split.
    pub test: Option<SplitScores>,
    /// Epochs that this network was trained for, under masks or not.
    pub epochs: u64,
    /// Epochs of the dense network that it started from; 0 when it started from initial weights.
    pub parent_epochs: u64,
    /// Wall time of `epochs`.
    pub seconds: f64,
    /// Signs of the weights after the last epoch, layer by layer: kept, flipped since the beginning, as an epoch before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<serde_json::Value>,
}

/// One prunable layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepLayer {
    /// Name of the weight.
    pub name: String,
    /// Weights it has.
    pub weights: u64,
    /// Weights it kept.
    pub kept: u64,
}

/// How well a network does on one split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitScores {
    /// Samples of the split.
    pub samples: u64,
    /// Fraction classified correctly, in `[0, 1]`.
    pub accuracy: f64,
    /// Mean recall of the classes that occur, in `[0, 1]`.
    pub balanced_accuracy: f64,
    /// Mean cross-entropy; not finite where the logits are not, which JSON can only say as null.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
}

fn null_is_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_network_that_blew_up_read_back() {
        let scores = SplitScores { samples: 9, accuracy: 0.5, balanced_accuracy: 0.25, loss: f64::INFINITY };
        let text = serde_json::to_string(&scores).expect("writes");
        let back: SplitScores = serde_json::from_str(&text).expect("reads");
        assert!(back.loss.is_nan() && (back.samples, back.accuracy) == (9, 0.5), "{text}");
    }
}
