//! A strided box of the input.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Slice;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Slice {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let mut y = x.clone();
        for (axis, ((&start, &end), &step)) in self.starts.iter().zip(&self.ends).zip(&self.steps).enumerate() {
            let end = end.min(y.dim(axis)?);
            if step == 1 {
                y = y.narrow(axis, start, end.saturating_sub(start))?;
            } else {
                let taken: Vec<u32> = (start..end).step_by(step).map(|i| i as u32).collect();
                y = y.contiguous()?.index_select(&Tensor::new(taken, x.device())?, axis)?;
            }
        }
        y.contiguous()
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
