//! Fully connected: `y = x W^T + b`; inputs x `[N, in]`, weight `[out, in]`, optional bias `[out]`. ONNX `Gemm` with `transB = 1`; other forms are normalised on import.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity_or_more, countable, matrix, misfit, output_shape};
use crate::{Fact, Tensor};

/// Fully connected: `y = x W^T + b`; inputs x `[N, in]`, weight `[out, in]`, optional bias `[out]`. ONNX `Gemm` with `transB = 1`; other forms are normalised on import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gemm;

impl OpSpec for Gemm {
    const NAME: &'static str = "Gemm";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let ([x, weight], bias) = arity_or_more(inputs)?;
        let [n, features] = matrix(0, x, "[N, in]")?;
        let [outputs, taken] = matrix(1, weight, "[out, in]")?;
        if taken != features {
            return Err(misfit(1, format!("[out, {features}]"), weight));
        }
        if let Some(bias) = bias.filter(|b| b.shape != [outputs]) {
            return Err(misfit(2, format!("f32[{outputs}]"), bias));
        }
        countable(vec![n, outputs])
    }

    fn channel_flow(&self, _inputs: &[&Fact]) -> ChannelFlow {
        ChannelFlow::Mixes { groups: 1 }
    }

    fn role(&self, index: usize) -> Role {
        match index {
            1 => Role::Weight,
            2 => Role::Bias,
            _ => Role::Data,
        }
    }

    fn macs(&self, inputs: &[&Fact]) -> u64 {
        let [x, weight, ..] = inputs else { return 0 };
        x.shape[..1].iter().chain(&weight.shape).fold(1, |n: u64, d| n.saturating_mul(*d as u64))
    }

    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let shape = output_shape(self, inputs)?;
        let ([x, weight], bias) = arity_or_more(inputs)?;
        let features = x.shape[1];
        let mut data = Vec::with_capacity(shape.iter().product());
        for (n, o) in (0..shape[0]).flat_map(|n| (0..shape[1]).map(move |o| (n, o))) {
            let mut sum = bias.map_or(0.0, |b| f64::from(b.data[o]));
            for i in 0..features {
                sum += f64::from(x.data[n * features + i]) * f64::from(weight.data[o * features + i]);
            }
            data.push(sum as f32);
        }
        Ok(Tensor { shape, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn rows_of_the_weight_are_outputs() {
        let weight = Tensor::new([2, 3], vec![1.0, 0.0, 0.0, 0.0, 10.0, 100.0]);
        let bias = Tensor::new([2], vec![0.5, 0.0]);
        let y = Gemm.eval(&[&counting([2, 3]), &weight, &bias]).unwrap();
        assert_eq!(y, Tensor::new([2, 2], vec![1.5, 320.0, 4.5, 650.0]));
        assert_eq!(Gemm.macs(&[&Fact::new([2, 3]), &weight.fact()]), 12);
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        assert!(inferred(&Gemm, &[&[2, 3], &[3, 2]]).is_err());
        assert!(inferred(&Gemm, &[&[2, 3, 1, 1], &[2, 3]]).is_err());
        assert!(inferred(&Gemm, &[&[2, 3], &[2, 3], &[3]]).is_err());
    }
}
