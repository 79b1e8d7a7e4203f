//! The loss that counts as noise: how far mini-batches of training samples scatter around the mean loss of a trained network.

use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sentei_data::{Dataset, Normalise, Order, batches, derive_seed};
use serde::{Deserialize, Serialize};

use crate::evaluate::{logits_of, to_tensors};
use crate::train::TrainError;
use crate::{Mode, Net};

/// Samples per mini-batch in the paper. The noise scales as one over its root, so the limit depends on it.
pub const BATCH: usize = 128;

/// Partitions of the samples into mini-batches that are looked at.
const PARTITIONS: usize = 16;

/// Samples per forward pass.
const PASS: usize = 256;

/// The spread of the loss of mini-batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Population standard deviation over the mini-batches of one pass, averaged over passes in other orders.
    pub epsilon: f64,
    /// Standard deviation of that number between passes, relative to it: how much the order alone moves it.
    pub uncertainty: f64,
    /// Mean loss of all samples.
    pub mean: f64,
    /// Samples per mini-batch.
    pub batch: usize,
    /// Samples in all.
    pub samples: usize,
}

/// Cross-entropy of each of the samples `indices`, in that order, in evaluation mode.
///
/// * `smoothing`: share of the target that is spread over all classes, as in training, in `[0, 1)`.
///
/// # Errors
/// As [`crate::evaluate()`].
pub fn sample_losses(
    net: &mut Net,
    data: &Arc<Dataset>,
    indices: &[usize],
    normalise: &Normalise,
    smoothing: f64,
) -> Result<Vec<f64>, TrainError> {
    let classes = data.classes.len();
    let mut losses = Vec::with_capacity(indices.len());
    for batch in batches(data, indices, PASS, Order::Sequential, None, normalise) {
        let (images, labels) = to_tensors(net, batch)?;
        let logits = logits_of(&net.forward(&images, Mode::Eval)?, classes)?;
        for (row, label) in logits.chunks_exact(classes).zip(labels) {
            let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let above = |z: &f32| f64::from(*z) - highest;
            let log_sum = row.iter().map(|z| above(z).exp()).sum::<f64>().ln();
            let mean = row.iter().map(above).sum::<f64>() / classes as f64;
            losses.push(log_sum - (1.0 - smoothing) * above(&row[label as usize]) - smoothing * mean);
        }
    }
    Ok(losses)
}

/// The spread of mini-batch losses, from the losses of the samples: in evaluation mode a batch loss is their mean.
///
/// Batches are drawn without replacement in an order that `seed` gives; a short last one is left out. With fewer than two full
/// batches the spread is that of the samples over the root of `batch`.
pub fn batch_noise(losses: &[f64], batch: usize, seed: u64) -> Noise {
    let (samples, batch) = (losses.len(), batch.max(1));
    let (mean, deviation) = moments(losses);
    if samples < 2 * batch {
        return Noise { epsilon: deviation / (batch as f64).sqrt(), uncertainty: 0.0, mean, batch, samples };
    }
    let mut order = losses.to_vec();
    let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(seed, "limit", "batches"));
    let spreads: Vec<f64> = (0..PARTITIONS)
        .map(|_| {
            order.shuffle(&mut rng);
            let means: Vec<f64> = order.chunks_exact(batch).map(|c| c.iter().sum::<f64>() / batch as f64).collect();
            moments(&means).1
        })
        .collect();
    let (epsilon, between) = moments(&spreads);
    let uncertainty = if epsilon > 0.0 { between / epsilon } else { 0.0 };
    Noise { epsilon, uncertainty, mean, batch, samples }
}

/// Mean and population standard deviation; zeros without numbers.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Harness};
    use candle_core::Device;
    use sentei_data::Split;

    #[test]
    fn batch_spread_is_the_sample_spread_over_the_root_of_the_batch() {
        let losses: Vec<f64> = (0..12_800).map(|i| f64::from(testing::noise("loss", i)) + 2.0).collect();
        let noise = batch_noise(&losses, 128, 1);
        let expected = (1.0f64 / 3.0).sqrt() / 128f64.sqrt();
        assert!((noise.epsilon / expected - 1.0).abs() < 0.1, "{noise:?}, expected {expected}");
        // A deviation of 100 numbers is known to 1 / sqrt(2 * 99) = 7 %.
        assert!(noise.uncertainty > 0.02 && noise.uncertainty < 0.15, "{noise:?}");
        assert!((noise.mean - 2.0).abs() < 0.02);
        assert_eq!(noise, batch_noise(&losses, 128, 1));
        assert_ne!(noise.epsilon, batch_noise(&losses, 128, 2).epsilon);
        let wide = batch_noise(&losses, 512, 1).epsilon;
        assert!((noise.epsilon / wide - 2.0).abs() < 0.35, "four times the batch halves it: {wide}");
    }

    #[test]
    fn few_samples_fall_back_to_their_own_spread_and_equal_ones_have_none() {
        let noise = batch_noise(&[1.0, 3.0], 4, 0);
        assert_eq!((noise.epsilon, noise.mean), (0.5, 2.0));
        assert_eq!(batch_noise(&[0.25; 1000], 128, 0).epsilon, 0.0);
        assert_eq!(batch_noise(&[], 128, 0).epsilon, 0.0);
    }

    #[test]
    fn sample_losses_average_to_the_evaluated_loss() {
        let harness = Harness::new();
        let mut net = Net::new(&testing::mlp(&[16, 6, 3], None), &Device::Cpu).unwrap();
        let indices = harness.data.indices(Split::Train);
        let losses = sample_losses(&mut net, &harness.data, &indices, &harness.normalise, 0.0).unwrap();
        let known = crate::evaluate(&mut net, &harness.data, &indices, &harness.normalise).unwrap();
        assert!((losses.iter().sum::<f64>() / losses.len() as f64 - known.loss).abs() < 1e-6);
        let smooth = sample_losses(&mut net, &harness.data, &indices[..1], &harness.normalise, 0.3).unwrap();
        let spread = known.probabilities[..3].iter().map(|p| -f64::from(*p).ln()).sum::<f64>() / 3.0;
        assert!((smooth[0] - (0.7 * losses[0] + 0.3 * spread)).abs() < 1e-5);
    }
}
