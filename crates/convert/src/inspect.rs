//! What is in an ONNX file: layers, zeros, multiply-adds and bytes, and what pruning it would pay.
//!
//! Works on any ONNX model: an operator without an importer is named, and the walk goes on behind it where the
//! file states the shape of its output.

use std::collections::{BTreeMap, HashMap, HashSet};

use sentei_graph::{Node, Op, Pattern, Role, ValueId};

use crate::ConvertError;
use crate::constant::{Constant, Data};
use crate::import::{ImportOptions, Importer, decode};
use crate::proto::{ModelProto, NodeProto};
use crate::two_of_four::TwoOfFour;

/// Share of multiply-adds or bytes below which a layer is not worth pruning by itself.
const LITTLE: f64 = 0.01;
/// Density above which a layer counts as dense.
const DENSE: f64 = 0.6;
/// Density that iterative pruning commonly reaches, used for the estimate of what would pay.
const REACHABLE: f64 = 0.1;

/// One layer with weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRow {
    /// Name of the ONNX node, or of its output.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Name of the weight.
    pub weight: String,
    /// Shape of the weight, `[out, in/groups, kh, kw]` or `[out, in]`.
    pub shape: Vec<usize>,
    /// Shape of the output, if known.
    pub output: Option<Vec<usize>>,
    /// Weights and biases.
    pub params: u64,
    /// Those that are not zero.
    pub nonzero: u64,
    /// Fraction of the weight that is not zero.
    pub density: f64,
    /// Patterns that its zeros keep to; none where an operator that cannot be imported reads it.
    pub patterns: Vec<Pattern>,
    /// What it is to sparse tensor cores.
    pub two_of_four: TwoOfFour,
    /// `dense`, `mask`, `gap4` or `gap8`.
    pub encoding: &'static str,
    /// Bytes of the weight in the file.
    pub bytes: u64,
    /// Multiply-adds of the non-zero weights, if the output shape is known.
    pub macs: Option<u64>,
    /// Multiply-adds of all weights, if the output shape is known.
    pub dense_macs: Option<u64>,
    /// Share of the model's dense multiply-adds, if those are known.
    pub mac_share: Option<f64>,
    /// Share of the bytes of all weights.
    pub byte_share: f64,
    /// What pruning this layer would pay, in a sentence.
    pub advice: String,
}

/// Description of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Version of the standard operator set.
    pub opset: i64,
    /// Tool that wrote the file.
    pub producer: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Inputs as `name f32[1,3,32,32]`; `?` is an unknown length.
    pub inputs: Vec<String>,
    /// Outputs likewise.
    pub outputs: Vec<String>,
    /// Trainable numbers: weights, biases, batch-norm scale and shift.
    pub params: u64,
    /// Those that are not zero.
    pub nonzero: u64,
    /// Multiply-adds of the non-zero weights at batch 1; `None` when a layer's output shape is unknown.
    pub macs: Option<u64>,
    /// Multiply-adds of all weights at batch 1; `None` likewise.
    pub dense_macs: Option<u64>,
    /// Operators that cannot be imported, each once.
    pub unsupported: Vec<String>,
    /// Number of nodes per operator.
    pub ops: BTreeMap<String, usize>,
    /// Layers with weights, in order.
    pub layers: Vec<LayerRow>,
    /// What could not be said, and why.
    pub notes: Vec<String>,
    /// Free text of the file.
    pub metadata: BTreeMap<String, String>,
}

/// Describes an ONNX file.
///
/// # Errors
/// [`ConvertError::NotOnnx`] when the bytes are no model, and what a malformed or hostile packed tensor gives;
/// never because of an unknown operator.
pub fn inspect(bytes: &[u8], options: &ImportOptions) -> Result<Inspection, ConvertError> {
    let model = decode(bytes)?;
    let mut importer = Importer::new(&model, options, true)?;
    importer.run()?;
    Survey::new(&model, &importer).finish(&model, bytes.len() as u64)
}

struct Survey<'a> {
    importer: &'a Importer<'a>,
    nodes: &'a [NodeProto],
    labels: HashMap<&'a str, usize>,
    layers: Vec<LayerRow>,
    counted: HashSet<String>,
    params: u64,
    nonzero: u64,
    other_macs: u64,
    notes: Vec<String>,
}

