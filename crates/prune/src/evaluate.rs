//! Runs a network over samples and counts what it gets right.

use std::sync::Arc;

use candle_core::Tensor;
use sentei_data::{Batch, Dataset, Normalise, Order, batches};

use crate::train::TrainError;
use crate::{Mode, Net};

/// Samples per forward pass.
pub(crate) const BATCH: usize = 256;

/// What a network says about some samples, in the order in which they were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Probability per class, `[samples, classes]`, row-major.
    pub probabilities: Vec<f32>,
    /// True class per sample.
    pub labels: Vec<u32>,
    /// Number of classes.
    pub classes: usize,
    /// Mean cross-entropy; 0 without samples.
    pub loss: f64,
}

impl Evaluation {
    /// No sample yet.
    pub(crate) fn empty(classes: usize) -> Self {
        Evaluation { probabilities: Vec::new(), labels: Vec::new(), classes, loss: 0.0 }
    }

    /// Adds one batch; until [`Evaluation::finished`] the loss is a sum.
    pub(crate) fn add(&mut self, logits: &Tensor, labels: &[u32]) -> Result<(), TrainError> {
        for (row, label) in logits_of(logits, self.classes)?.chunks_exact(self.classes).zip(labels) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = row.iter().map(|z| f64::from(z - highest).exp()).sum();
            self.loss += total.ln() - f64::from(row[*label as usize] - highest);
            self.probabilities.extend(row.iter().map(|z| (f64::from(z - highest).exp() / total) as f32));
        }
        self.labels.extend(labels);
        Ok(())
    }

    /// The loss as a mean.
    pub(crate) fn finished(mut self) -> Self {
        self.loss /= self.labels.len().max(1) as f64;
        self
    }

    /// Most probable class per sample; the lowest one among equals.
    pub fn predictions(&self) -> Vec<u32> {
        self.probabilities.chunks_exact(self.classes.max(1)).map(arg_max).collect()
    }

    /// Fraction classified correctly, in `[0, 1]`; 0 without samples.
    pub fn accuracy(&self) -> f64 {
        let right = self.predictions().iter().zip(&self.labels).filter(|(p, l)| p == l).count();
        right as f64 / self.labels.len().max(1) as f64
    }

    /// Mean recall of the classes that occur, in `[0, 1]`; 0 without samples.
    pub fn balanced_accuracy(&self) -> f64 {
        let mut seen = vec![(0u64, 0u64); self.classes];
        for (predicted, label) in self.predictions().iter().zip(&self.labels) {
            let (right, all) = &mut seen[*label as usize];
            *right += u64::from(predicted == label);
            *all += 1;
        }
        let recalls: Vec<f64> =
            seen.iter().filter(|(_, all)| *all > 0).map(|(r, all)| *r as f64 / *all as f64).collect();
        recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
    }
}

/// Class probabilities of `net` in evaluation mode for the samples `indices`, in that order.
///
/// # Errors
/// [`TrainError::Classes`] when the network has another number of outputs than the data set has classes,
/// [`TrainError::Net`] when it cannot be run.
pub fn evaluate(
    net: &mut Net,
    data: &Arc<Dataset>,
    indices: &[usize],
    normalise: &Normalise,
) -> Result<Evaluation, TrainError> {
    let classes = data.classes.len();
    let mut done = Evaluation::empty(classes);
    done.probabilities.reserve(indices.len() * classes);
    for batch in batches(data, indices, BATCH, Order::Sequential, None, normalise) {
        let (images, labels) = to_tensors(net, batch)?;
        let logits = net.forward(&images, Mode::Eval)?;
        done.add(&logits, &labels)?;
    }
    Ok(done.finished())
}

/// Images in the shape that the network declares, and the labels.
pub(crate) fn to_tensors(net: &Net, batch: Batch) -> Result<(Tensor, Vec<u32>), TrainError> {
    let Batch { images, labels, .. } = batch;
    let mut shape = net.graph().inputs()[0].1.shape.clone();
    let per_image = images.len() / labels.len().max(1);
    if shape.iter().skip(1).product::<usize>() != per_image {
        // The network refuses this one with an error that names both shapes.
        shape = vec![labels.len(), per_image];
    }
    shape[0] = labels.len();
    Ok((Tensor::from_vec(images, shape, net.device())?, labels))
}

/// Logits on the host, flat, after a check of their shape.
pub(crate) fn logits_of(logits: &Tensor, classes: usize) -> Result<Vec<f32>, TrainError> {
    match logits.dims() {
        [_, found] if *found == classes => Ok(logits.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()?),
        dims => Err(TrainError::Classes { expected: classes, found: dims.iter().skip(1).product() }),
    }
}

pub(crate) fn arg_max(row: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).reduce(better).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_match_hand_counts() {
        let probabilities = vec![0.9, 0.1, 0.0, 0.2, 0.7, 0.1, 0.5, 0.5, 0.0, 0.1, 0.8, 0.1];
        let found = Evaluation { probabilities, labels: vec![0, 0, 0, 1], classes: 3, loss: 0.0 };
        assert_eq!(found.predictions(), [0, 1, 0, 1]);
        assert_eq!(found.accuracy(), 0.75);
        assert!((found.balanced_accuracy() - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
    }
}
