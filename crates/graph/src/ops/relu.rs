//! `y = max(x, 0)`, any shape. ONNX `Relu`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = max(x, 0)`, any shape. ONNX `Relu`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relu;

impl OpSpec for Relu {
    const NAME: &'static str = "Relu";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        elementwise::infer(inputs)
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Same
    }

    fn role(&self, _index: usize) -> Role {
        Role::Data
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        elementwise::eval(inputs, |v| v.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_values_become_zero() {
        let x = Tensor::new([1, 3], vec![-1.5, 0.0, 2.5]);
        assert_eq!(Relu.eval(&[&x]), Ok(Tensor::new([1, 3], vec![0.0, 0.0, 2.5])));
    }

    #[test]
    fn two_inputs_are_refused() {
        let x = Tensor::full([1], 1.0);
        assert_eq!(Relu.eval(&[&x, &x]), Err(OpError::Arity { expected: "1", found: 2 }));
    }
}
