//! `y = 1 / (1 + exp(-x))`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Sigmoid;

use super::{Lower, Step, take};

impl Lower for Sigmoid {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        sigmoid(x)
    }
}

/// Written with `tanh`, because the gradient of the usual form is NaN once `exp(-x)` overflows.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}
