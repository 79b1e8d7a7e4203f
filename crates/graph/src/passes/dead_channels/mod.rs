//! Hidden units and convolution channels that no longer carry information are removed.
//!
//! A channel is dead when all its incoming weights are zero, so that it always has one value, or when all its outgoing
//! weights are zero, so that nobody needs it. The one value goes through channel-wise ops and into the bias of the
//! layers that read it; a layer that pads its input with zeros takes only a zero. Channels that meet in an addition,
//! a flattening, a concatenation or a group are removed together or not at all.
//!
//! Source: Han, Pool, Tran, Dally 2015, "Learning both Weights and Connections" (arXiv:1506.02626), section 3.5.

mod coupling;
mod liveness;

use coupling::{Coupling, parameters};
pub use liveness::needed_channels;
use liveness::{Liveness, taps};

use super::{Pass, PassError, Patch};
use crate::ops::{Flatten, Op, Reshape, aligned_axis};
use crate::{Graph, Node, NodeId, Role, Tensor, ValueId};

/// Removes dead channels of the whole graph at once; the patch belongs to the first Conv or Gemm.
pub struct DropDeadChannels;

impl Pass for DropDeadChannels {
    fn name(&self) -> &'static str {
        "drop_dead_channels"
    }

    fn rewrite(&self, graph: &Graph, node: NodeId) -> Result<Option<Patch>, PassError> {
        let first = graph.nodes().find(|(_, n)| matches!(n.op, Op::Conv(_) | Op::Gemm(_)));
        if first.is_none_or(|(id, _)| id != node) {
            return Ok(None);
        }
        let liveness = Liveness::of(graph)?;
        if !liveness.removed.values().flatten().any(|gone| *gone) {
            return Ok(None);
        }
        let mut patch = Patch::new(graph);
        let mut notes = vec![];
        for ((id, node), coupling) in graph.nodes().zip(&liveness.couplings) {
            shrink(graph, &liveness, id, *coupling, &mut patch);
            let gone = &liveness.removed[&node.output];
            let left = gone.iter().filter(|g| !**g).count();
            if matches!(coupling, Coupling::Mixes | Coupling::Groups(_)) && left < gone.len() {
                notes.push(format!("{}: {} -> {left}", graph.name(node.output), gone.len()));
            }
        }
        patch.note(notes.join(", "));
        Ok(Some(patch))
    }
}

/// Replaces one node by its smaller self where a channel in or out goes.
fn shrink(graph: &Graph, liveness: &Liveness, id: NodeId, coupling: Coupling, patch: &mut Patch) {
    let node = graph.node(id);
    let gone = |value| liveness.removed.get(value).is_some_and(|g| g.contains(&true));
    if !gone(&node.output) && !node.inputs.iter().any(gone) {
        return;
    }
    let (op, inputs) = match coupling {
        Coupling::Mixes => (node.op.clone(), shrunk_layer(graph, liveness, node, patch)),
        Coupling::Groups(groups) => shrunk_groups(graph, liveness, node, groups, patch),
        Coupling::Same => (shrunk_op(liveness, node), shrunk_operands(graph, liveness, node, patch)),
        Coupling::Spreads(_) => (Flatten { axis: 1 }.into(), node.inputs.clone()),
        Coupling::Concatenates | Coupling::Fixed => return,
    };
    patch.replace(id, op, &inputs);
}

fn kept(gone: &[bool]) -> Vec<usize> {
    (0..gone.len()).filter(|c| !gone[*c]).collect()
}

