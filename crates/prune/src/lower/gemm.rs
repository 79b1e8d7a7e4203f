//! Fully connected: `y = x W^T + b`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Gemm;

use super::{Lower, Step, take};
use crate::conv::linear;

impl Lower for Gemm {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(x_and_weight)?;
        linear(x, weight, bias.first().copied())
    }
}
