//! Which channels always have one value, and which nobody needs.

use std::collections::HashMap;

use super::coupling::{Classes, Coupling, channels, coupling, data_inputs, parameters};
use crate::ops::Op;
use crate::passes::affine::per_channel;
use crate::{Fact, Graph, GraphError, Node, Tensor, ValueId};

/// What is known about every channel of a graph.
pub(super) struct Liveness {
    /// Shape of every value.
    pub facts: HashMap<ValueId, Fact>,
    /// How each node ties channels.
    pub couplings: Vec<Coupling>,
    /// The number every element of a channel has, per value and channel; absent for values without channels.
    pub constant: HashMap<ValueId, Vec<Option<f32>>>,
    /// Whether a channel of a value goes.
    pub removed: HashMap<ValueId, Vec<bool>>,
}

impl Liveness {
    pub fn of(graph: &Graph) -> Result<Self, GraphError> {
        let facts = graph.facts()?;
        let couplings: Vec<Coupling> = graph.nodes().map(|(_, n)| coupling(graph, &facts, n)).collect();
        let classes = Classes::of(graph, &facts, &couplings);
        let constant = constants(graph, &facts, &couplings);
        let needed = needs(graph, &facts, &couplings, &constant);
        let removed = removals(graph, &facts, &couplings, &classes, &constant, &needed);
        Ok(Liveness { facts, couplings, constant, removed })
    }
}

/// Which channels of every computed value make a difference to an output, going by which weights are zero.
///
/// A rewrite may change the others at will.
///
/// # Errors
/// As [`Graph::facts`].
pub fn needed_channels(graph: &Graph) -> Result<HashMap<ValueId, Vec<bool>>, GraphError> {
    let facts = graph.facts()?;
    let couplings: Vec<Coupling> = graph.nodes().map(|(_, n)| coupling(graph, &facts, n)).collect();
    let constant = constants(graph, &facts, &couplings);
    Ok(needs(graph, &facts, &couplings, &constant))
}

type PerChannel<T> = HashMap<ValueId, Vec<T>>;

/// Forward: channels whose every element is one known number whatever the input is.
fn constants(graph: &Graph, facts: &HashMap<ValueId, Fact>, couplings: &[Coupling]) -> PerChannel<Option<f32>> {
    let mut known: PerChannel<Option<f32>> = HashMap::new();
    for (id, fact) in graph.inputs() {
        known.insert(*id, vec![None; channels(fact)]);
    }
    for ((_, node), coupling) in graph.nodes().zip(couplings) {
        let count = channels(&facts[&node.output]);
        let output = match *coupling {
            Coupling::Same => (0..count).map(|c| same_constant(graph, facts, node, c, &known)).collect(),
            Coupling::Mixes => mixed_constants(graph, node, 1, &known),
            Coupling::Groups(groups) => mixed_constants(graph, node, groups, &known),
            Coupling::Spreads(factor) => (0..count).map(|o| known[&node.inputs[0]][o / factor]).collect(),
            Coupling::Concatenates => node.inputs.iter().flat_map(|id| known[id].clone()).collect(),
            Coupling::Fixed => vec![None; count],
        };
        known.insert(node.output, output);
    }
    known
}

