//! Inputs one after the other along one axis.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Concat;

use super::{Lower, Step};

impl Lower for Concat {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        Tensor::cat(inputs, self.axis)
    }
}
