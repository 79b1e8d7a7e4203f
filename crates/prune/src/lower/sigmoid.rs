//! `y = 1 / (1 + exp(-x))`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Sigmoid;

use super::{Dual, Lower, Step, take};

impl Lower for Sigmoid {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        sigmoid(x)
    }

    /// `y (1 - y) dx`.
    fn tangent(&self, inputs: &[Dual], y: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|_, dx| (y * y.affine(-1.0, 1.0)?)? * dx)
    }
}

/// Written with `tanh`, because the gradient of the usual form is NaN once `exp(-x)` overflows.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}
