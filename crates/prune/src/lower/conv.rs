//! 2-D convolution.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Conv;

use super::{Dual, Lower, Step, bilinear_tangent, take};
use crate::conv::{Window, add_bias, conv2d};

impl Lower for Conv {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (weight_and_x, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(weight_and_x)?;
        let window = Window { stride: self.stride, pads: self.pads, dilation: self.dilation };
        conv2d(x, weight, bias.first().copied(), window, self.groups)
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
