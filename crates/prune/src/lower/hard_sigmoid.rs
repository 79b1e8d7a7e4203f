//! `y = min(max(alpha * x + beta, 0), 1)`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::HardSigmoid;

use super::activation::{Piecewise, piecewise, piecewise_tangent};
use super::{Dual, Lower, Step, take};

impl Lower for HardSigmoid {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::HardSigmoid { alpha: self.alpha, beta: self.beta })
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| piecewise_tangent(x, dx, Piecewise::HardSigmoid { alpha: self.alpha, beta: self.beta }))
    }
}
