//! Mean over all spatial positions, kept as `[N, C, 1, 1]`. ONNX `GlobalAveragePool`.

use super::{Attribute, ChannelFlow, OpError, OpSpec, Role, arity, countable, image, misfit, output_shape};
use crate::{Fact, Tensor};

/// Mean over all spatial positions, kept as `[N, C, 1, 1]`. ONNX `GlobalAveragePool`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GlobalAveragePool;

impl OpSpec for GlobalAveragePool {
    const NAME: &'static str = "GlobalAveragePool";

    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![]
    }

    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
        let [x] = arity(inputs)?;
        let [n, c, h, w] = image(0, x)?;
        if h * w == 0 {
            return Err(misfit(0, "at least one pixel", x));
        }
        countable(vec![n, c, 1, 1])
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
        let pixels = x.shape[2] * x.shape[3];
        let mean = |plane: &[f32]| (plane.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels as f64) as f32;
        Ok(Tensor { shape, data: x.data.chunks(pixels).map(mean).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, inferred};

    #[test]
    fn each_channel_has_its_own_mean() {
        let y = GlobalAveragePool.eval(&[&counting([1, 2, 1, 3])]).unwrap();
        assert_eq!(y, Tensor::new([1, 2, 1, 1], vec![2.0, 5.0]));
    }

    #[test]
    fn a_matrix_is_refused() {
        assert!(inferred(&GlobalAveragePool, &[&[2, 3]]).is_err());
    }
}
