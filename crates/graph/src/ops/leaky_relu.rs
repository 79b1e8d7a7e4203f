//! `y = x` where `x >= 0`, else `alpha * x`. ONNX `LeakyRelu`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = x` where `x >= 0`, else `alpha * x`. ONNX `LeakyRelu`.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakyRelu {
    /// Slope on the negative side.
    pub alpha: f32,
}

impl Default for LeakyRelu {
    fn default() -> Self {
        LeakyRelu { alpha: 0.01 }
    }
}

impl OpSpec for LeakyRelu {
    const NAME: &'static str = "LeakyRelu";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("alpha", Attribute::Real(&mut self.alpha))]
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
        elementwise::eval(inputs, |v| if v >= 0.0 { v } else { self.alpha * v })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_negative_side_has_slope_alpha() {
        let x = Tensor::new([1, 3], vec![-4.0, 0.0, 3.0]);
        assert_eq!(LeakyRelu { alpha: 0.25 }.eval(&[&x]), Ok(Tensor::new([1, 3], vec![-1.0, 0.0, 3.0])));
    }
}
