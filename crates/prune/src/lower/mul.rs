//! `y = a * b` with numpy broadcasting.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Mul;

use super::{Lower, Step, take};

impl Lower for Mul {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [a, b] = take(inputs)?;
        a.broadcast_mul(b)
    }
}
