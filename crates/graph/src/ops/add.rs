//! `y = a + b` with numpy broadcasting. ONNX `Add`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, broadcast};
use crate::{Fact, Tensor};

/// `y = a + b` with numpy broadcasting. ONNX `Add`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Add;

impl OpSpec for Add {
    const NAME: &'static str = "Add";

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
        broadcast::eval(inputs, |a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::counting;

    #[test]
    fn a_value_per_channel_meets_an_image() {
        let per_channel = Tensor::new([2, 1, 1], vec![10.0, 20.0]);
        let y = Add.eval(&[&counting([1, 2, 1, 3]), &per_channel]).unwrap();
        assert_eq!(y.data, [11.0, 12.0, 13.0, 24.0, 25.0, 26.0]);
    }

    #[test]
    fn one_operand_is_refused() {
        assert!(Add.eval(&[&counting([1])]).is_err());
    }
}
