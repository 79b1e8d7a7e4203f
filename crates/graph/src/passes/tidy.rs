//! Topological order, and nothing that no output needs.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{Graph, GraphError, Node, ValueId};

/// The same graph with its nodes sorted and dead nodes and unread constants dropped; inputs and outputs stay.
///
/// Nodes that are in order already keep it. Value and node ids change.
///
/// # Errors
/// [`GraphError::Cycle`] when no order exists.
pub fn tidy(mut graph: Graph) -> Result<Graph, GraphError> {
    graph.nodes = sorted(&graph, live(&graph))?;
    let mut read: HashSet<ValueId> = graph.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
    read.extend(&graph.outputs);
    graph.initializers.retain(|id, _| read.contains(id));
    Ok(renumbered(graph))
}

/// Nodes behind the outputs, in their present order.
fn live(graph: &Graph) -> Vec<Node> {
    let producer: HashMap<ValueId, usize> = graph.nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect();
    let mut wanted = vec![false; graph.nodes.len()];
    let mut open = graph.outputs.clone();
    while let Some(value) = open.pop() {
        if let Some(&i) = producer.get(&value).filter(|i| !wanted[**i]) {
            wanted[i] = true;
            open.extend(&graph.nodes[i].inputs);
        }
    }
    graph.nodes.iter().zip(wanted).filter(|(_, w)| *w).map(|(n, _)| n.clone()).collect()
}

/// Among the nodes whose inputs are ready, the earliest comes first.
fn sorted(graph: &Graph, nodes: Vec<Node>) -> Result<Vec<Node>, GraphError> {
    let producer: HashMap<ValueId, usize> = nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect();
    let mut waits_for = vec![0; nodes.len()];
    let mut readers = vec![vec![]; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let sources: BTreeSet<usize> = node.inputs.iter().filter_map(|v| producer.get(v).copied()).collect();
        waits_for[i] = sources.len();
        for source in sources {
            readers[source].push(i);
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|i| waits_for[*i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &reader in &readers[i] {
            waits_for[reader] -= 1;
            if waits_for[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if let Some(stuck) = (0..nodes.len()).find(|i| waits_for[*i] > 0) {
        return Err(GraphError::Cycle(graph.name(nodes[stuck].output).into()));
    }
    Ok(order.into_iter().map(|i| nodes[i].clone()).collect())
}

/// Value ids without gaps, in the order of the old ones.
fn renumbered(graph: Graph) -> Graph {
    let mut kept: BTreeSet<ValueId> = graph.inputs.iter().map(|(id, _)| *id).collect();
    kept.extend(graph.initializers.keys());
    kept.extend(&graph.outputs);
    kept.extend(graph.nodes.iter().flat_map(|n| n.inputs.iter().chain([&n.output]).copied()));
    let new: HashMap<ValueId, ValueId> = kept.iter().zip(0..).map(|(old, i)| (*old, ValueId(i))).collect();
    let renamed = |ids: Vec<ValueId>| ids.into_iter().map(|id| new[&id]).collect();
    Graph {
        names: kept.iter().map(|id| graph.name(*id).to_string()).collect(),
        nodes: graph
            .nodes
            .into_iter()
            .map(|n| Node { op: n.op, inputs: renamed(n.inputs), output: new[&n.output] })
            .collect(),
        inputs: graph.inputs.into_iter().map(|(id, fact)| (new[&id], fact)).collect(),
        outputs: renamed(graph.outputs),
        initializers: graph.initializers.into_iter().map(|(id, tensor)| (new[&id], tensor)).collect(),
        metadata: graph.metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Relu;

    #[test]
    fn dead_nodes_and_constants_go_and_inputs_stay() {
        let graph = Graph::parse(
            "x = input f32[1,2]
             z = input f32[1,3]
             a = Gemm(x, w[2,2])
             b = Gemm(x, v[4,2])
             output a",
        );
        let expected = "x = input f32[1,2]\nz = input f32[1,3]\na = Gemm(x, w[2,2])\n";
        let tidied = tidy(graph.unwrap()).unwrap();
        assert_eq!(tidied.to_text(), expected);
        assert_eq!(tidied, Graph::parse(expected).unwrap());
    }

    #[test]
    fn nodes_are_sorted_and_ties_keep_their_order() {
        let mut graph = Graph::parse("x = input f32[1,2]\na = Relu(x)\nb = Sigmoid(x)\ny = Add(a, b)").unwrap();
        graph.nodes.rotate_right(1);
        assert_eq!(tidy(graph).unwrap().to_text(), "x = input f32[1,2]\na = Relu(x)\nb = Sigmoid(x)\ny = Add(a, b)\n");
    }

    #[test]
    fn a_cycle_is_an_error() {
        let mut graph = Graph::parse("x = input f32[1,2]\na = Relu(x)\nb = Relu(a)").unwrap();
        let b = graph.value("b").unwrap();
        graph.nodes[0] = Node { op: Relu.into(), inputs: vec![b], output: graph.nodes[0].output };
        assert_eq!(tidy(graph), Err(GraphError::Cycle("a".into())));
    }
}
