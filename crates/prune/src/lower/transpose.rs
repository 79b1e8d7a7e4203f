//! Axes permuted.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Transpose;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Transpose {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x.permute(self.order.as_slice())?.contiguous()
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
