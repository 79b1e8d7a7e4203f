//! `y = a * b` with numpy broadcasting.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Mul;

use super::{Dual, Lower, Step, bilinear_tangent, take};

impl Lower for Mul {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [a, b] = take(inputs)?;
        a.broadcast_mul(b)
    }

    /// `da * b + a * db`.
    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        bilinear_tangent(self, inputs, step)
    }
}
