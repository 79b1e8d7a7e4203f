//! Batch normalisation: batch statistics in training, running ones otherwise.

use candle_core::{Result, Tensor};
use sentei_graph::ops::BatchNorm;

use super::{Dual, Lower, Step, take};
use crate::batch_norm;

impl Lower for BatchNorm {
    fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor> {
        let [x, gamma, beta, mean, variance] = take(inputs)?;
        if !step.batch_statistics {
            return batch_norm::affine(x, [gamma, beta], [mean, variance], self.epsilon, step.activation);
        }
        let batch = batch_norm::statistics(x)?;
        let old = f64::from(self.momentum);
        let moved = |running: &Tensor, seen: &Tensor| running.affine(old, 0.0)? + seen.affine(1.0 - old, 0.0)?;
        step.updates.push((3, moved(mean, &batch.mean)?));
        step.updates.push((4, moved(variance, &batch.unbiased_variance()?)?));
        batch_norm::normalise(x, gamma, beta, &batch, self.epsilon, step.activation)
    }

    fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        let [x, gamma, beta, mean, variance] = take(inputs)?;
        let fixed = (!step.batch_statistics).then_some((&mean.value, &variance.value));
        batch_norm::tangent(&x, &gamma, &beta, fixed, self.epsilon, step.activation.map(|f| (f, y)))
    }
}
