//! `y = x` where `x > 0`, else `alpha * x`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::LeakyRelu;

use super::activation::{Piecewise, piecewise, piecewise_tangent};
use super::{Dual, Lower, Step, take};

impl Lower for LeakyRelu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Leaky { alpha: self.alpha })
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| piecewise_tangent(x, dx, Piecewise::Leaky { alpha: self.alpha }))
    }
}
