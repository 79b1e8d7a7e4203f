//! `exp(x) / sum(exp(x))` along one axis, for a softmax inside the network; a final one is left to the loss.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Softmax;

use super::{Dual, Lower, Step, take};

impl Lower for Softmax {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        // Subtracting a constant changes neither the result nor its gradient, so none flows through the largest value.
        let largest = x.detach().max_keepdim(self.axis)?;
        let exp = x.broadcast_sub(&largest)?.exp()?;
        exp.broadcast_div(&exp.sum_keepdim(self.axis)?)
    }

    /// `y (dx - sum(y dx))`.
    fn tangent(&self, inputs: &[Dual], y: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let [x] = take(inputs)?;
        x.push(|_, dx| y * dx.broadcast_sub(&(y * dx)?.sum_keepdim(self.axis)?)?)
    }
}
