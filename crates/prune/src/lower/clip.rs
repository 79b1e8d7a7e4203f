//! `y = min(max(x, min), max)`; the gradient at the bounds is 0.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Clip;

use super::activation::{Piecewise, piecewise};
use super::{Lower, Step, take};

impl Lower for Clip {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Clip { min: self.min, max: self.max })
    }
}
