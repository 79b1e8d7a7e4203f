//! `y = x * min(max(x / 6 + 1/2, 0), 1)`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::HardSwish;

use super::activation::{Piecewise, piecewise, piecewise_tangent};
use super::{Dual, Lower, Step, take};

const GATE: Piecewise = Piecewise::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };

impl Lower for HardSwish {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x * piecewise(x, GATE)?
    }

    /// `h(x) dx + x h'(x) dx`.
    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| (piecewise(x, GATE)? * dx)? + (x * piecewise_tangent(x, dx, GATE)?)?)
    }
}
