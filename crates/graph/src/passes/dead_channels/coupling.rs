//! Which channels of which values must be removed together.

use std::collections::HashMap;

use crate::ops::{ChannelFlow, Op};
use crate::{Fact, Graph, Node, Role, Tensor, ValueId};

/// How a node ties the channels of its data inputs to those of its output, once constants are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Coupling {
    /// Channel `c` of every value read is channel `c` of the output.
    Same,
    /// A Conv or Gemm with constant parameters that mixes all channels: inputs and outputs are free of each other.
    Mixes,
    /// A Conv with constant parameters and several groups: a group goes as a whole, inputs and outputs.
    Groups(usize),
    /// Channel `c` becomes this many consecutive channels.
    Spreads(usize),
    /// The channels of the inputs follow one another.
    Concatenates,
    /// No channel in or out can be removed.
    Fixed,
}

/// Number of channels of a value.
pub(super) fn channels(fact: &Fact) -> usize {
    fact.shape.get(1).copied().unwrap_or(0)
}

/// The constants a Conv or Gemm reads, when all its parameters are constant.
pub(super) fn parameters<'a>(graph: &'a Graph, node: &Node) -> Option<(&'a Tensor, Option<&'a Tensor>)> {
    let weight = graph.initializer(*node.inputs.get(1)?)?;
    match node.inputs.get(2) {
        Some(bias) => Some((weight, Some(graph.initializer(*bias)?))),
        None => Some((weight, None)),
    }
}

/// The values, not constants, that a node reads as data.
pub(super) fn data_inputs<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = ValueId> + 'a {
    let data = node.inputs.iter().enumerate().filter(|(i, _)| node.op.role(*i) == Role::Data);
    data.map(|(_, id)| *id).filter(|id| graph.initializer(*id).is_none())
}

pub(super) fn coupling(graph: &Graph, facts: &HashMap<ValueId, Fact>, node: &Node) -> Coupling {
    let inputs: Vec<&Fact> = node.inputs.iter().map(|id| &facts[id]).collect();
    let output = &facts[&node.output];
    let is_constant = |id: &ValueId| graph.initializer(*id).is_some();
    let reads_constant_data = match node.op {
        Op::Add(_) | Op::Mul(_) => node.inputs.iter().all(is_constant),
        _ => node.inputs.iter().enumerate().any(|(i, id)| node.op.role(i) == Role::Data && is_constant(id)),
    };
    let reads_computed_parameter =
        node.inputs.iter().enumerate().any(|(i, id)| node.op.role(i) != Role::Data && !is_constant(id));
    if reads_constant_data || reads_computed_parameter {
        return Coupling::Fixed;
    }
    match node.op.channel_flow(&inputs) {
        ChannelFlow::Same => {
            let mut values = data_inputs(graph, node).map(|id| &facts[&id]);
            let alike = values.all(|f| f.rank() == output.rank() && channels(f) == channels(output));
            if alike { Coupling::Same } else { Coupling::Fixed }
        }
        ChannelFlow::Mixes { groups: 1 } => Coupling::Mixes,
        ChannelFlow::Mixes { groups } => Coupling::Groups(groups),
        ChannelFlow::Spreads { factor } => Coupling::Spreads(factor),
        ChannelFlow::Concatenates => Coupling::Concatenates,
        ChannelFlow::Blocks => Coupling::Fixed,
    }
}

/// Every channel of every value as one number, and the sets of them that go together.
pub(super) struct Classes {
    first: HashMap<ValueId, usize>,
    parent: Vec<usize>,
}

impl Classes {
    /// The channels of all inputs and node outputs, tied by every node's coupling.
    pub fn of(graph: &Graph, facts: &HashMap<ValueId, Fact>, couplings: &[Coupling]) -> Self {
        let mut classes = Classes { first: HashMap::new(), parent: vec![] };
        let values = graph.inputs().iter().map(|(id, _)| *id).chain(graph.nodes().map(|(_, n)| n.output));
        for id in values {
            classes.first.insert(id, classes.parent.len());
            let next = classes.parent.len()..classes.parent.len() + channels(&facts[&id]);
            classes.parent.extend(next);
        }
        for ((_, node), coupling) in graph.nodes().zip(couplings) {
            for (input, output) in ties(graph, facts, node, *coupling) {
                classes.unite(input, output);
            }
        }
        classes
    }

    /// Number of channel `c` of `value`.
    pub fn channel(&self, value: ValueId, c: usize) -> usize {
        self.first[&value] + c
    }

    /// Number of channels in all.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// The channel that stands for the set of `channel`.
    pub fn class(&self, mut channel: usize) -> usize {
        while self.parent[channel] != channel {
            channel = self.parent[channel];
        }
        channel
    }

    fn unite(&mut self, a: (ValueId, usize), b: (ValueId, usize)) {
        let (a, b) = (self.class(self.channel(a.0, a.1)), self.class(self.channel(b.0, b.1)));
        // The lower number stands for both: chains stay short because nodes come in order.
        self.parent[a.max(b)] = a.min(b);
    }
}

/// Pairs of (value, channel) that go together.
fn ties(
    graph: &Graph,
    facts: &HashMap<ValueId, Fact>,
    node: &Node,
    coupling: Coupling,
) -> Vec<((ValueId, usize), (ValueId, usize))> {
    let out = node.output;
    let count = |id: &ValueId| channels(&facts[id]);
    let mut pairs = vec![];
    match coupling {
        Coupling::Same => {
            for id in data_inputs(graph, node) {
                pairs.extend((0..count(&out)).map(|c| ((id, c), (out, c))));
            }
        }
        Coupling::Groups(groups) => {
            let x = node.inputs[0];
            let (per_in, per_out) = (count(&x) / groups, count(&out) / groups);
            for group in 0..groups {
                pairs.extend((0..per_in).map(|i| ((x, group * per_in + i), (out, group * per_out))));
                pairs.extend((1..per_out).map(|o| ((out, group * per_out + o), (out, group * per_out))));
            }
        }
        Coupling::Spreads(factor) => {
            let x = node.inputs[0];
            pairs.extend((0..count(&out)).map(|o| ((x, o / factor), (out, o))));
        }
        Coupling::Concatenates => {
            let mut at = 0;
            for id in &node.inputs {
                pairs.extend((0..count(id)).map(|c| ((*id, c), (out, at + c))));
                at += count(id);
            }
        }
        Coupling::Mixes | Coupling::Fixed => {}
    }
    pairs
}
