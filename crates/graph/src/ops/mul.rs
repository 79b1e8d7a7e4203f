//! `y = a * b` with numpy broadcasting. ONNX `Mul`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, broadcast};
use crate::{Fact, Tensor};

/// `y = a * b` with numpy broadcasting. ONNX `Mul`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mul;

impl OpSpec for Mul {
    const NAME: &'static str = "Mul";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        broadcast::infer(inputs)
    }

    fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow {
        broadcast::channel_flow(inputs)
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        broadcast::eval(inputs, |a, b| a * b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::counting;

    #[test]
    fn a_value_per_channel_meets_an_image() {
        let per_channel = Tensor::new([2, 1, 1], vec![10.0, 20.0]);
        let y = Mul.eval(&[&counting([1, 2, 1, 3]), &per_channel]).unwrap();
        assert_eq!(y.data, [10.0, 20.0, 30.0, 80.0, 100.0, 120.0]);
    }

    #[test]
    fn one_operand_is_refused() {
        assert!(Mul.eval(&[&counting([1])]).is_err());
    }
}
