//! `y = x / (1 + exp(-x))`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Silu;

use super::sigmoid::sigmoid;
use super::{Lower, Step, take};

impl Lower for Silu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x * sigmoid(x)?
    }
}
