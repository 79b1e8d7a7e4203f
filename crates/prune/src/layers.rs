//! The prunable set: which weights of a graph may be pruned, and what kind of layer each belongs to.

use std::collections::HashSet;

use sentei_graph::ops::Conv;
use sentei_graph::{Graph, Op, Role};
use serde::{Deserialize, Serialize};

/// What kind of op reads a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Convolution with more than one input channel per filter.
    Conv,
    /// Convolution with one input channel per filter and more than one group.
    Depthwise,
    /// Fully connected.
    Linear,
}

/// One weight of a graph, in graph order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of the weight's initializer.
    pub name: String,
    /// `[out, in/groups, kh, kw]` or `[out, in]`.
    pub shape: Vec<usize>,
    /// What reads it.
    pub kind: LayerKind,
    /// Name of the bias initializer that the same op reads, if any.
    pub bias: Option<String>,
    /// Name of the reading op's output value.
    pub node: String,
}

impl Layer {
    /// Number of weights.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the layer has no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which layers take part; stored with every result, because it moves the reported sparsity by points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunableSet {
    /// The first layer that has weights.
    pub first: bool,
    /// The last layer that has weights, the classifier.
    pub last: bool,
    /// Depthwise convolutions.
    pub depthwise: bool,
}

impl PrunableSet {
    /// Every layer.
    pub const ALL: PrunableSet = PrunableSet { first: true, last: true, depthwise: true };
}

/// Every weight of the graph with role [`Role::Weight`], in the order in which ops first read them.
pub fn layers(graph: &Graph) -> Vec<Layer> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (_, node) in graph.nodes() {
        for (index, value) in node.inputs.iter().enumerate() {
            let Some(tensor) = graph.initializer(*value) else { continue };
            if node.op.role(index) != Role::Weight || !seen.insert(*value) {
                continue;
            }
            let bias = node.inputs.iter().enumerate().find(|(i, _)| node.op.role(*i) == Role::Bias);
            found.push(Layer {
                name: graph.name(*value).to_string(),
                shape: tensor.shape.clone(),
                kind: kind(&node.op, &tensor.shape),
                bias: bias.map(|(_, id)| graph.name(*id).to_string()),
                node: graph.name(node.output).to_string(),
            });
        }
    }
    found
}

/// The layers of [`layers`] that `set` admits, in the same order.
pub fn prunable_layers(graph: &Graph, set: PrunableSet) -> Vec<Layer> {
    let all = layers(graph);
    let last = all.len().saturating_sub(1);
    let admits = |index: usize, layer: &Layer| {
        (set.first || index > 0) && (set.last || index < last) && (set.depthwise || layer.kind != LayerKind::Depthwise)
    };
    all.into_iter().enumerate().filter(|(i, layer)| admits(*i, layer)).map(|(_, layer)| layer).collect()
}

fn kind(op: &Op, shape: &[usize]) -> LayerKind {
    match op {
        Op::Conv(Conv { groups, .. }) if *groups > 1 && shape.get(1) == Some(&1) => LayerKind::Depthwise,
        Op::Conv(_) => LayerKind::Conv,
        _ => LayerKind::Linear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn first_last_and_depthwise_are_left_out_when_asked() {
        let graph = testing::depthwise_net();
        let names = |set| prunable_layers(&graph, set).into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names(PrunableSet::ALL), ["stem.w", "dw.w", "pw.w", "fc.w"]);
        assert_eq!(names(PrunableSet { first: false, last: false, depthwise: false }), ["pw.w"]);
        let all = layers(&graph);
        assert_eq!(all[1].kind, LayerKind::Depthwise);
        assert_eq!((all[3].kind, all[3].bias.as_deref()), (LayerKind::Linear, Some("fc.b")));
    }
}
