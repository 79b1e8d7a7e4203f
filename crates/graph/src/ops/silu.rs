//! `y = x / (1 + exp(-x))`, also called Swish. Written to ONNX as `Sigmoid` and `Mul`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = x / (1 + exp(-x))`, also called Swish. Written to ONNX as `Sigmoid` and `Mul`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Silu;

impl OpSpec for Silu {
    const NAME: &'static str = "Silu";

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
        elementwise::eval(inputs, |v| v * elementwise::sigmoid(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_x_times_sigmoid_of_x() {
        let x = Tensor::new([3], vec![0.0, 3f32.ln(), 50.0]);
        let y = Silu.eval(&[&x]).unwrap();
        assert_eq!(y.data[0], 0.0);
        assert!((y.data[1] - 0.75 * 3f32.ln()).abs() <= 2.0 * f32::EPSILON);
        assert_eq!(y.data[2], 50.0);
    }
}
