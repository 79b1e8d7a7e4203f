//! Matrix product over the last two axes.

use candle_core::{Result, Tensor};
use sentei_graph::ops::MatMul;

use super::{Dual, Lower, Step, bilinear_tangent, take};

impl Lower for MatMul {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [a, b] = take(inputs)?;
        if b.rank() == 2 && a.rank() > 2 {
            let (inner, columns) = b.dims2()?;
            let mut shape = a.dims().to_vec();
            shape[a.rank() - 1] = columns;
            return a.reshape(((), inner))?.matmul(b)?.reshape(shape);
        }
        a.contiguous()?.matmul(&b.contiguous()?)
    }

    /// `da b + a db`.
    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        bilinear_tangent(self, inputs, step)
    }
}
