//! Inputs one after the other along one axis.

use candle_core::{Result, Tensor};
use sentei_graph::ops::Concat;

use super::{Dual, Lower, Step};

impl Lower for Concat {
    fn lower(&self, inputs: &[&Tensor], _: &mut Step) -> Result<Tensor> {
        Tensor::cat(inputs, self.axis)
    }

    fn tangent(&self, inputs: &[Dual], _: &Tensor, _: &mut Step) -> Result<Option<Tensor>> {
        let parts = inputs.iter().map(|x| x.tangent.clone().map_or_else(|| x.value.zeros_like(), Ok));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, self.axis).map(Some)
    }
}
