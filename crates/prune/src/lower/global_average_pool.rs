//! Mean over all positions, kept with axes of length 1.

use candle_core::{Result, Tensor};
use sentei_graph::ops::GlobalAveragePool;

use super::pool::{self, Geometry};
use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for GlobalAveragePool {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let (_, _, height, width) = x.dims4()?;
        pool::average(x, Geometry::new(x, [height, width], [1, 1], [0; 4])?, true)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
