//! `y = x`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Identity;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Identity {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        Ok(x.clone())
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
