//! Largest value in a window; the gradient goes to the first of equal values.

use candle_core::{Result, Tensor};
use sentei_graph::ops::MaxPool;

use super::pool::{self, Geometry};
use super::{Dual, Lower, Step, take};

impl Lower for MaxPool {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        pool::max(x, Geometry::new(x, self.kernel, self.stride, self.pads)?)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|x, dx| pool::max_tangent(x, dx, Geometry::new(x, self.kernel, self.stride, self.pads)?))
    }
}
