//! `y = x / (1 + exp(-x))`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Silu;

use super::sigmoid::sigmoid;
use super::{Dual, Lower, Step, take};

impl Lower for Silu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x * sigmoid(x)?
    }

    /// `(s + y (1 - s)) dx` for `s = sigmoid(x)`.
    fn tangent(&self, inputs: &[Dual], y: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| {
            let s = sigmoid(x)?;
            let rest = (y * s.affine(-1.0, 1.0)?)?;
            (s + rest)? * dx
        })
    }
}
