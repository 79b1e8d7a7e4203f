//! Nodes that hand on their input unchanged are dropped.

use super::{Pass, PassError, Patch};
use crate::ops::Op;
use crate::{Fact, Graph, NodeId};

/// Drops `Identity`, `Dropout`, and Reshape, Flatten, Pad, Transpose, Slice, Clip and Concat that change nothing.
///
/// One that is a graph output stays where its name could not be kept otherwise.
pub struct DropIdentity {
    /// Whether `Dropout` stays, for training.
    pub keep_dropout: bool,
}

impl Pass for DropIdentity {
    fn name(&self) -> &'static str {
        "drop_identity"
    }

    fn rewrite(&self, graph: &Graph, id: NodeId) -> Result<Option<Patch>, PassError> {
        let node = graph.node(id);
        let &[input] = &node.inputs[..] else { return Ok(None) };
        let droppable = match &node.op {
            Op::Identity(_) => true,
            Op::Dropout(_) => !self.keep_dropout,
            Op::Reshape(_)
            | Op::Flatten(_)
            | Op::Pad(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Clip(_)
            | Op::Concat(_) => changes_nothing(&node.op, &graph.facts()?[&input], &graph.facts()?[&node.output]),
            _ => false,
        };
        if !droppable {
            return Ok(None);
        }
        let mut patch = Patch::new(graph);
        if !graph.outputs().contains(&node.output) {
            patch.redirect(node.output, input);
            return Ok(Some(patch));
        }
        // The output's name stays: the node takes over its producer's work instead.
        let Some(producer) = graph.producer(input).filter(|_| !graph.outputs().contains(&input)) else {
            return Ok(None);
        };
        let producer = graph.node(producer);
        patch.replace(id, producer.op.clone(), &producer.inputs);
        patch.redirect(input, node.output);
        Ok(Some(patch))
    }
}

fn changes_nothing(op: &Op, input: &Fact, output: &Fact) -> bool {
    match op {
        Op::Reshape(_) | Op::Flatten(_) | Op::Concat(_) => input == output,
        Op::Pad(pad) => pad.amounts.iter().all(|a| *a == (0, 0)),
        Op::Transpose(transpose) => transpose.order.iter().copied().eq(0..input.rank()),
        // The batch may be larger when the graph runs, so its axis must be taken to the end.
        Op::Slice(slice) => input == output && slice.ends.first().is_none_or(|end| *end == usize::MAX),
        Op::Clip(clip) => clip.min == f32::NEG_INFINITY && clip.max == f32::INFINITY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{check, check_unchanged};

    const ALL: DropIdentity = DropIdentity { keep_dropout: false };

    #[test]
    fn every_no_op_goes() {
        check(
            ALL,
            "x = input f32[1,3,2,2]
             a = Identity(x)
             b = Dropout(a)
             c = Pad(b) amounts=0:0,0:0,0:0,0:0
             d = Transpose(c) order=0,1,2,3
             e = Slice(d) starts=0,0,0,0 ends=end,3,9,end steps=1,1,1,1
             f = Reshape(e) shape=0,3,2,2
             g = Clip(f)
             h = Concat(g)
             y = Relu(h)",
            "x = input f32[1,3,2,2]
             y = Relu(x)",
        );
    }

    #[test]
    fn an_output_keeps_its_name_and_other_readers_follow() {
        check(
            ALL,
            "x = input f32[1,3]
             a = Relu(x)
             y = Identity(a)
             z = Sigmoid(a)
             output y, z",
            "x = input f32[1,3]
             y = Relu(x)
             z = Sigmoid(y)
             output y, z",
        );
    }

    #[test]
    fn dropout_stays_for_training() {
        check_unchanged(DropIdentity { keep_dropout: true }, "x = input f32[1,3]\nd = Dropout(x)\ny = Relu(d)");
    }

    #[test]
    fn what_changes_something_or_names_an_input_or_output_stays() {
        check_unchanged(ALL, "x = input f32[1,3]\ny = Identity(x)");
        check_unchanged(ALL, "x = input f32[1,3]\na = Relu(x)\ny = Identity(a)\noutput a, y");
        check_unchanged(ALL, "x = input f32[1,3,1]\na = Transpose(x) order=0,2,1\ny = Relu(a)");
        check_unchanged(ALL, "x = input f32[1,3]\na = Slice(x) starts=0,0 ends=1,end steps=1,1\ny = Relu(a)");
    }
}
