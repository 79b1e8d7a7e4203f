//! A graph to ONNX: opset 17, IR 8, one node per op (two for Silu), names kept.

use std::collections::{HashMap, HashSet};

use prost::Message;
use sentei_graph::{Fact, Graph, Node, ValueId};

use crate::ConvertError;
use crate::codec;
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};

/// Opset written.
pub(crate) const OPSET: i64 = 17;
/// IR version written; local functions need 8.
const IR_VERSION: i64 = 8;

/// How a graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Writes axis 0 of inputs and outputs as the symbol `N` instead of the declared length.
    pub dynamic_batch: bool,
}

/// Writes a graph as a dense ONNX file, readable by any tool.
///
/// Importing the bytes again gives a graph that evaluates to the same bits; Silu is the one op that is written
/// as two nodes.
///
/// # Errors
/// [`ConvertError::Graph`] when the graph is not well formed.
pub fn export(graph: &Graph, options: ExportOptions) -> Result<Vec<u8>, ConvertError> {
    Ok(model(graph, options)?.encode_to_vec())
}

/// The message behind [`export`].
pub(crate) fn model(graph: &Graph, options: ExportOptions) -> Result<ModelProto, ConvertError> {
    graph.check()?;
    let mut to = Exporter::new(graph)?;
    for (_, node) in graph.nodes() {
        codec::export(&mut to, node);
    }
    let read: HashSet<ValueId> = graph.nodes().flat_map(|(_, n)| n.inputs.iter().copied()).collect();
    let stored = graph.initializers().filter(|(id, _)| read.contains(id) || graph.outputs().contains(id));
    let mut initializer: Vec<TensorProto> =
        stored.map(|(id, t)| TensorProto::floats(graph.name(id), &t.shape, &t.data)).collect();
    initializer.append(&mut to.initializers);
    let signature = |id: ValueId| {
        let shape = &to.facts[&id].shape;
        let symbolic = options.dynamic_batch && graph.initializer(id).is_none();
        let axis = |(i, d): (usize, &usize)| if i == 0 && symbolic { None } else { Some(*d) };
        ValueInfoProto::floats(graph.name(id), shape.iter().enumerate().map(axis))
    };
    let onnx = GraphProto {
        node: to.nodes,
        name: Some("sentei".into()),
        initializer,
        input: graph.inputs().iter().map(|(id, _)| signature(*id)).collect(),
        output: graph.outputs().iter().map(|id| signature(*id)).collect(),
        ..Default::default()
    };
    let entry = |(k, v): (&String, &String)| StringStringEntryProto { key: Some(k.clone()), value: Some(v.clone()) };
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("sentei".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(onnx),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: graph.metadata.iter().map(entry).collect(),
        functions: Vec::new(),
    })
}

/// Collects the nodes and the helper constants of one export.
pub(crate) struct Exporter<'a> {
    graph: &'a Graph,
    facts: HashMap<ValueId, Fact>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    shared: HashMap<Vec<u8>, String>,
    names: HashSet<String>,
}

impl<'a> Exporter<'a> {
    fn new(graph: &'a Graph) -> Result<Self, ConvertError> {
        let facts = graph.facts()?;
        let names = facts.keys().map(|id| graph.name(*id).to_string()).collect();
        Ok(Exporter { graph, facts, nodes: Vec::new(), initializers: Vec::new(), shared: HashMap::new(), names })
    }

    /// Name of a value.
    pub fn name(&self, value: ValueId) -> String {
        self.graph.name(value).to_string()
    }

    /// Shape of a value.
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.facts[&value].shape
    }

    /// Reserves a name that nothing uses, `base` itself when it is free.
    pub fn fresh(&mut self, base: &str) -> String {
        let mut name = base.to_string();
        let mut i = 0;
        while !self.names.insert(name.clone()) {
            i += 1;
            name = format!("{base}.{i}");
        }
        name
    }

    /// Writes `node` as one ONNX node that reads its inputs in order.
    pub fn node(&mut self, op: &str, node: &Node, attributes: Vec<AttributeProto>) {
        let inputs: Vec<&str> = node.inputs.iter().map(|id| self.graph.name(*id)).collect();
        self.nodes.push(NodeProto::standard(op, &inputs, self.graph.name(node.output), attributes));
    }

    /// Writes any ONNX node.
    pub fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.nodes.push(NodeProto::standard(op, inputs, output, attributes));
    }

    /// Name of a constant number; equal ones are stored once.
    pub fn scalar(&mut self, value: f32) -> String {
        self.share(TensorProto::floats("", &[], &[value]))
    }

    /// Name of a constant list of integers; equal ones are stored once.
    pub fn int64s(&mut self, values: &[i64]) -> String {
        self.share(TensorProto::int64s("", &[values.len()], values))
    }

    fn share(&mut self, tensor: TensorProto) -> String {
        let key = tensor.encode_to_vec();
        if let Some(name) = self.shared.get(&key) {
            return name.clone();
        }
        let name = self.fresh("const");
        self.initializers.push(TensorProto { name: Some(name.clone()), ..tensor });
        self.shared.insert(key, name.clone());
        name
    }
}