/// The number that channel `c` of a channel-wise node always has.
fn same_constant(
    graph: &Graph,
    facts: &HashMap<ValueId, Fact>,
    node: &Node,
    c: usize,
    known: &PerChannel<Option<f32>>,
) -> Option<f32> {
    let rank = facts[&node.output].rank();
    let operand = |id: &ValueId| match graph.initializer(*id) {
        Some(t) => per_channel(t, rank, channels(&facts[&node.output])).map(|v| v[c] as f32),
        None => known[id][c],
    };
    let alone = |inputs: &[f32]| {
        let single: Vec<Tensor> = inputs.iter().map(|v| Tensor::new([1, 1], vec![*v])).collect();
        Some(node.op.eval(&single.iter().collect::<Vec<_>>()).ok()?.data[0])
    };
    let first = node.inputs.first().and_then(operand);
    match &node.op {
        Op::Add(_) => alone(&[first?, operand(&node.inputs[1])?]),
        Op::Mul(_) => {
            let second = operand(&node.inputs[1]);
            if first == Some(0.0) || second == Some(0.0) { Some(0.0) } else { alone(&[first?, second?]) }
        }
        Op::BatchNorm(norm) => {
            let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|i| graph.initializer(node.inputs[i]));
            let at = |t: Option<&Tensor>| Some(f64::from(t?.data[c]));
            let (gamma, beta) = (at(gamma)?, at(beta)?);
            if gamma == 0.0 {
                return Some(beta as f32);
            }
            let deviation = (at(variance)? + f64::from(norm.epsilon)).sqrt();
            Some((gamma * (f64::from(first?) - at(mean)?) / deviation + beta) as f32)
        }
        Op::Clip(_)
        | Op::Dropout(_)
        | Op::HardSigmoid(_)
        | Op::HardSwish(_)
        | Op::Identity(_)
        | Op::LeakyRelu(_)
        | Op::Relu(_)
        | Op::Sigmoid(_)
        | Op::Silu(_) => alone(&[first?]),
        Op::GlobalAveragePool(_) | Op::MaxPool(_) | Op::Reshape(_) | Op::Slice(_) | Op::Transpose(_) => first,
        Op::AveragePool(pool) => first.filter(|v| *v == 0.0 || !pool.count_include_pad || pool.pads == [0; 4]),
        Op::Pad(pad) => first.filter(|v| *v == pad.value || pad.amounts.iter().all(|a| *a == (0, 0))),
        Op::Concat(_) => {
            let every: Option<Vec<f32>> = node.inputs.iter().map(operand).collect();
            every.filter(|v| v.iter().all(|x| *x == v[0])).map(|v| v[0])
        }
        Op::Conv(_) | Op::Flatten(_) | Op::Gemm(_) | Op::MatMul(_) | Op::Softmax(_) => None,
    }
}

/// Whether zeros around the input take part, so that a constant is not one near the border.
pub(super) fn has_border(op: &Op) -> bool {
    matches!(op, Op::Conv(conv) if conv.pads != [0; 4])
}

/// Output channels of a Conv or Gemm that read only zeros and constants.
fn mixed_constants(graph: &Graph, node: &Node, groups: usize, known: &PerChannel<Option<f32>>) -> Vec<Option<f32>> {
    let Some((weight, bias)) = parameters(graph, node) else { return vec![] };
    let (outputs, per_group) = (weight.shape[0], weight.shape[1]);
    let sum_of = |o: usize| {
        let mut sum = bias.map_or(0.0, |b| f64::from(b.data[o]));
        for i in 0..per_group {
            let taps = taps(weight, o, i);
            if taps.iter().any(|w| *w != 0.0) {
                let group = o / (outputs / groups);
                let value = known[&node.inputs[0]][group * per_group + i]?;
                if value != 0.0 && has_border(&node.op) {
                    return None;
                }
                sum += taps.iter().map(|w| f64::from(*w)).sum::<f64>() * f64::from(value);
            }
        }
        Some(sum as f32)
    };
    (0..outputs).map(sum_of).collect()
}

/// The weights from input `i` of the group to output `o`.
pub(super) fn taps(weight: &Tensor, o: usize, i: usize) -> &[f32] {
    let run: usize = weight.shape[2..].iter().product();
    &weight.data[(o * weight.shape[1] + i) * run..][..run]
}

