//! `x * Sigmoid(x)` becomes `Silu(x)`.

use super::{Pass, PassError, Patch};
use crate::ops::{Op, Silu};
use crate::{Graph, NodeId};

/// Recognises SiLU, which files spell as a Sigmoid and a Mul.
pub struct FuseSilu;

impl Pass for FuseSilu {
    fn name(&self) -> &'static str {
        "fuse_silu"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let Op::Mul(_) = graph.op(node) else { return Ok(None) };
        let &[a, b] = &graph.node(node).inputs[..] else { return Ok(None) };
        let gates = |gate, x| {
            let Some(producer) = graph.producer(gate) else { return false };
            matches!(graph.op(producer), Op::Sigmoid(_)) && graph.node(producer).inputs == [x] && graph.uses(gate) == 1
        };
        let x = if gates(b, a) {
            a
        } else if gates(a, b) {
            b
        } else {
            return Ok(None);
        };
        let mut patch = Patch::new(graph);
        patch.replace(node, Silu, &[x]);
        Ok(Some(patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    #[test]
    fn both_orders_are_recognised() {
        let after = "x = input f32[1,5]\ny = Silu(x)";
        check(FuseSilu, "x = input f32[1,5]\ns = Sigmoid(x)\ny = Mul(x, s)", after);
        check(FuseSilu, "x = input f32[1,5]\ns = Sigmoid(x)\ny = Mul(s, x)", after);
    }

    #[test]
    fn a_gate_on_another_value_and_a_shared_gate_stay() {
        check_unchanged(FuseSilu, "x = input f32[1,5]\nz = input f32[1,5]\ns = Sigmoid(z)\ny = Mul(x, s)");
        check_unchanged(FuseSilu, "x = input f32[1,5]\ns = Sigmoid(x)\ny = Mul(x, s)\noutput y, s");
    }
}
