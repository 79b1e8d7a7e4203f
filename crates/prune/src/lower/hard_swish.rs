//! `y = x * min(max(x / 6 + 1/2, 0), 1)`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::HardSwish;

use super::activation::{Piecewise, piecewise};
use super::{Lower, Step, take};

impl Lower for HardSwish {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        x * piecewise(x, Piecewise::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 })?
    }
}
