//! A sum of two ways from the same value.

use std::collections::BTreeSet;

use super::{Block, BlockKind, Shortcut, View};
use crate::ops::Op;
use crate::{NodeId, ValueId};

/// The residual block whose addition is `node`.
pub(super) fn at(view: &View, node: NodeId) -> Option<Block> {
    let sum = view.graph.node(node);
    let (Op::Add(_), &[a, b]) = (&sum.op, &sum.inputs[..]) else { return None };
    let is_data = |v: ValueId| view.graph.initializer(v).is_none();
    if a == b || !is_data(a) || !is_data(b) || view.facts[&a] != view.facts[&b] {
        return None;
    }
    let entry = fork(view, a, b)?;
    let sides = [way(view, entry, a), way(view, entry, b)];
    if !sides[0].is_disjoint(&sides[1]) {
        return None;
    }
    let (branch, shortcut, kind) = told_apart(view, sides)?;
    Some(view.block(BlockKind::Residual(kind), (entry, sum.output), branch, shortcut))
}

/// The last value that every way to `a` and to `b` passes through.
fn fork(view: &View, a: ValueId, b: ValueId) -> Option<ValueId> {
    // Inputs of the graph come before every node.
    let key = |v: ValueId| (view.producer.get(&v).map(|id| id.0 + 1), v);
    let mut open = BTreeSet::from([key(a), key(b)]);
    while open.len() > 1 {
        let (_, latest) = open.pop_last()?;
        let producer = *view.producer.get(&latest)?;
        open.extend(view.data_inputs(producer).map(key));
    }
    open.pop_first().map(|(_, value)| value)
}

/// Every node between `entry` and `end`.
fn way(view: &View, entry: ValueId, end: ValueId) -> BTreeSet<NodeId> {
    let mut nodes = BTreeSet::new();
    let mut open = vec![end];
    while let Some(value) = open.pop() {
        let Some(&producer) = view.producer.get(&value).filter(|_| value != entry) else { continue };
        if nodes.insert(producer) {
            open.extend(view.data_inputs(producer));
        }
    }
    nodes
}

/// Branch, shortcut, and what the shortcut is; `None` where no side is one.
fn told_apart(view: &View, [a, b]: [BTreeSet<NodeId>; 2]) -> Option<(BTreeSet<NodeId>, BTreeSet<NodeId>, Shortcut)> {
    let weighted = |side: &BTreeSet<NodeId>| side.iter().filter(|id| view.is_weighted(**id)).count();
    // Fewer weights are the shortcut; between equals, the smaller kernel is.
    let taps = |side: &BTreeSet<NodeId>| {
        let kernels = side.iter().filter(|id| view.is_weighted(**id)).filter_map(|id| {
            let node = view.graph.node(*id);
            view.graph.initializer(*node.inputs.get(1)?).map(|w| w.shape.iter().skip(2).product::<usize>())
        });
        kernels.sum::<usize>()
    };
    let rank = |side: &BTreeSet<NodeId>| (weighted(side), taps(side), side.len());
    let (branch, shortcut) = if rank(&a) > rank(&b) { (a, b) } else { (b, a) };
    if weighted(&branch) == 0 || rank(&branch) == rank(&shortcut) {
        return None;
    }
    let only = |allowed: fn(&Op) -> bool| shortcut.iter().all(|id| allowed(view.graph.op(*id)));
    let kind = match weighted(&shortcut) {
        0 if shortcut.is_empty() => Shortcut::Identity,
        0 if only(is_resizing) => Shortcut::Plain,
        1 if only(|op| matches!(op, Op::Conv(_) | Op::BatchNorm(_)) || is_resizing(op)) => Shortcut::Projection,
        _ => return None,
    };
    Some((branch, shortcut, kind))
}

fn is_resizing(op: &Op) -> bool {
    matches!(op, Op::Slice(_) | Op::Pad(_) | Op::AveragePool(_) | Op::MaxPool(_) | Op::Concat(_) | Op::Identity(_))
}
