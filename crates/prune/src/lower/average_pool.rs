//! Mean over a window.

use candle_core::{Result, Tensor};
use sentei_graph::ops::AveragePool;

use super::pool::{self, Geometry};
use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for AveragePool {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        pool::average(x, Geometry::new(x, self.kernel, self.stride, self.pads)?, self.count_include_pad)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
