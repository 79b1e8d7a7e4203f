//! Same elements, new shape.

use candle_core::{Result, Tensor, bail};
use sentei_graph::ops::Reshape;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Reshape {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let mut shape = Vec::with_capacity(self.shape.len());
        let mut rest = None;
        for (axis, &length) in self.shape.iter().enumerate() {
            shape.push(match length {
                0 => x.dim(axis)?,
                -1 => {
                    rest = Some(axis);
                    1
                }
                _ => length as usize,
            });
        }
        if let Some(axis) = rest {
            let known: usize = shape.iter().product();
            if known == 0 {
                bail!("cannot infer the length of axis {axis}: another axis has length 0");
            }
            shape[axis] = x.elem_count() / known;
        }
        x.reshape(shape)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
