//! `y = 1 / (1 + exp(-x))`. ONNX `Sigmoid`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = 1 / (1 + exp(-x))`. ONNX `Sigmoid`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sigmoid;

impl OpSpec for Sigmoid {
    const NAME: &'static str = "Sigmoid";

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
        elementwise::eval(inputs, elementwise::sigmoid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_logistic_function() {
        let x = Tensor::new([3], vec![0.0, 3f32.ln(), -200.0]);
        let y = Sigmoid.eval(&[&x]).unwrap();
        assert_eq!(y.data[0], 0.5);
        assert!((y.data[1] - 0.75).abs() <= f32::EPSILON);
        assert_eq!(y.data[2], 0.0);
    }
}
