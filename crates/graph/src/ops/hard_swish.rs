//! `y = x * min(max(x / 6 + 1/2, 0), 1)`. ONNX `HardSwish`, opset 14 and later.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = x * min(max(x / 6 + 1/2, 0), 1)`. ONNX `HardSwish`, opset 14 and later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HardSwish;

impl OpSpec for HardSwish {
    const NAME: &'static str = "HardSwish";

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
        elementwise::eval(inputs, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zero_below_minus_three_and_the_identity_above_three() {
        let x = Tensor::new([1, 5], vec![-4.0, -3.0, 0.0, 3.0, 5.0]);
        assert_eq!(HardSwish.eval(&[&x]), Ok(Tensor::new([1, 5], vec![-0.0, -0.0, 0.0, 3.0, 5.0])));
    }
}