impl<'a> Survey<'a> {
    fn new(model: &'a ModelProto, importer: &'a Importer<'a>) -> Self {
        let nodes = model.graph.as_ref().map_or(&[][..], |g| &g.node);
        let labels =
            nodes.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect();
        Survey {
            importer,
            nodes,
            labels,
            layers: Vec::new(),
            counted: HashSet::new(),
            params: 0,
            nonzero: 0,
            other_macs: 0,
            notes: Vec::new(),
        }
    }

    fn finish(mut self, model: &ModelProto, file_bytes: u64) -> Result<Inspection, ConvertError> {
        let graph = &self.importer.graph;
        for (_, node) in graph.nodes() {
            self.imported(node);
        }
        for (index, why) in &self.importer.skipped {
            self.skipped(*index, why.as_deref());
        }
        let place = |row: &LayerRow| self.nodes.iter().position(|n| n.label() == row.name).unwrap_or(usize::MAX);
        let mut layers = self.layers.clone();
        layers.sort_by_key(place);
        let dense_macs = layers.iter().try_fold(self.other_macs, |sum, l| Some(sum.saturating_add(l.dense_macs?)));
        let macs = layers.iter().try_fold(self.other_macs, |sum, l| Some(sum.saturating_add(l.macs?)));
        let weight_bytes: u64 = layers.iter().map(|l| l.bytes).sum();
        for layer in &mut layers {
            layer.byte_share = layer.bytes as f64 / weight_bytes.max(1) as f64;
            layer.mac_share = dense_macs.and_then(|all| Some(layer.dense_macs? as f64 / all.max(1) as f64));
            layer.advice = advice(layer);
        }
        if dense_macs.is_none() {
            let unknown = layers.iter().filter(|l| l.dense_macs.is_none()).count();
            self.notes.push(format!("the output shape of {unknown} layers is unknown, so their multiply-adds are too"));
        }
        let onnx = model.graph.as_ref().expect("decode requires a graph");
        let mut ops = BTreeMap::new();
        for node in &onnx.node {
            *ops.entry(node.op_type.clone().unwrap_or_default()).or_insert(0) += 1;
        }
        let signature = |v: &crate::proto::ValueInfoProto| {
            let length = |d: &Option<usize>| d.map_or("?".to_string(), |d| d.to_string());
            let (code, dims) = v.tensor().unwrap_or_default();
            let dims: Vec<String> = dims.iter().map(length).collect();
            format!("{} {}[{}]", v.name.as_deref().unwrap_or(""), crate::proto::dtype::name(code), dims.join(","))
        };
        let constants: HashSet<&str> = onnx.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
        let is_input = |v: &&crate::proto::ValueInfoProto| !constants.contains(v.name.as_deref().unwrap_or(""));
        Ok(Inspection {
            opset: model.opset(),
            producer: model.producer_name.clone().unwrap_or_default(),
            file_bytes,
            inputs: onnx.input.iter().filter(is_input).map(signature).collect(),
            outputs: onnx.output.iter().map(signature).collect(),
            params: self.params,
            nonzero: self.nonzero,
            macs,
            dense_macs,
            unsupported: self.importer.unsupported.iter().map(|u| u.op.clone()).collect(),
            ops,
            layers,
            notes: self.notes,
            metadata: model
                .metadata_props
                .iter()
                .map(|e| (e.key.clone().unwrap_or_default(), e.value.clone().unwrap_or_default()))
                .collect(),
        })
    }

    /// Adds trainable numbers once per constant; returns how many there are and how many are not zero.
    fn count(&mut self, name: &str, len: usize, nonzero: usize) -> (u64, u64) {
        if self.counted.insert(name.to_string()) {
            self.params += len as u64;
            self.nonzero += nonzero as u64;
        }
        (len as u64, nonzero as u64)
    }

    /// Bytes and encoding of a weight: those of the constant it was computed from, under its own name or, when the
    /// importer had to rename it, as dense `f32`.
    fn origin(&self, name: &str, len: usize) -> (u64, &'static str) {
        match self.importer.constants.get(name) {
            Some(c) if c.len() == len && c.origin.bytes > 0 => (c.origin.bytes, c.origin.encoding.unwrap_or("dense")),
            _ => (4 * len as u64, "dense"),
        }
    }

    fn label(&self, output: &str) -> String {
        self.labels.get(output).map_or(output, |i| self.nodes[*i].label()).to_string()
    }

