//! Axes permuted: output axis `i` is input axis `order[i]`. ONNX `Transpose`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, countable, indices, output_shape, strides};
use crate::{Fact, Tensor};

/// Axes permuted: output axis `i` is input axis `order[i]`. ONNX `Transpose`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transpose {
    /// Input axis behind each output axis.
    pub order: Vec<usize>,
}

impl OpSpec for Transpose {
    const NAME: &'static str = "Transpose";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("order", Attribute::Counts(&mut self.order))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.rank()) {
            return Err(attribute("order", format!("{:?} is no order of the axes of {x}", self.order)));
        }
        countable(self.order.iter().map(|axis| x.shape[*axis]).collect())
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        if self.order.get(1) == Some(&1) { ChannelFlow::Same } else { ChannelFlow::Blocks }
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let [x] = arity(inputs)?;
        let steps = strides(&x.shape);
        let source = |index: Vec<usize>| index.iter().zip(&self.order).map(|(i, axis)| i * steps[*axis]).sum::<usize>();
        let data = indices(&shape).map(|index| x.data[source(index)]).collect();
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn a_matrix_is_turned_over() {
        let y = Transpose { order: vec![1, 0] }.eval(&[&counting([2, 3])]).unwrap();
        assert_eq!(y, Tensor::new([3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    }

    #[test]
    fn three_axes_turn_in_the_given_order() {
        let y = Transpose { order: vec![2, 0, 1] }.eval(&[&counting([1, 2, 3])]).unwrap();
        assert_eq!(y, Tensor::new([3, 1, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    }

    #[test]
    fn an_order_that_is_no_permutation_is_refused() {
        for order in [vec![], vec![0, 0], vec![0, 2], vec![0, 1, 2]] {
            assert!(inferred(&Transpose { order }, &[&[2, 3]]).is_err());
        }
    }
}
