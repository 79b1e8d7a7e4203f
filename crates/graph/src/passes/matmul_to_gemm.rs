//! `MatMul` of a matrix by a constant matrix becomes `Gemm`, whose weight is `[out, in]`.

use super::{Pass, PassError, Patch};
use crate::ops::{Gemm, Op, Transpose};
use crate::{Graph, GraphError, NodeId};

/// Turns a fully connected layer that is spelt as a matrix product into the one form that is trained and pruned.
pub struct MatMulToGemm;

impl Pass for MatMulToGemm {
    fn name(&self) -> &'static str {
        "matmul_to_gemm"
    }

    fn rewrite(&self, graph: &Graph, id: NodeId) -> Result<Option<Patch>, PassError> {
        let node = graph.node(id);
        let Op::MatMul(_) = node.op else { return Ok(None) };
        let &[x, weight] = &node.inputs[..] else { return Ok(None) };
        let Some(matrix) = graph.initializer(weight).filter(|t| t.shape.len() == 2) else { return Ok(None) };
        if graph.facts()?[&x].rank() != 2 {
            return Ok(None);
        }
        let turned = Op::from(Transpose { order: vec![1, 0] }).eval(&[matrix]);
        let turned = turned.map_err(|source| GraphError::Node {
            node: graph.name(node.output).into(),
            op: "Transpose",
            source,
        })?;
        let mut patch = Patch::new(graph);
        let weight = patch.constant(graph.name(weight), turned);
        patch.replace(id, Gemm, &[x, weight]);
        Ok(Some(patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn the_weight_is_turned_over() {
        check(
            MatMulToGemm,
            "x = input f32[2,5]
             y = MatMul(x, w[5,3])",
            "x = input f32[2,5]
             y = Gemm(x, w'[3,5])",
        );
    }

    #[test]
    fn products_of_values_and_of_batches_stay() {
        check_unchanged(MatMulToGemm, "x = input f32[2,5]\nz = input f32[5,3]\ny = MatMul(x, z)");
        check_unchanged(MatMulToGemm, "x = input f32[1,2,5]\ny = MatMul(x, w[5,3])");
        check_unchanged(MatMulToGemm, "x = input f32[5,3]\ny = MatMul(w[2,5], x)");
    }
}
