//! Constant padding on every axis.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Pad;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Pad {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let mut y = x.clone();
        for (axis, &(before, after)) in self.amounts.iter().enumerate() {
            let filler = |length: usize| -> Result<Tensor> {
                let mut shape = y.dims().to_vec();
                shape[axis] = length;
                Tensor::full(self.value, shape, x.device())?.contiguous()?.to_dtype(x.dtype())
            };
            if before + after > 0 {
                y = Tensor::cat(&[&filler(before)?, &y, &filler(after)?], axis)?;
            }
        }
        Ok(y)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(&Pad { value: 0.0, ..self.clone() }, inputs, step)
    }
}
