//! `y = max(x, 0)`; the gradient at 0 is 0.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Relu;

use super::activation::{Piecewise, piecewise, piecewise_tangent};
use super::{Dual, Lower, Step, take};

impl Lower for Relu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Leaky { alpha: 0.0 })
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| piecewise_tangent(x, dx, Piecewise::Leaky { alpha: 0.0 }))
    }
}
