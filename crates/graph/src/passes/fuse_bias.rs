//! `Conv(x) + c` and `Gemm(x) + c` with one constant per channel become the layer's bias.

use super::affine::{Affine, Layer, per_channel};
use super::{Pass, PassError, Patch};
use crate::ops::Op;
use crate::{Graph, NodeId};

/// Moves an added constant into the bias of the layer before it; a `MatMul` takes part once it is a `Gemm`.
pub struct FuseBias;

impl Pass for FuseBias {
    fn name(&self) -> &'static str {
        "fuse_bias"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let Op::Add(_) = graph.op(node) else { return Ok(None) };
        let &[a, b] = &graph.node(node).inputs[..] else { return Ok(None) };
        let (value, constant) = if graph.initializer(b).is_some() { (a, b) } else { (b, a) };
        let Some(tensor) = graph.initializer(constant) else { return Ok(None) };
        let Some(layer) = Layer::behind(graph, value) else { return Ok(None) };
        let Some(shift) = per_channel(tensor, layer.rank(), layer.channels()) else { return Ok(None) };
        if let Some(as_it_is) = layer.take_bias(node, constant) {
            return Ok(Some(as_it_is));
        }
        Ok(Some(layer.absorb(node, &Affine { scale: None, shift: Some(shift) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn a_constant_in_the_form_of_a_bias_is_used_as_it_is() {
        check(
            FuseBias,
            "x = input f32[2,5]
             a = Gemm(x, w[3,5])
             y = Add(a, b[3])",
            "x = input f32[2,5]
             y = Gemm(x, w[3,5], b[3])",
        );
    }

    #[test]
    fn a_bias_grows_by_the_constant_on_either_side() {
        check(
            FuseBias,
            "x = input f32[1,2,4,4]
             a = Conv(x, w[3,2,3,3], b[3])
             y = Add(c[3,1,1], a)",
            "x = input f32[1,2,4,4]
             y = Conv(x, w[3,2,3,3], b'[3])",
        );
    }

    #[test]
    fn a_scalar_is_added_to_every_channel() {
        check(
            FuseBias,
            "x = input f32[1,2,4,4]
             a = Conv(x, w[3,2,1,1])
             y = Add(a, c[1])",
            "x = input f32[1,2,4,4]
             y = Conv(x, w[3,2,1,1], y.bias[3])",
        );
    }

    #[test]
    fn a_constant_that_varies_along_pixels_stays() {
        check_unchanged(
            FuseBias,
            "x = input f32[1,2,3,3]
             a = Conv(x, w[3,2,1,1])
             y = Add(a, c[3])",
        );
    }

    #[test]
    fn a_layer_read_twice_stays() {
        check_unchanged(
            FuseBias,
            "x = input f32[2,3]
             a = Gemm(x, w[3,3])
             s = Add(a, b[3])
             y = Mul(a, s)",
        );
    }
}
