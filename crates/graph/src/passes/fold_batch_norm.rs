//! `BatchNorm(Conv(x))` and `BatchNorm(Gemm(x))` become one layer.

use super::affine::{Affine, Layer};
use super::{Pass, PassError, Patch};
use crate::ops::Op;
use crate::{Graph, NodeId};

/// Folds a batch norm into the Conv or Gemm before it; one with nothing to fold into stays.
pub struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold_batch_norm"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let Op::BatchNorm(norm) = graph.op(node) else { return Ok(None) };
        let inputs = &graph.node(node).inputs;
        let Some(layer) = Layer::behind(graph, inputs[0]) else { return Ok(None) };
        let constants: Option<Vec<_>> = inputs[1..].iter().map(|id| graph.initializer(*id)).collect();
        let Some(constants) = constants else { return Ok(None) };
        let at = |which: usize, c: usize| f64::from(constants[which].data[c]);
        let channels = 0..layer.channels();
        let scale: Vec<f64> =
            channels.clone().map(|c| at(0, c) / (at(3, c) + f64::from(norm.epsilon)).sqrt()).collect();
        if scale.iter().any(|s| !s.is_finite()) {
            return Ok(None);
        }
        let shift = channels.map(|c| at(1, c) - at(2, c) * scale[c]).collect();
        Ok(Some(layer.absorb(node, &Affine { scale: Some(scale), shift: Some(shift) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn a_conv_takes_the_norm() {
        check(
            FoldBatchNorm,
            "x = input f32[1,3,8,8]
             a = Conv(x, w[4,3,3,3]) pad=1
             y = BatchNorm(a, gamma[4], beta[4], mean[4], var[4]) eps=1e-3",
            "x = input f32[1,3,8,8]
             y = Conv(x, w'[4,3,3,3], y.bias[4]) pad=1",
        );
    }

    #[test]
    fn a_bias_and_groups_go_along() {
        check(
            FoldBatchNorm,
            "x = input f32[2,4,5,5]
             a = Conv(x, w[4,1,3,3], b[4]) groups=4 stride=2
             n = BatchNorm(a, gamma[4], beta[4], mean[4], var[4])
             y = Relu(n)",
            "x = input f32[2,4,5,5]
             n = Conv(x, w'[4,1,3,3], b'[4]) groups=4 stride=2
             y = Relu(n)",
        );
    }

    #[test]
    fn a_gemm_takes_the_norm() {
        check(
            FoldBatchNorm,
            "x = input f32[3,5]
             a = Gemm(x, w[2,5], b[2])
             y = BatchNorm(a, gamma[2], beta[2], mean[2], var[2])",
            "x = input f32[3,5]
             y = Gemm(x, w'[2,5], b'[2])",
        );
    }

    #[test]
    fn a_layer_read_twice_and_a_norm_on_its_own_stay() {
        check_unchanged(
            FoldBatchNorm,
            "x = input f32[1,3,4,4]
             a = Conv(x, w[3,3,1,1])
             n = BatchNorm(a, gamma[3], beta[3], mean[3], var[3])
             y = Add(a, n)",
        );
        check_unchanged(
            FoldBatchNorm,
            "x = input f32[1,3,4,4]
             y = BatchNorm(x, gamma[3], beta[3], mean[3], var[3])",
        );
    }

    #[test]
    fn a_layer_that_is_an_output_stays() {
        check_unchanged(
            FoldBatchNorm,
            "x = input f32[1,3,4,4]
             a = Conv(x, w[3,3,1,1])
             n = BatchNorm(a, gamma[3], beta[3], mean[3], var[3])
             output a, n",
        );
    }
}
