//! Nodes that read nothing but constants become constants.

use super::{Pass, PassError, Patch};
use crate::{Graph, GraphError, NodeId};

/// Evaluates nodes whose inputs are all constants, up to [`FoldConstants::MOST_ELEMENTS`] results each.
pub struct FoldConstants;

impl FoldConstants {
    /// A larger result stays computed: storing it would cost more than it saves.
    pub const MOST_ELEMENTS: usize = 1 << 22;
}

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold_constants"
    }

    fn rewrite(&self, graph: &Graph, id: NodeId) -> Result<Option<Patch>, PassError> {
        let node = graph.node(id);
        let constants: Option<Vec<_>> = node.inputs.iter().map(|v| graph.initializer(*v)).collect();
        let Some(constants) = constants.filter(|c| !c.is_empty()) else { return Ok(None) };
        if graph.outputs().contains(&node.output) {
            return Ok(None);
        }
        let blame = |source| GraphError::Node { node: graph.name(node.output).into(), op: node.op.name(), source };
        let facts: Vec<_> = constants.iter().map(|t| t.fact()).collect();
        let fact = node.op.infer(&facts.iter().collect::<Vec<_>>()).map_err(blame)?;
        if fact.elements().is_none_or(|n| n > Self::MOST_ELEMENTS) {
            return Ok(None);
        }
        let mut patch = Patch::new(graph);
        patch.replace_by_constant(id, node.op.eval(&constants).map_err(blame)?);
        Ok(Some(patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn a_chain_of_constants_is_evaluated() {
        check(
            FoldConstants,
            "x = input f32[1,3]
             t = Transpose(w[3,2]) order=1,0
             s = Mul(t, c[1])
             y = Gemm(x, s)",
            "x = input f32[1,3]
             y = Gemm(x, s[2,3])",
        );
    }

    #[test]
    fn an_output_and_a_huge_result_stay_computed() {
        check_unchanged(FoldConstants, "x = input f32[1,3]\na = Relu(x)\nb = Relu(c[3])\noutput a, b");
        check_unchanged(
            FoldConstants,
            "x = input f32[1,1]
             wide = Pad(c[1,1]) amounts=0:0,0:5000000
             cut = Slice(wide) starts=0,0 ends=1,1 steps=1,1
             y = Add(x, cut)",
        );
    }
}
