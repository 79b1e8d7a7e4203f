//! Mean over a window.

use candle_core::{Result, Tensor};
use sentei_graph::ops::AveragePool;

use super::pool::{self, Geometry};
use super::{Lower, Step, take};

impl Lower for AveragePool {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        pool::average(x, Geometry::new(x, self.kernel, self.stride, self.pads)?, self.count_include_pad)
    }
}
