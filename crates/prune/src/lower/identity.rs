//! `y = x`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Identity;

use super::{Lower, Step, take};

impl Lower for Identity {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        Ok(x.clone())
    }
}
