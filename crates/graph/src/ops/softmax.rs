//! `exp(x) / sum(exp(x))` along one axis. ONNX `Softmax`, opset 13 form.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, axis_of, countable, output_shape};
use crate::{Fact, Tensor};

/// `exp(x) / sum(exp(x))` along one axis. ONNX `Softmax`, opset 13 form.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Axis, counted from the front.
    pub axis: usize,
}

impl Default for Softmax {
    fn default() -> Self {
        Softmax { axis: 1 }
    }
}

impl OpSpec for Softmax {
    const NAME: &'static str = "Softmax";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("axis", Attribute::Count(&mut self.axis))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        axis_of(self.axis, x)?;
        countable(x.shape.clone())
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        if self.axis == 1 { ChannelFlow::Blocks } else { ChannelFlow::Same }
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
        let (length, inner) = (shape[self.axis], shape[self.axis + 1..].iter().product::<usize>());
        let mut data = x.data.clone();
        for block in data.chunks_mut((length * inner).max(1)) {
            for offset in 0..inner {
                let along = || (0..length).map(|i| i * inner + offset);
                let largest = along().map(|i| f64::from(block[i])).fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = along().map(|i| (f64::from(block[i]) - largest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (i, power) in along().zip(powers) {
                    block[i] = (power / sum) as f32;
                }
            }
        }
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn large_inputs_do_not_overflow() {
        let y = Softmax { axis: 1 }.eval(&[&Tensor::new([1, 2], vec![1000.0, 1000.0])]).unwrap();
        assert_eq!(y.data, [0.5, 0.5]);
    }

    #[test]
    fn sums_are_one_along_the_axis() {
        let x = counting([2, 3, 2]);
        let y = Softmax { axis: 1 }.eval(&[&x]).unwrap();
        for (n, p) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let sum: f32 = (0..3).map(|c| y.data[(n * 3 + c) * 2 + p]).sum();
            assert!((sum - 1.0).abs() <= 3.0 * f32::EPSILON);
        }
        assert!((y.data[4] / y.data[2] - 2f32.exp()).abs() <= 8.0 * 8.0 * f32::EPSILON);
    }

    #[test]
    fn an_axis_outside_the_shape_is_refused() {
        assert!(inferred(&Softmax { axis: 2 }, &[&[1, 2]]).is_err());
    }
}
