//! The graph: nodes of a closed set of ops over named values, plus the constants they read.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ops::{Op, OpError, Role};
use crate::{Fact, Tensor};

/// Names one value of one [`Graph`]; stable while the graph lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) u32);

/// Names one node of one [`Graph`]; valid until the graph is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

/// One operation: it reads `inputs` and computes `output`. Every op has exactly one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Read values in the order of the ONNX operator; trailing optional inputs are left out.
    pub inputs: Vec<ValueId>,
    /// The computed value; its name names the node.
    pub output: ValueId,
}

/// A network: nodes in topological order, inputs, outputs and constants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub(crate) names: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<(ValueId, Fact)>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) initializers: BTreeMap<ValueId, Tensor>,
    /// Free text that travels with the model (ONNX `metadata_props`): classes, input scaling.
    pub metadata: BTreeMap<String, String>,
}

/// Why a graph cannot be built, checked or evaluated.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum GraphError {
    /// A node's op refused its inputs.
    #[error("node `{node}` ({op}): {source}")]
    Node {
        /// Name of the node's output value.
        node: String,
        /// Name of the op.
        op: &'static str,
        /// What the op says.
        source: OpError,
    },
    /// Two values share a name.
    #[error("value `{0}` is defined twice")]
    Duplicate(String),
    /// A node reads a value that nothing before it defines.
    #[error("node `{node}` reads `{value}`, which is no input, no initializer and no earlier node")]
    Undefined {
        /// Name of the reading node.
        node: String,
        /// Name of the missing value.
        value: String,
    },
    /// The nodes form a cycle.
    #[error("the graph has a cycle through `{0}`")]
    Cycle(String),
    /// The number or the shape of the tensors fed differs from the graph's inputs.
    #[error("input `{name}` expects {expected}, found {found}")]
    Feed {
        /// Name of the input.
        name: String,
        /// What the graph declares.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input of the given shape; axis 0 is the batch.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn add_input(&mut self, name: &str, fact: Fact) -> Result<ValueId, GraphError> {
        let id = self.add_value(name)?;
        self.inputs.push((id, fact));
        Ok(id)
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn add_initializer(&mut self, name: &str, tensor: Tensor) -> Result<ValueId, GraphError> {
        let id = self.add_value(name)?;
        self.initializers.insert(id, tensor);
        Ok(id)
    }

    /// Appends a node; its inputs must exist already. `name` names its output value.
    ///
    /// # Errors
    /// [`GraphError::Duplicate`] when the name is taken.
    pub fn add_node(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, GraphError> {
        let output = self.add_value(name)?;
        self.nodes.push(Node { op: op.into(), inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Declares a value as the next output.
    pub fn add_output(&mut self, value: ValueId) {
        self.outputs.push(value);
    }

    pub(crate) fn add_value(&mut self, name: &str) -> Result<ValueId, GraphError> {
        if self.names.iter().any(|n| n == name) {
            return Err(GraphError::Duplicate(name.to_string()));
        }
        self.names.push(name.to_string());
        Ok(ValueId(self.names.len() as u32 - 1))
    }

    /// Name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        &self.names[value.0 as usize]
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<ValueId> {
        self.names.iter().position(|n| n == name).map(|i| ValueId(i as u32))
    }

    /// Nodes in topological order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The op of one node.
    pub fn op(&self, id: NodeId) -> &Op {
        &self.node(id).op
    }

    /// Inputs with their shapes, in order.
    pub fn inputs(&self) -> &[(ValueId, Fact)] {
        &self.inputs
    }

    /// Outputs, in order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The constant behind a value, if it is one.
    pub fn initializer(&self, value: ValueId) -> Option<&Tensor> {
        self.initializers.get(&value)
    }

    /// Every constant, in order of definition.
    pub fn initializers(&self) -> impl Iterator<Item = (ValueId, &Tensor)> {
        self.initializers.iter().map(|(id, t)| (*id, t))
    }

    /// Replaces the values of a constant; the shape may change with it.
    ///
    /// # Panics
    /// When `value` is not an initializer of this graph.
    pub fn set_initializer(&mut self, value: ValueId, tensor: Tensor) {
        let slot = self.initializers.get_mut(&value).expect("value is an initializer of this graph");
        *slot = tensor;
    }

    /// Frees the numbers of a constant and keeps its shape, for whoever holds them elsewhere: until [`Graph::set_initializer`] it
    /// has none to read.
    ///
    /// # Panics
    /// When `value` is not an initializer of this graph.
    pub fn forget(&mut self, value: ValueId) {
        self.initializers.get_mut(&value).expect("value is an initializer of this graph").data = Vec::new();
    }

    /// The node that computes a value, unless it is an input or a constant.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.output == value).map(|i| NodeId(i as u32))
    }

    /// Every node that reads a value, each once.
    pub fn readers(&self, value: ValueId) -> Vec<NodeId> {
        self.nodes().filter(|(_, n)| n.inputs.contains(&value)).map(|(id, _)| id).collect()
    }

    /// Number of times a value is read, as a node input or as a graph output.
    pub fn uses(&self, value: ValueId) -> usize {
        let reads = self.nodes.iter().flat_map(|n| &n.inputs).filter(|v| **v == value).count();
        reads + self.outputs.iter().filter(|v| **v == value).count()
    }

    /// The node behind `inputs[0]` of `node`, when nothing else reads that value and `accept` takes its op.
    pub fn sole_producer(&self, node: NodeId, accept: impl Fn(&Op) -> bool) -> Option<NodeId> {
        let value = *self.node(node).inputs.first()?;
        let producer = self.producer(value)?;
        (self.uses(value) == 1 && accept(self.op(producer))).then_some(producer)
    }

    /// What each constant is to the ops that read it, in order of definition.
    ///
    /// A constant read in two roles is listed once, with the role of its first reader.
    pub fn parameters(&self) -> Vec<(ValueId, Role)> {
        let mut roles = BTreeMap::new();
        for node in &self.nodes {
            for (i, value) in node.inputs.iter().enumerate() {
                if self.initializers.contains_key(value) {
                    roles.entry(*value).or_insert_with(|| node.op.role(i));
                }
            }
        }
        roles.into_iter().collect()
    }

    /// The shape of every value that the graph defines.
    ///
    /// # Errors
    /// [`GraphError::Node`] when an op refuses its inputs, [`GraphError::Undefined`] for a dangling read.
    pub fn facts(&self) -> Result<HashMap<ValueId, Fact>, GraphError> {
        self.facts_from(self.inputs.iter().cloned().collect())
    }

    /// As [`Graph::facts`], for inputs with `batch` on axis 0.
    ///
    /// # Errors
    /// As [`Graph::facts`].
    pub fn facts_for(&self, batch: usize) -> Result<HashMap<ValueId, Fact>, GraphError> {
        let input = |(id, fact): &(ValueId, Fact)| {
            let mut fact = fact.clone();
            fact.shape.iter_mut().take(1).for_each(|first| *first = batch);
            (*id, fact)
        };
        self.facts_from(self.inputs.iter().map(input).collect())
    }

    fn facts_from(&self, mut facts: HashMap<ValueId, Fact>) -> Result<HashMap<ValueId, Fact>, GraphError> {
        facts.extend(self.initializers.iter().map(|(id, t)| (*id, t.fact())));
        for node in &self.nodes {
            let inputs = self.gather(node, &facts)?;
            let fact = node.op.infer(&inputs).map_err(|source| self.blame(node, source))?;
            facts.insert(node.output, fact);
        }
        Ok(facts)
    }

    /// Dense-equivalent multiply-adds of each node, for the batch size the inputs declare.
    ///
    /// # Errors
    /// As [`Graph::facts`].
    pub fn macs(&self) -> Result<Vec<(NodeId, u64)>, GraphError> {
        let facts = self.facts()?;
        self.nodes().map(|(id, node)| Ok((id, node.op.macs(&self.gather(node, &facts)?)))).collect()
    }

    /// The same graph with axis 0 of every input set to `batch`.
    pub fn with_batch(mut self, batch: usize) -> Self {
        for (_, fact) in &mut self.inputs {
            if let Some(first) = fact.shape.first_mut() {
                *first = batch;
            }
        }
        self
    }

    /// Evaluates the graph with the slow reference ops and returns its outputs.
    ///
    /// # Errors
    /// [`GraphError::Feed`] when `feeds` do not match the inputs (axis 0 may differ: it is the batch).
    pub fn eval(&self, feeds: &[Tensor]) -> Result<Vec<Tensor>, GraphError> {
        let mut all = self.eval_all(feeds)?;
        let taken = self.outputs.iter().map(|id| {
            all.remove(id)
                .or_else(|| self.initializers.get(id).cloned())
                .ok_or_else(|| GraphError::Undefined { node: "output".into(), value: self.name(*id).into() })
        });
        taken.collect()
    }

    /// Evaluates the graph and returns every computed value, for layer-by-layer comparison.
    ///
    /// # Errors
    /// As [`Graph::eval`].
    pub fn eval_all(&self, feeds: &[Tensor]) -> Result<HashMap<ValueId, Tensor>, GraphError> {
        if feeds.len() != self.inputs.len() {
            return Err(GraphError::Feed {
                name: "*".into(),
                expected: format!("{} tensors", self.inputs.len()),
                found: format!("{}", feeds.len()),
            });
        }
        let mut values: HashMap<ValueId, Tensor> = HashMap::new();
        for ((id, fact), feed) in self.inputs.iter().zip(feeds) {
            let same = feed.shape.len() == fact.rank() && feed.shape.iter().skip(1).eq(fact.shape.iter().skip(1));
            if !same {
                return Err(GraphError::Feed {
                    name: self.name(*id).into(),
                    expected: fact.to_string(),
                    found: feed.fact().to_string(),
                });
            }
            values.insert(*id, feed.clone());
        }
        for node in &self.nodes {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for id in &node.inputs {
                let tensor = values.get(id).or_else(|| self.initializers.get(id));
                inputs.push(tensor.ok_or_else(|| self.undefined(node, *id))?);
            }
            let output = node.op.eval(&inputs).map_err(|source| self.blame(node, source))?;
            values.insert(node.output, output);
        }
        Ok(values)
    }

    /// Checks names, order and shapes.
    ///
    /// # Errors
    /// The first [`GraphError`] found.
    pub fn check(&self) -> Result<(), GraphError> {
        let mut seen = HashSet::new();
        if let Some(twice) = self.names.iter().find(|n| !seen.insert(n.as_str())) {
            return Err(GraphError::Duplicate(twice.clone()));
        }
        let facts = self.facts()?;
        for id in &self.outputs {
            if !facts.contains_key(id) {
                return Err(GraphError::Undefined { node: "output".into(), value: self.name(*id).into() });
            }
        }
        Ok(())
    }

    fn gather<'a>(&self, node: &Node, facts: &'a HashMap<ValueId, Fact>) -> Result<Vec<&'a Fact>, GraphError> {
        node.inputs.iter().map(|id| facts.get(id).ok_or_else(|| self.undefined(node, *id))).collect()
    }

    fn undefined(&self, node: &Node, value: ValueId) -> GraphError {
        GraphError::Undefined { node: self.name(node.output).into(), value: self.name(value).into() }
    }

    fn blame(&self, node: &Node, source: OpError) -> GraphError {
        GraphError::Node { node: self.name(node.output).into(), op: node.op.name(), source }
    }
}
