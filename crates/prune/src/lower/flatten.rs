//! `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Flatten;

use super::{Lower, Step, take};

impl Lower for Flatten {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        let [x] = take(inputs)?;
        let (rows, columns) = x.dims().split_at(self.axis.min(x.rank()));
        x.reshape((rows.iter().product::<usize>(), columns.iter().product::<usize>()))
    }
}
