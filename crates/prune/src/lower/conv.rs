//! 2-D convolution.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Conv;

use super::{Dual, Lower, Step, biased_tangent, take};
use crate::conv::{Window, conv2d};

impl Lower for Conv {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(x_and_weight)?;
        let window = Window { stride: self.stride, pads: self.pads, dilation: self.dilation };
        conv2d(x, weight, bias.first().copied(), window, self.groups)
    }

    fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        biased_tangent(self, inputs, y, step)
    }
}
