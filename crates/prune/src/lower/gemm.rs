//! Fully connected: `y = x W^T + b`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Gemm;

use super::{Dual, Lower, Step, bilinear_tangent, take};
use crate::conv::{add_bias, linear};

impl Lower for Gemm {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(x_and_weight)?;
        linear(x, weight, bias.first().copied())
    }

    /// `dx * W + x * dW + db`.
    fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
        let product = bilinear_tangent(self, x_and_weight, step)?;
        let Some(db) = bias.first().and_then(|b| b.tangent.as_ref()) else { return Ok(product) };
        match product {
            Some(product) => add_bias(&product, db).map(Some),
            None => add_bias(&y.zeros_like()?, db).map(Some),
        }
    }
}
