//! The linear twin of a network, through which SynFlow measures flow: no signal is ever negative, no layer bends it.

use std::collections::HashMap;

use sentei_graph::ops::{BatchNorm, Identity, Mul};
use sentei_graph::{Fact, Graph, GraphError, Node, Op, Role, Tensor, ValueId};

/// `graph` with `|w|` for every weight, no biases, and every activation, dropout and softmax replaced by identity; ReLU
/// would change nothing on signals that are not negative. The batch is 1. Pools stay, and so do products of two signals.
///
/// Batch norm never sees statistics: with fresh running statistics (mean 0, variance 1) it is `x * |gamma| / sqrt(1 + eps)`,
/// otherwise, in a trained network, it is bypassed.
///
/// # Errors
/// None for a graph that has passed [`Graph::check`].
pub(crate) fn linear(graph: &Graph) -> Result<Graph, GraphError> {
    let mut twin = Twin { graph, out: Graph::new(), values: HashMap::new() };
    for (id, fact) in graph.inputs() {
        let mut shape = fact.shape.clone();
        if let Some(batch) = shape.first_mut() {
            *batch = 1;
        }
        let input = twin.out.add_input(graph.name(*id), Fact::new(shape))?;
        twin.values.insert(*id, input);
    }
    let facts = graph.facts()?;
    for (_, node) in graph.nodes() {
        let rank = facts[&node.output].shape.len();
        let output = twin.node(node, rank)?;
        twin.values.insert(node.output, output);
    }
    for output in graph.outputs() {
        twin.out.add_output(twin.values[output]);
    }
    Ok(twin.out)
}

struct Twin<'a> {
    graph: &'a Graph,
    out: Graph,
    /// Value of the graph to value of the twin.
    values: HashMap<ValueId, ValueId>,
}

impl Twin<'_> {
    fn node(&mut self, node: &Node, rank: usize) -> Result<ValueId, GraphError> {
        let name = self.graph.name(node.output);
        match &node.op {
            Op::Relu(_)
            | Op::LeakyRelu(_)
            | Op::Clip(_)
            | Op::HardSigmoid(_)
            | Op::HardSwish(_)
            | Op::Sigmoid(_)
            | Op::Silu(_)
            | Op::Softmax(_)
            | Op::Dropout(_)
            | Op::Identity(_) => {
                let x = self.value(node.inputs[0])?;
                self.out.add_node(name, Identity, &[x])
            }
            Op::BatchNorm(norm) => self.batch_norm(name, norm, &node.inputs, rank),
            Op::Add(_) => {
                let inputs = node.inputs.iter().map(|id| self.addend(name, *id)).collect::<Result<Vec<_>, _>>()?;
                self.out.add_node(name, node.op.clone(), &inputs)
            }
            Op::AveragePool(_)
            | Op::Concat(_)
            | Op::Conv(_)
            | Op::Flatten(_)
            | Op::Gemm(_)
            | Op::GlobalAveragePool(_)
            | Op::MatMul(_)
            | Op::MaxPool(_)
            | Op::Mul(_)
            | Op::Pad(_)
            | Op::Reshape(_)
            | Op::Slice(_)
            | Op::Transpose(_) => {
                let kept = (0..node.inputs.len()).filter(|i| node.op.role(*i) != Role::Bias);
                let inputs = kept.map(|i| self.value(node.inputs[i])).collect::<Result<Vec<_>, _>>()?;
                let op = match node.op.clone() {
                    Op::Pad(pad) => Op::Pad(sentei_graph::ops::Pad { value: 0.0, ..pad }),
                    op => op,
                };
                self.out.add_node(name, op, &inputs)
            }
        }
    }

    fn batch_norm(
        &mut self,
        name: &str,
        norm: &BatchNorm,
        inputs: &[ValueId],
        rank: usize,
    ) -> Result<ValueId, GraphError> {
        let x = self.value(inputs[0])?;
        let constant = |i: usize| self.graph.initializer(inputs[i]).map_or(&[][..], |t| &t.data);
        let (gamma, mean, variance) = (constant(1), constant(3), constant(4));
        let is_fresh = mean.iter().all(|m| *m == 0.0) && variance.iter().all(|v| *v == 1.0);
        if !is_fresh {
            return self.out.add_node(name, Identity, &[x]);
        }
        let share = 1.0 / (1.0 + norm.epsilon).sqrt();
        let mut shape = vec![1; rank];
        shape[1] = gamma.len();
        let scale = Tensor::new(shape, gamma.iter().map(|g| g.abs() * share).collect());
        let scale = self.out.add_initializer(&format!("{name} (scale)"), scale)?;
        self.out.add_node(name, Mul, &[x, scale])
    }

    /// What `id` is in the twin; a constant is taken over without its signs.
    fn value(&mut self, id: ValueId) -> Result<ValueId, GraphError> {
        if let Some(known) = self.values.get(&id) {
            return Ok(*known);
        }
        let constant = self.graph.initializer(id).expect("what is no earlier node is a constant");
        let positive = Tensor::new(constant.shape.as_slice(), constant.data.iter().map(|v| v.abs()).collect());
        let value = self.out.add_initializer(self.graph.name(id), positive)?;
        self.values.insert(id, value);
        Ok(value)
    }

    /// As [`Twin::value`], but a constant that is added is a bias, so 0.
    fn addend(&mut self, node: &str, id: ValueId) -> Result<ValueId, GraphError> {
        match self.graph.initializer(id) {
            None => self.value(id),
            Some(constant) => {
                let name = format!("{node} ({})", self.graph.name(id));
                self.out.add_initializer(&name, Tensor::full(constant.shape.as_slice(), 0.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn batch_norm_is_a_scale_when_fresh_and_nothing_when_trained() {
        let mut graph = testing::depthwise_net();
        let gamma = graph.value("stem.gamma").unwrap();
        graph.set_initializer(gamma, Tensor::new([4], vec![-2.0, 1.0, 0.5, 3.0]));
        let fresh = linear(&graph).unwrap();
        let scale = fresh.initializer(fresh.value("stem.bn (scale)").unwrap()).unwrap();
        assert_eq!(scale.shape, [1, 4, 1, 1]);
        assert!((scale.data[0] - 2.0 / 1.00001f32.sqrt()).abs() < 1e-6);
        let mean = graph.value("stem.mean").unwrap();
        graph.set_initializer(mean, Tensor::full([4], 0.1));
        let trained = linear(&graph).unwrap();
        assert!(trained.value("stem.bn (scale)").is_none() && trained.value("dw.bn (scale)").is_some());
        trained.check().unwrap();
    }

    #[test]
    fn no_weight_is_negative_and_no_bias_is_left() {
        let graph = linear(&testing::mlp(&[16, 6, 3], Some(0.5))).unwrap();
        graph.check().unwrap();
        assert!(graph.initializers().all(|(_, t)| t.data.iter().all(|v| *v >= 0.0)));
        let roles: Vec<Role> = graph.parameters().into_iter().map(|(_, role)| role).collect();
        assert_eq!(roles, [Role::Weight, Role::Weight]);
        assert!(graph.nodes().all(|(_, n)| matches!(n.op, Op::Flatten(_) | Op::Gemm(_) | Op::Identity(_))));
    }
}
