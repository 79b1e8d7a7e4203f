//! `y = gamma * (x - mean) / sqrt(var + eps) + beta` per channel (axis 1); inputs x, gamma, beta, mean, var. ONNX `BatchNormalization`, inference form.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, countable, misfit, output_shape};
use crate::{Fact, Tensor};

/// `y = gamma * (x - mean) / sqrt(var + eps) + beta` per channel (axis 1); inputs x, gamma, beta, mean, var. ONNX `BatchNormalization`, inference form.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Share of the old running value kept per training step (ONNX `momentum`).
    pub momentum: f32,
}

impl Default for BatchNorm {
    fn default() -> Self {
        BatchNorm { epsilon: 1e-5, momentum: 0.9 }
    }
}

impl OpSpec for BatchNorm {
    const NAME: &'static str = "BatchNorm";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![("eps", Attribute::Real(&mut self.epsilon)), ("momentum", Attribute::Real(&mut self.momentum))]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x, parameters @ ..]: [&Fact; 5] = arity(inputs)?;
        let channels = *x.shape.get(1).ok_or_else(|| misfit(0, "at least 2 axes", x))?;
        for (i, parameter) in parameters.into_iter().enumerate() {
            if parameter.shape != [channels] {
                return Err(misfit(i + 1, format!("f32[{channels}]"), parameter));
            }
        }
        countable(x.shape.clone())
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Same
    }

    fn role(&self, index: usize) -> Role {
        match index {
            1 => Role::Scale,
            2 => Role::Shift,
            3 => Role::RunningMean,
            4 => Role::RunningVariance,
            _ => Role::Data,
        }
    }

    fn macs(&self, _inputs: &[&Fact]) -> u64 {
        0
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let [x, gamma, beta, mean, variance] = arity(inputs)?;
        let (channels, pixels) = (shape[1], shape[2..].iter().product::<usize>());
        let mut data = Vec::with_capacity(x.len());
        for (i, v) in x.data.iter().enumerate() {
            let c = i / pixels % channels;
            let [g, b, m, var] = [gamma, beta, mean, variance].map(|t| f64::from(t.data[c]));
            data.push((g * (f64::from(*v) - m) / (var + f64::from(self.epsilon)).sqrt() + b) as f32);
        }
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    fn per_channel(values: [f32; 2]) -> Tensor {
        Tensor::new([2], values.to_vec())
    }

    #[test]
    fn each_channel_is_normalised_scaled_and_shifted() {
        let op = BatchNorm { epsilon: 0.0, momentum: 0.9 };
        let [gamma, beta] = [per_channel([2.0, 1.0]), per_channel([0.5, 0.0])];
        let [mean, variance] = [per_channel([1.0, 3.0]), per_channel([4.0, 0.25])];
        let y = op.eval(&[&counting([1, 2, 1, 2]), &gamma, &beta, &mean, &variance]).unwrap();
        assert_eq!(y.data, [0.5, 1.5, 0.0, 2.0]);
    }

    #[test]
    fn features_without_pixels_are_normalised_too() {
        let one = per_channel([1.0, 1.0]);
        let op = BatchNorm { epsilon: 3.0, momentum: 0.9 };
        let y = op.eval(&[&counting([2, 2]), &one, &one, &one, &one]).unwrap();
        assert_eq!(y.data, [1.0, 1.5, 2.0, 2.5]);
    }

    #[test]
    fn parameters_of_another_length_are_refused() {
        let shapes: [&[usize]; 5] = [&[1, 2, 3, 3], &[2], &[2], &[3], &[2]];
        let error = inferred(&BatchNorm::default(), &shapes).unwrap_err();
        assert_eq!(error.to_string(), "input 3: expected f32[2], found f32[3]");
    }
}
