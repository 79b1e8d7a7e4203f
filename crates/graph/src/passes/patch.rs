//! What a pass wants changed, as a value.

use std::collections::{HashMap, HashSet};

use crate::ops::Op;
use crate::{Graph, Node, NodeId, Tensor, ValueId};

/// New constants and nodes, nodes replaced under their old name, and reads redirected.
#[derive(Debug)]
pub struct Patch {
    next: u32,
    constants: Vec<(ValueId, String, Tensor)>,
    nodes: Vec<(String, Node)>,
    replaced: HashMap<NodeId, (Op, Vec<ValueId>)>,
    folded: HashMap<NodeId, Tensor>,
    redirected: HashMap<ValueId, ValueId>,
    note: String,
}

impl Patch {
    /// A patch of `graph` that changes nothing yet.
    pub fn new(graph: &Graph) -> Self {
        Patch {
            next: graph.names.len() as u32,
            constants: vec![],
            nodes: vec![],
            replaced: HashMap::new(),
            folded: HashMap::new(),
            redirected: HashMap::new(),
            note: String::new(),
        }
    }

    /// Adds a constant called `name`, or `name'` where that is taken.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.fresh();
        self.constants.push((id, name.to_string(), tensor));
        id
    }

    /// Adds a node called `name`, or `name'` where that is taken; its place follows from what it reads.
    pub fn node(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let output = self.fresh();
        self.nodes.push((name.to_string(), Node { op: op.into(), inputs: inputs.to_vec(), output }));
        output
    }

    /// Lets `node` compute something else under its old name.
    pub fn replace(&mut self, node: NodeId, op: impl Into<Op>, inputs: &[ValueId]) {
        self.replaced.insert(node, (op.into(), inputs.to_vec()));
    }

    /// Turns the output of `node` into a constant of the same name.
    pub fn replace_by_constant(&mut self, node: NodeId, tensor: Tensor) {
        self.folded.insert(node, tensor);
    }

    /// Lets every other node that reads `from` read `to`; graph outputs and this patch's own nodes stay as they are.
    pub fn redirect(&mut self, from: ValueId, to: ValueId) {
        self.redirected.insert(from, to);
    }

    /// Says in one line what the patch does beyond the name of its pass.
    pub fn note(&mut self, note: impl Into<String>) {
        self.note = note.into();
    }

    fn fresh(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    /// The patched graph, neither sorted nor cleaned, and the note.
    pub(super) fn applied_to(self, mut graph: Graph) -> (Graph, String) {
        for node in &mut graph.nodes {
            for input in &mut node.inputs {
                *input = self.redirected.get(input).copied().unwrap_or(*input);
            }
        }
        for (id, (op, inputs)) in self.replaced {
            let node = &mut graph.nodes[id.0 as usize];
            (node.op, node.inputs) = (op, inputs);
        }
        let mut names: Vec<(ValueId, String)> = self.constants.iter().map(|(id, n, _)| (*id, n.clone())).collect();
        names.extend(self.nodes.iter().map(|(name, node)| (node.output, name.clone())));
        names.sort_unstable();
        let mut taken: HashSet<String> = graph.names.iter().cloned().collect();
        for (_, name) in names {
            let free = free_name(&name, &taken);
            taken.insert(free.clone());
            graph.names.push(free);
        }
        graph.initializers.extend(self.constants.into_iter().map(|(id, _, tensor)| (id, tensor)));
        graph.nodes.extend(self.nodes.into_iter().map(|(_, node)| node));
        let folded: HashMap<ValueId, Tensor> =
            self.folded.into_iter().map(|(id, tensor)| (graph.nodes[id.0 as usize].output, tensor)).collect();
        graph.nodes.retain(|n| !folded.contains_key(&n.output));
        graph.initializers.extend(folded);
        (graph, self.note)
    }
}

/// `name` without its primes if that is free, else with as few as it takes.
fn free_name(name: &str, taken: &HashSet<String>) -> String {
    let mut free = name.trim_end_matches('\'').to_string();
    while taken.contains(&free) {
        free.push('\'');
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_take_as_few_primes_as_they_need() {
        let taken: HashSet<String> = ["w".to_string(), "v'".to_string()].into();
        assert_eq!(free_name("w", &taken), "w'");
        assert_eq!(free_name("v'", &taken), "v");
        assert_eq!(free_name("b", &taken), "b");
    }

    #[test]
    fn a_redirected_value_stays_a_graph_output() {
        let graph = Graph::parse("x = input f32[1,2]\na = Relu(x)\nb = Sigmoid(a)\noutput a, b").unwrap();
        let (x, a) = (graph.value("x").unwrap(), graph.value("a").unwrap());
        let mut patch = Patch::new(&graph);
        patch.redirect(a, x);
        let (patched, _) = patch.applied_to(graph);
        assert_eq!(patched.to_text(), "x = input f32[1,2]\na = Relu(x)\nb = Sigmoid(x)\noutput a, b\n");
    }

    #[test]
    fn added_nodes_find_their_place_by_what_they_read() {
        let graph = Graph::parse("x = input f32[1,2]\ny = Relu(x)").unwrap();
        let (x, node) = (graph.value("x").unwrap(), graph.nodes().next().unwrap().0);
        let mut patch = Patch::new(&graph);
        let half = patch.constant("y", Tensor::full([2], 0.5));
        let scaled = patch.node("y", crate::ops::Mul, &[x, half]);
        patch.replace(node, crate::ops::Sigmoid, &[scaled]);
        let (patched, _) = patch.applied_to(graph);
        let text = crate::passes::tidy(patched).unwrap().to_text();
        assert_eq!(text, "x = input f32[1,2]\ny'' = Mul(x, y'[2])\ny = Sigmoid(y'')\n");
    }
}