/// Rows and columns of a layer's weight, and the constants of removed inputs in its bias.
fn shrunk_layer(graph: &Graph, liveness: &Liveness, node: &Node, patch: &mut Patch) -> Vec<ValueId> {
    let (weight, bias) = parameters(graph, node).expect("the coupling of a layer says its parameters are constant");
    let x = node.inputs[0];
    let (gone, constant) = (&liveness.removed[&x], &liveness.constant[&x]);
    let (rows, columns) = (kept(&liveness.removed[&node.output]), kept(gone));
    let mut shape = weight.shape.clone();
    (shape[0], shape[1]) = (rows.len(), columns.len());
    let mut data = Vec::with_capacity(shape.iter().product());
    let mut shifts = Vec::with_capacity(rows.len());
    for &o in &rows {
        columns.iter().for_each(|i| data.extend_from_slice(taps(weight, o, *i)));
        let folded = (0..gone.len()).filter(|i| gone[*i]).map(|i| {
            let sum: f64 = taps(weight, o, i).iter().map(|w| f64::from(*w)).sum();
            sum * f64::from(constant[i].filter(|v| v.is_finite()).unwrap_or(0.0))
        });
        shifts.push(bias.map_or(0.0, |b| f64::from(b.data[o])) + folded.sum::<f64>());
    }
    let mut inputs = vec![x, patch.constant(graph.name(node.inputs[1]), Tensor::new(shape, data))];
    if bias.is_some() || shifts.iter().any(|s| *s != 0.0) {
        let made_up = format!("{}.bias", graph.name(node.output));
        let name = node.inputs.get(2).map_or(made_up, |id| graph.name(*id).to_string());
        let shifts: Vec<f32> = shifts.into_iter().map(|s| s as f32).collect();
        inputs.push(patch.constant(&name, Tensor::new([rows.len()], shifts)));
    }
    inputs
}

/// The groups of a grouped convolution that stay.
fn shrunk_groups(
    graph: &Graph,
    liveness: &Liveness,
    node: &Node,
    groups: usize,
    patch: &mut Patch,
) -> (Op, Vec<ValueId>) {
    let gone = &liveness.removed[&node.output];
    let rows = kept(gone);
    let mut op = node.op.clone();
    if let Op::Conv(conv) = &mut op {
        conv.groups = rows.len() / (gone.len() / groups);
    }
    let mut inputs = node.inputs[..1].to_vec();
    for id in &node.inputs[1..] {
        let tensor = graph.initializer(*id).expect("the coupling of a layer says its parameters are constant");
        inputs.push(patch.constant(graph.name(*id), along(tensor, 0, &rows)));
    }
    (op, inputs)
}

/// Attributes that spell out the number of channels.
fn shrunk_op(liveness: &Liveness, node: &Node) -> Op {
    match &node.op {
        Op::Reshape(_) => {
            let lengths = liveness.facts[&node.output].shape.iter().skip(2).map(|d| *d as i64);
            Reshape { shape: [0, 0].into_iter().chain(lengths).collect() }.into()
        }
        op => op.clone(),
    }
}

/// Constants with one entry per channel.
fn shrunk_operands(graph: &Graph, liveness: &Liveness, node: &Node, patch: &mut Patch) -> Vec<ValueId> {
    let rank = liveness.facts[&node.output].rank();
    let gone = &liveness.removed[&node.output];
    let shrunk = |(i, id): (usize, &ValueId)| {
        let Some(tensor) = graph.initializer(*id) else { return *id };
        let axis = match node.op.role(i) {
            Role::Data => aligned_axis(tensor.shape.len(), rank, 1),
            _ => Some(0),
        };
        match axis.filter(|axis| tensor.shape[*axis] == gone.len()) {
            Some(axis) => patch.constant(graph.name(*id), along(tensor, axis, &kept(gone))),
            None => *id,
        }
    };
    node.inputs.iter().enumerate().map(shrunk).collect()
}

/// The entries `kept` of one axis.
fn along(tensor: &Tensor, axis: usize, kept: &[usize]) -> Tensor {
    let run: usize = tensor.shape[axis + 1..].iter().product();
    let length = tensor.shape[axis];
    let mut shape = tensor.shape.clone();
    shape[axis] = kept.len();
    let mut data = Vec::with_capacity(shape.iter().product());
    for block in 0..tensor.shape[..axis].iter().product() {
        for i in kept {
            data.extend_from_slice(&tensor.data[(block * length + i) * run..][..run]);
        }
    }
    Tensor::new(shape, data)
}

#[cfg(test)]
mod tests;
