//! `y = min(max(x, min), max)`. ONNX `Clip`; `Clip 0..6` is ReLU6.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = min(max(x, min), max)`. ONNX `Clip`; `Clip 0..6` is ReLU6.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Lower bound.
    pub min: f32,
    /// Upper bound.
    pub max: f32,
}

impl Default for Clip {
    fn default() -> Self {
        Clip { min: f32::NEG_INFINITY, max: f32::INFINITY }
    }
}

impl OpSpec for Clip {
    const NAME: &'static str = "Clip";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("min", Attribute::Real(&mut self.min)), ("max", Attribute::Real(&mut self.max))]
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
        elementwise::eval(inputs, |v| v.max(self.min).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_held_between_the_bounds() {
        let x = Tensor::new([1, 4], vec![-1.0, 0.5, 6.0, 7.0]);
        assert_eq!(Clip { min: 0.0, max: 6.0 }.eval(&[&x]), Ok(Tensor::new([1, 4], vec![0.0, 0.5, 6.0, 6.0])));
    }

    #[test]
    fn without_bounds_nothing_changes() {
        let x = Tensor::new([1, 2], vec![-1e+30, 1e+30]);
        assert_eq!(Clip::default().eval(&[&x]), Ok(Tensor::new([1, 2], vec![-1e+30, 1e+30])));
    }

    #[test]
    fn crossed_bounds_give_the_upper_one_and_do_not_panic() {
        let x = Tensor::new([1, 2], vec![0.0, 3.0]);
        assert_eq!(Clip { min: 2.0, max: 1.0 }.eval(&[&x]), Ok(Tensor::new([1, 2], vec![1.0, 1.0])));
    }
}