    fn imported(&mut self, node: &Node) {
        let graph = &self.importer.graph;
        let facts: Vec<_> = node.inputs.iter().map(|id| &self.importer.facts[id]).collect();
        let macs = node.op.macs(&facts);
        let mut weight: Option<ValueId> = None;
        let (mut params, mut nonzero) = (0, 0);
        for (i, id) in node.inputs.iter().enumerate() {
            let Some(tensor) = graph.initializer(*id) else { continue };
            let multiplies = matches!(node.op, Op::MatMul(_));
            let role = if multiplies { Role::Weight } else { node.op.role(i) };
            if role.is_trainable() {
                let (p, n) = self.count(graph.name(*id), tensor.len(), tensor.nonzero());
                (params, nonzero) = (params + p, nonzero + n);
            }
            if role == Role::Weight {
                weight = Some(*id);
            }
        }
        let Some((id, tensor)) = weight.and_then(|id| Some((id, graph.initializer(id)?))) else {
            self.other_macs = self.other_macs.saturating_add(macs);
            return;
        };
        let (bytes, encoding) = self.origin(graph.name(id), tensor.len());
        let density = tensor.nonzero() as f64 / tensor.len().max(1) as f64;
        let executed = (macs / tensor.len().max(1) as u64).saturating_mul(tensor.nonzero() as u64);
        self.layers.push(LayerRow {
            name: self.label(graph.name(node.output)),
            op: node.op.name().to_string(),
            weight: graph.name(id).to_string(),
            shape: tensor.shape.clone(),
            output: Some(self.importer.facts[&node.output].shape.clone()),
            params,
            nonzero,
            density,
            patterns: sentei_graph::patterns(tensor),
            two_of_four: TwoOfFour::of(&node.op, tensor).unwrap_or(TwoOfFour::Unknown),
            encoding,
            bytes,
            macs: Some(executed),
            dense_macs: Some(macs),
            mac_share: None,
            byte_share: 0.0,
            advice: String::new(),
        });
    }

    fn skipped(&mut self, index: usize, why: Option<&str>) {
        let node = &self.nodes[index];
        let op = node.op_type.as_deref().unwrap_or("");
        let label = node.label();
        if let Some(why) = why {
            self.notes.push(format!("{op} `{label}`: {why}"));
        }
        let trainable = match op {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => &[1, 2][..],
            "BatchNormalization" => &[1, 2],
            _ => return,
        };
        let importer = self.importer;
        let named = |i: &usize| node.input.get(*i).and_then(|n| Some((n.as_str(), importer.constant_of(n)?)));
        let found: Vec<(&str, Constant)> = trainable.iter().filter_map(named).collect();
        let (mut params, mut nonzero) = (0, 0);
        for (name, constant) in &found {
            let (p, n) = self.count(name, constant.len(), nonzeros(constant));
            (params, nonzero) = (params + p, nonzero + n);
        }
        let Some((name, weight)) = found.first().filter(|_| op != "BatchNormalization") else { return };
        let bytes = weight.origin.bytes.max(weight.len() as u64);
        self.layers.push(LayerRow {
            name: label.to_string(),
            op: op.to_string(),
            weight: name.to_string(),
            shape: weight.shape.clone(),
            output: None,
            params,
            nonzero,
            density: nonzeros(weight) as f64 / weight.len().max(1) as f64,
            patterns: Vec::new(),
            two_of_four: TwoOfFour::Unknown,
            encoding: weight.origin.encoding.unwrap_or("dense"),
            bytes,
            macs: None,
            dense_macs: None,
            mac_share: None,
            byte_share: 0.0,
            advice: String::new(),
        });
    }
}

fn nonzeros(constant: &Constant) -> usize {
    match &constant.data {
        Data::Float(v) => v.iter().filter(|v| **v != 0.0).count(),
        Data::Int(v) => v.iter().filter(|v| **v != 0).count(),
    }
}

fn advice(layer: &LayerRow) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let macs = layer.mac_share.map_or("an unknown share".to_string(), percent);
    let shares = format!("{macs} of MACs, {} of weight bytes, density {:.2}", percent(layer.byte_share), layer.density);
    let gain = 1.0 - REACHABLE / layer.density.max(REACHABLE);
    if layer.density <= DENSE {
        format!("{shares}: sparse already")
    } else if layer.mac_share.unwrap_or(layer.byte_share) < LITTLE && layer.byte_share < LITTLE {
        format!("{shares}: little to gain")
    } else {
        let mac_gain = layer.mac_share.map_or(String::new(), |share| format!("{} of MACs and ", percent(share * gain)));
        let byte_gain = percent(layer.byte_share * gain);
        format!("{shares}: at density {REACHABLE} it would save {mac_gain}about {byte_gain} of weight bytes")
    }
}

#[cfg(test)]
mod tests;
