//! `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Flatten;

use super::{Dual, Lower, Step, linear_tangent, take};

impl Lower for Flatten {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let (rows, columns) = x.dims().split_at(self.axis.min(x.rank()));
        x.reshape((rows.iter().product::<usize>(), columns.iter().product::<usize>()))
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
        linear_tangent(self, inputs, step)
    }
}
