//! `y = min(max(alpha * x + beta, 0), 1)`. ONNX `HardSigmoid`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = min(max(alpha * x + beta, 0), 1)`. ONNX `HardSigmoid`.
#[derive(Clone, Debug, PartialEq)]
pub struct HardSigmoid {
    /// Slope.
    pub alpha: f32,
    /// Offset.
    pub beta: f32,
}

impl Default for HardSigmoid {
    fn default() -> Self {
        HardSigmoid { alpha: 0.2, beta: 0.5 }
    }
}

impl OpSpec for HardSigmoid {
    const NAME: &'static str = "HardSigmoid";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("alpha", Attribute::Real(&mut self.alpha)), ("beta", Attribute::Real(&mut self.beta))]
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
        elementwise::eval(inputs, |v| (self.alpha * v + self.beta).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_a_line_and_the_ends_are_flat() {
        let x = Tensor::new([1, 5], vec![-3.0, -1.0, 0.0, 1.0, 3.0]);
        assert_eq!(HardSigmoid { alpha: 0.25, beta: 0.5 }.eval(&[&x]), Ok(Tensor::new([1, 5], vec![0.0, 0.25, 0.5, 0.75, 1.0])));
    }
}
