//! `y = min(max(alpha * x + beta, 0), 1)`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::HardSigmoid;

use super::activation::{Piecewise, piecewise};
use super::{Lower, Step, take};

impl Lower for HardSigmoid {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        piecewise(x, Piecewise::HardSigmoid { alpha: self.alpha, beta: self.beta })
    }
}
