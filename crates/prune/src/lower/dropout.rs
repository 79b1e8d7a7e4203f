//! Zeroes a random fraction of activations in training and scales the rest up, identity otherwise.

use candle_core::{Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_graph::ops::Dropout;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Dropout {
    fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let rate = step.rate.unwrap_or(self.rate);
        let Some(seed) = step.seed.filter(|_| rate > 0.0) else { return Ok(x.clone()) };
        // Drawn on the CPU, so that every device drops the same activations.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keep = 1.0 / (1.0 - rate);
        let mask: Vec<f32> = (0..x.elem_count()).map(|_| if rng.random::<f32>() < rate { 0.0 } else { keep }).collect();
        x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
