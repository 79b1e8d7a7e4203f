//! `y = x`. ONNX `Identity`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, elementwise};
use crate::{Fact, Tensor};

/// `y = x`. ONNX `Identity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity;

impl OpSpec for Identity {
    const NAME: &'static str = "Identity";

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
        elementwise::eval(inputs, |v| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes() {
        let x = Tensor::new([1, 2], vec![-1.0, 2.0]);
        assert_eq!(Identity.eval(&[&x]), Ok(Tensor::new([1, 2], vec![-1.0, 2.0])));
    }
}
