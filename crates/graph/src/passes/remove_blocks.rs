//! Blocks leave the network: whoever read the block's result reads its input instead.

use std::collections::BTreeSet;

use super::{Pass, PassError, Patch, Rewritten, apply};
use crate::blocks::{Block, Obstacle, block_at, blocks};
use crate::ops::Op;
use crate::{Graph, NodeId};

/// Short-circuits the blocks of these names.
///
/// The branch and its addition go. The activation after them stays, unless the input comes out of the same activation
/// already: `relu(relu(x)) = relu(x)`, and clipping twice at the same bounds is clipping once.
pub struct RemoveBlocks {
    /// [`Block::name`] of each.
    pub names: BTreeSet<String>,
}

/// Why blocks cannot be removed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BlockError {
    /// No block has that number.
    #[error("there is no block {index}: the network has {count} blocks, counted from 0")]
    Unknown {
        /// The number asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The block must stay.
    #[error("block {index} (`{name}`) cannot be removed: {obstacle}")]
    Fixed {
        /// Number of the block.
        index: usize,
        /// Its name.
        name: String,
        /// The reason.
        obstacle: Obstacle,
    },
    /// The graph is not valid.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// `graph` without the blocks of these numbers, which are positions in [`blocks`]; survivors keep their values.
///
/// The order of `numbers` does not matter, and naming a block twice is naming it once.
///
/// # Errors
/// [`BlockError::Unknown`] and [`BlockError::Fixed`] name the first number that cannot go.
pub fn remove_blocks(graph: Graph, numbers: &[usize]) -> Result<Rewritten, BlockError> {
    let all = blocks(&graph).map_err(PassError::from)?;
    let mut names = BTreeSet::new();
    for &index in numbers {
        let Some(Block { name, obstacle, .. }) = all.get(index) else {
            return Err(BlockError::Unknown { index, count: all.len() });
        };
        if let Some(obstacle) = obstacle.clone() {
            return Err(BlockError::Fixed { index, name: name.clone(), obstacle });
        }
        names.insert(name.clone());
    }
    Ok(apply(graph, &[&RemoveBlocks { names }])?)
}

impl Pass for RemoveBlocks {
    fn name(&self) -> &'static str {
        "remove_blocks"
    }

    fn rewrite(&self, graph: &Graph, id: NodeId) -> Result<Option<Patch>, PassError> {
        if !self.names.contains(graph.name(graph.node(id).output)) {
            return Ok(None);
        }
        let Some(block) = block_at(graph, id)?.filter(Block::is_removable) else { return Ok(None) };
        let mut patch = Patch::new(graph);
        patch.redirect(block.exit, block.entry);
        let before = graph.producer(block.entry).map(|producer| graph.op(producer));
        for reader in graph.readers(block.exit) {
            let reader = graph.node(reader);
            let same = before.is_some_and(|op| is_idempotent(op) && *op == reader.op);
            if same && !graph.outputs().contains(&reader.output) {
                patch.redirect(reader.output, block.entry);
            }
        }
        patch.note(format!("{} nodes, {} parameters", block.branch.len(), block.parameters));
        Ok(Some(patch))
    }
}

fn is_idempotent(op: &Op) -> bool {
    matches!(op, Op::Relu(_) | Op::Clip(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{assert_same_text, feeds};

    const TWO: &str = "x = input f32[1,2,4,4]
        a = Relu(x)
        c = Conv(a, w[2,2,3,3]) pad=1
        s = Add(c, a)
        r = Relu(s)
        d = Conv(r, v[2,2,3,3]) pad=1
        t = Add(r, d)
        y = Relu(t)";

    #[test]
    fn the_branch_goes_and_one_of_two_activations() {
        let without = remove_blocks(Graph::parse(TWO).unwrap(), &[0]).unwrap();
        let expected = "x = input f32[1,2,4,4]
            a = Relu(x)
            d = Conv(a, v[2,2,3,3]) pad=1
            t = Add(a, d)
            y = Relu(t)";
        assert_same_text(&without.graph, expected);
        assert_eq!(without.steps.len(), 1);
    }

    #[test]
    fn an_activation_that_is_an_output_stays_and_so_does_the_only_one() {
        let without = remove_blocks(Graph::parse(TWO).unwrap(), &[1, 0, 1]).unwrap();
        assert_same_text(&without.graph, "x = input f32[1,2,4,4]\na = Relu(x)\ny = Relu(a)");
        let plain = TWO.replace("a = Relu(x)", "a = Sigmoid(x)");
        let without = remove_blocks(Graph::parse(&plain).unwrap(), &[0]).unwrap();
        assert!(without.graph.to_text().contains("r = Relu(a)"), "{}", without.graph.to_text());
    }

    #[test]
    fn a_block_that_must_stay_is_named_with_the_reason() {
        let strided = "x = input f32[1,2,4,4]
            c = Conv(x, w[4,2,3,3]) pad=1 stride=2
            p = Conv(x, q[4,2,1,1]) stride=2
            s = Add(c, p)
            y = Relu(s)";
        let refused = |numbers: &[usize]| remove_blocks(Graph::parse(strided).unwrap(), numbers).unwrap_err();
        assert_eq!(
            refused(&[0]).to_string(),
            "block 0 (`s`) cannot be removed: it turns f32[1,2,4,4] into f32[1,4,2,2]"
        );
        assert_eq!(refused(&[3]).to_string(), "there is no block 3: the network has 1 blocks, counted from 0");
    }

    #[test]
    fn a_chain_link_goes_with_its_batch_norm_and_activation() {
        let chain = "x = input f32[1,2,4,4]
            a = Conv(x, w[3,2,3,3]) pad=1
            b = Relu(a)
            c = Conv(b, v[3,3,3,3]) pad=1
            n = BatchNorm(c, g[3], s[3], m[3], q[3])
            d = Relu(n)
            y = GlobalAveragePool(d)";
        let graph = Graph::parse(chain).unwrap();
        let without = remove_blocks(graph, &[1]).unwrap().graph;
        assert_same_text(
            &without,
            "x = input f32[1,2,4,4]\na = Conv(x, w[3,2,3,3]) pad=1\nb = Relu(a)\ny = GlobalAveragePool(b)",
        );
        assert!(without.eval(&feeds(&without, 1)).is_ok());
    }
}
