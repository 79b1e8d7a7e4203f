//! `y = x` where `x > 0`, else `alpha * x`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::LeakyRelu;

use super::activation::{Piecewise, piecewise};
use super::{Lower, Step, take};

impl Lower for LeakyRelu {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::Leaky { alpha: self.alpha })
    }
}
