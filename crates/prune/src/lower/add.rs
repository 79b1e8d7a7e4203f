//! `y = a + b` with numpy broadcasting.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Add;

use super::{Dual, Lower, Step, sum, take};

impl Lower for Add {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [a, b] = take(inputs)?;
        a.broadcast_add(b)
    }

    fn tangent(&self, inputs: &[Dual], y: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let terms = inputs.iter().filter_map(|x| x.tangent.clone());
        sum(terms.map(|t| t.broadcast_as(y.shape())))
    }
}