/// Backward: channels that something reads and that make a difference to an output.
fn needs(
    graph: &Graph,
    facts: &HashMap<ValueId, Fact>,
    couplings: &[Coupling],
    constant: &PerChannel<Option<f32>>,
) -> PerChannel<bool> {
    let mut needed: PerChannel<bool> = constant.iter().map(|(id, c)| (*id, vec![false; c.len()])).collect();
    for id in graph.outputs() {
        if let Some(all) = needed.get_mut(id) {
            all.fill(true);
        }
    }
    for ((_, node), coupling) in graph.nodes().zip(couplings).rev() {
        let output = needed[&node.output].clone();
        let mut need = |id: ValueId, c: usize| needed.get_mut(&id).expect("data inputs are computed values")[c] = true;
        let live = (0..output.len()).filter(|o| output[*o]);
        match *coupling {
            // A channel that is a known number does not need what it is computed from: both go together.
            Coupling::Same => {
                for c in live.filter(|c| constant[&node.output][*c].is_none()) {
                    data_inputs(graph, node).for_each(|id| need(id, c));
                }
            }
            Coupling::Mixes | Coupling::Groups(_) => {
                let groups = if let Coupling::Groups(groups) = coupling { *groups } else { 1 };
                let Some((weight, _)) = parameters(graph, node) else { continue };
                let per_group = weight.shape[1];
                for o in live {
                    let start = o / (output.len() / groups) * per_group;
                    let read = (0..per_group).filter(|i| taps(weight, o, *i).iter().any(|w| *w != 0.0));
                    read.for_each(|i| need(node.inputs[0], start + i));
                }
            }
            Coupling::Spreads(factor) => live.for_each(|o| need(node.inputs[0], o / factor)),
            Coupling::Concatenates => {
                let sources = node.inputs.iter().flat_map(|id| (0..channels(&facts[id])).map(move |c| (*id, c)));
                sources.enumerate().filter(|(o, _)| output[*o]).for_each(|(_, (id, c))| need(id, c));
            }
            Coupling::Fixed => {
                for id in node.inputs.iter().filter(|id| constant.contains_key(id)) {
                    (0..channels(&facts[id])).for_each(|c| need(*id, c));
                }
            }
        }
    }
    needed
}

/// A set of tied channels goes when each of them is unneeded, or a number that every reader can take into its bias.
fn removals(
    graph: &Graph,
    facts: &HashMap<ValueId, Fact>,
    couplings: &[Coupling],
    classes: &Classes,
    constant: &PerChannel<Option<f32>>,
    needed: &PerChannel<bool>,
) -> PerChannel<bool> {
    let mut goes = vec![true; classes.len()];
    let mut stays = |value: ValueId, c: usize| goes[classes.class(classes.channel(value, c))] = false;
    let mut bordered: HashMap<ValueId, bool> = HashMap::new();
    for ((_, node), coupling) in graph.nodes().zip(couplings) {
        if *coupling == Coupling::Mixes {
            *bordered.entry(node.inputs[0]).or_default() |= has_border(&node.op);
        }
        if *coupling == Coupling::Fixed {
            for id in node.inputs.iter().chain([&node.output]).filter(|id| constant.contains_key(id)) {
                (0..channels(&facts[id])).for_each(|c| stays(*id, c));
            }
        }
    }
    for id in graph.inputs().iter().map(|(id, _)| id).chain(graph.outputs()).filter(|id| constant.contains_key(id)) {
        (0..channels(&facts[id])).for_each(|c| stays(*id, c));
    }
    for (id, values) in constant {
        let border = bordered.get(id).copied().unwrap_or(false);
        for (c, value) in values.iter().enumerate() {
            let folds = value.is_some_and(|v| v.is_finite() && (v == 0.0 || !border));
            if needed[id][c] && !folds {
                stays(*id, c);
            }
        }
    }
    // A value keeps its first channel when all would go: no op works on nothing.
    let values: Vec<ValueId> = graph.nodes().map(|(_, n)| n.output).filter(|id| !constant[id].is_empty()).collect();
    let class = |id: ValueId, c: usize| classes.class(classes.channel(id, c));
    while let Some(id) = values.iter().find(|id| (0..constant[id].len()).all(|c| goes[class(**id, c)])) {
        goes[class(*id, 0)] = false;
    }
    constant.iter().map(|(id, v)| (*id, (0..v.len()).map(|c| goes[class(*id, c)]).collect())).collect()
}
