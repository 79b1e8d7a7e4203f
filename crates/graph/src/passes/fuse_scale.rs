//! `Conv(x) * c` and `Gemm(x) * c` with one constant per channel become a scaled layer.

use super::affine::{Affine, Layer, per_channel};
use super::{Pass, PassError, Patch};
use crate::ops::Op;
use crate::{Graph, NodeId};

/// Multiplies a constant into the weight and bias of the layer before it.
pub struct FuseScale;

impl Pass for FuseScale {
    fn name(&self) -> &'static str {
        "fuse_scale"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let Op::Mul(_) = graph.op(node) else { return Ok(None) };
        let &[a, b] = &graph.node(node).inputs[..] else { return Ok(None) };
        let (value, constant) = if graph.initializer(b).is_some() { (a, b) } else { (b, a) };
        let Some(constant) = graph.initializer(constant) else { return Ok(None) };
        let Some(layer) = Layer::behind(graph, value) else { return Ok(None) };
        let Some(scale) = per_channel(constant, layer.rank(), layer.channels()) else { return Ok(None) };
        Ok(Some(layer.absorb(node, &Affine { scale: Some(scale), shift: None })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn weight_and_bias_are_scaled() {
        check(
            FuseScale,
            "x = input f32[1,2,4,4]
             a = Conv(x, w[3,2,3,3], b[3])
             y = Mul(a, c[1,3,1,1])",
            "x = input f32[1,2,4,4]
             y = Conv(x, w'[3,2,3,3], b'[3])",
        );
    }

    #[test]
    fn no_bias_is_made_up() {
        check(
            FuseScale,
            "x = input f32[2,5]
             a = Gemm(x, w[3,5])
             y = Mul(c[], a)",
            "x = input f32[2,5]
             y = Gemm(x, w'[3,5])",
        );
    }

    #[test]
    fn a_product_of_two_values_stays() {
        check_unchanged(
            FuseScale,
            "x = input f32[2,3]
             a = Gemm(x, w[3,3])
             y = Mul(a, x)",
        );
    }
}
