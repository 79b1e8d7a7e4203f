//! 2-D convolution.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Conv;

use super::{Lower, Step, take};
use crate::conv::{Window, conv2d};

impl Lower for Conv {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let (weight_and_x, bias) = inputs.split_at(2.min(inputs.len()));
        let [x, weight] = take(weight_and_x)?;
        let window = Window { stride: self.stride, pads: self.pads, dilation: self.dilation };
        conv2d(x, weight, bias.first().copied(), window, self.groups)
    }
}
