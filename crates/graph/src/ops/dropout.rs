//! Zeroes a random fraction of activations in training, identity otherwise. ONNX `Dropout`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, attribute, elementwise, output_shape};
use crate::{Fact, Tensor};

/// Zeroes a random fraction of activations in training, identity otherwise. ONNX `Dropout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Drop probability in training, in `[0, 1)`.
    pub rate: f32,
}

impl Default for Dropout {
    fn default() -> Self {
        Dropout { rate: 0.5 }
    }
}

impl OpSpec for Dropout {
    const NAME: &'static str = "Dropout";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("rate", Attribute::Real(&mut self.rate))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        if !(0.0..1.0).contains(&self.rate) {
            return Err(attribute("rate", format!("{} is outside [0, 1)", self.rate)));
        }
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
        let shape = output_shape(self, inputs)?;
        let [x] = arity(inputs)?;
        Ok(Tensor { shape, data: x.data.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_changes_nothing() {
        let x = Tensor::new([1, 2], vec![1.0, -2.0]);
        assert_eq!(Dropout { rate: 0.9 }.eval(&[&x]), Ok(Tensor::new([1, 2], vec![1.0, -2.0])));
    }

    #[test]
    fn a_rate_outside_zero_to_one_is_refused() {
        for rate in [-0.1, 1.0, f32::NAN] {
            assert!(Dropout { rate }.infer(&[&Fact::new([1, 2])]).is_err(), "{rate}");
        }
    }
}
