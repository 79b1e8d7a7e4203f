//! A convolution with the batch norm and the activation after it.

use std::collections::BTreeSet;

use super::{Block, BlockKind, View};
use crate::NodeId;
use crate::ops::Op;

/// The chain link that ends in `node`.
pub(super) fn at(view: &View, node: NodeId) -> Option<Block> {
    if goes_on(view, node) {
        return None;
    }
    let mut nodes = BTreeSet::from([node]);
    let mut first = node;
    while !matches!(view.graph.op(first), Op::Conv(_)) {
        if !belongs(view.graph.op(first)) {
            return None;
        }
        first = view.graph.sole_producer(first, |op| belongs(op) || matches!(op, Op::Conv(_)))?;
        nodes.insert(first);
    }
    if !view.is_weighted(first) {
        return None;
    }
    let entry = view.data_inputs(first).next()?;
    Some(view.block(BlockKind::Chain, (entry, view.graph.node(node).output), nodes, BTreeSet::new()))
}

/// Whether the only reader of `node` belongs to the same link.
fn goes_on(view: &View, node: NodeId) -> bool {
    let output = view.graph.node(node).output;
    match view.readers.get(&output).map(Vec::as_slice) {
        Some([reader]) => belongs(view.graph.op(*reader)) && view.graph.sole_producer(*reader, |_| true) == Some(node),
        _ => false,
    }
}

fn belongs(op: &Op) -> bool {
    matches!(
        op,
        Op::BatchNorm(_)
            | Op::Relu(_)
            | Op::LeakyRelu(_)
            | Op::Clip(_)
            | Op::Silu(_)
            | Op::HardSwish(_)
            | Op::HardSigmoid(_)
            | Op::Sigmoid(_)
    )
}
