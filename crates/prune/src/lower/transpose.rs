//! Axes permuted.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Transpose;

use super::{Lower, Step, take};

impl Lower for Transpose {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x.permute(self.order.as_slice())?.contiguous()
    }
}
