//! `y = min(max(x, min), max)`; the gradient at the bounds is 0.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Clip;

use super::activation::{Piecewise, piecewise, piecewise_tangent};
use super::{Dual, Lower, Step, take};

impl Lower for Clip {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Clip { min: self.min, max: self.max })
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| piecewise_tangent(x, dx, Piecewise::Clip { min: self.min, max: self.max }))
    }
}
