//! Fully connected: `y = x W^T + b`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Gemm;

use super::{Dual, Lower, Step, biased_tangent, take};
use crate::conv::linear;

impl Lower for Gemm {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(x_and_weight)?;
        linear(x, weight, bias.first().copied())
    }

    fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        biased_tangent(self, inputs, y, step)
    }
}
