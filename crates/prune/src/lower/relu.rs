//! `y = max(x, 0)`; the gradient at 0 is 0.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Relu;

use super::activation::{Piecewise, piecewise};
use super::{Lower, Step, take};

impl Lower for Relu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Leaky { alpha: 0.0 })
    }
}
