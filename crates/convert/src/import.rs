//! ONNX bytes to a graph: a walk over the nodes that folds constants and asks one importer per operator.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use prost::Message;
use sentei_graph::{Fact, Graph, GraphError, Op, Tensor, ValueId};
use sentei_kernels::packed::ByteBudget;

use crate::call::Call;
use crate::codec;
use crate::constant::{Constant, TensorReader};
use crate::error::{ConvertError, UnsupportedOp};
use crate::fold::{FOLDED, Folder};
use crate::pack;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto, dtype};
use crate::shapes;

/// Oldest opset read.
const OLDEST_OPSET: i64 = 7;
/// Newest opset read.
const NEWEST_OPSET: i64 = 21;

/// Limits and surroundings of an import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Folder of the model file, where external data may lie; `None` refuses external data.
    pub directory: Option<PathBuf>,
    /// Most bytes that all packed tensors and all folded constants may decode to, together.
    pub max_bytes: u64,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { directory: None, max_bytes: 4 << 30 }
    }
}

/// Reads an ONNX model, dense or packed.
///
/// * `bytes`: a whole `.onnx` file, opset 7 to 21; a symbolic axis 0 of an input becomes batch 1.
///
/// Values keep their ONNX names. Weights of any float type are widened to `f32`; packed tensors, and constants
/// behind `Cast`, `Mul` or `DequantizeLinear`, come back as dense initializers.
///
/// # Errors
/// [`ConvertError::Unsupported`] lists every operator without an importer; other variants name the node, the
/// tensor or the limit.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Graph, ConvertError> {
    let model = decode(bytes)?;
    let mut importer = Importer::new(&model, options, false)?;
    importer.run()?;
    importer.finish(&model)
}

/// Parses the container and checks the opset.
pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto, ConvertError> {
    let model = ModelProto::decode(bytes).map_err(|e| ConvertError::NotOnnx(e.to_string()))?;
    if model.graph.is_none() {
        return Err(ConvertError::NotOnnx("there is no graph in it".into()));
    }
    Ok(model)
}

/// State of one import.
pub(crate) struct Importer<'a> {
    /// What has been built.
    pub graph: Graph,
    /// Shape of every value of `graph`.
    pub facts: HashMap<ValueId, Fact>,
    /// Nodes that were not imported; the reason is `None` where `unsupported` says it.
    pub skipped: Vec<(usize, Option<String>)>,
    /// Operators without an importer.
    pub unsupported: Vec<UnsupportedOp>,
    /// Computed constants by name.
    pub constants: HashMap<String, Constant>,
    /// Tensors found packed, before `Cast` and scale.
    pub packed: pack::Decoded,
    onnx: &'a GraphProto,
    opset: i64,
    lenient: bool,
    reader: TensorReader,
    budget: ByteBudget,
    stored: HashMap<&'a str, &'a TensorProto>,
    values: HashMap<String, ValueId>,
    materialised: HashMap<String, ValueId>,
    uses: HashMap<&'a str, Vec<usize>>,
    reserved: HashSet<&'a str>,
    done: HashSet<usize>,
    unknown: HashSet<String>,
    input_error: Option<ConvertError>,
}

/// Marks a use as an output of the whole graph.
const GRAPH_OUTPUT: usize = usize::MAX;

impl<'a> Importer<'a> {
    pub fn new(model: &'a ModelProto, options: &ImportOptions, lenient: bool) -> Result<Self, ConvertError> {
        let onnx = model.graph.as_ref().ok_or_else(|| ConvertError::NotOnnx("there is no graph in it".into()))?;
        let opset = model.opset();
        if !lenient && !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
            return Err(ConvertError::Opset { found: opset, newest: NEWEST_OPSET });
        }
        let mut uses: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut reserved = HashSet::new();
        for (i, node) in onnx.node.iter().enumerate() {
            for name in node.input.iter().filter(|n| !n.is_empty()) {
                uses.entry(name).or_default().push(i);
            }
            reserved.extend(node.output.iter().map(String::as_str));
        }
        for output in onnx.output.iter().filter_map(|o| o.name.as_deref()) {
            uses.entry(output).or_default().push(GRAPH_OUTPUT);
        }
        let stored: HashMap<&str, &TensorProto> =
            onnx.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t))).collect();
        reserved.extend(stored.keys());
        reserved.extend(onnx.input.iter().filter_map(|i| i.name.as_deref()));
        let reader = TensorReader { directory: options.directory.clone(), max_bytes: options.max_bytes };
        let mut budget = ByteBudget::new(options.max_bytes);
        let packed = pack::decode_packed(onnx, &reader, &mut budget)?;
        let mut importer = Importer {
            graph: Graph::new(),
            facts: HashMap::new(),
            skipped: Vec::new(),
            unsupported: Vec::new(),
            constants: HashMap::new(),
            packed,
            onnx,
            opset,
            lenient,
            reader,
            budget,
            stored,
            values: HashMap::new(),
            materialised: HashMap::new(),
            uses,
            reserved,
            done: HashSet::new(),
            unknown: HashSet::new(),
            input_error: None,
        };
        importer.done.extend(&importer.packed.nodes);
        for (name, constant) in std::mem::take(&mut importer.packed.constants) {
            importer.constants.insert(name, constant);
        }
        Ok(importer)
    }

    /// Imports inputs and nodes.
    pub fn run(&mut self) -> Result<(), ConvertError> {
        for input in &self.onnx.input {
            let name = input.name.as_deref().unwrap_or("");
            if !self.stored.contains_key(name) {
                self.input(name, input.tensor())?;
            }
        }
        if let Some(sparse) = self.onnx.sparse_initializer.first() {
            let name = sparse.values.as_ref().and_then(|v| v.name.clone()).unwrap_or_default();
            if !self.lenient {
                let (expected, found) = ("a dense or packed tensor".into(), "a sparse_initializer".into());
                return Err(ConvertError::Tensor { name, expected, found });
            }
        }
        let nodes: &'a [NodeProto] = &self.onnx.node;
        for (index, node) in nodes.iter().enumerate() {
            if self.done.contains(&index) {
                continue;
            }
            let call = Call { node, index, opset: self.opset };
            match self.node(&call) {
                Ok(true) => {}
                Ok(false) => self.opaque(&call),
                Err(error) if self.lenient => {
                    self.skipped.push((index, Some(error.to_string())));
                    self.opaque(&call);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Declares outputs and metadata and checks the whole graph.
    fn finish(mut self, model: &ModelProto) -> Result<Graph, ConvertError> {
        if !self.unsupported.is_empty() {
            return Err(ConvertError::Unsupported { ops: self.unsupported });
        }
        if let Some(error) = self.input_error {
            return Err(error);
        }
        for output in &self.onnx.output {
            let name = output.name.as_deref().unwrap_or("");
            let value = self.lookup(name)?.ok_or_else(|| {
                ConvertError::Graph(GraphError::Undefined { node: "output".into(), value: name.to_string() })
            })?;
            self.graph.add_output(value);
        }
        for entry in &model.metadata_props {
            self.graph.metadata.insert(entry.key.clone().unwrap_or_default(), entry.value.clone().unwrap_or_default());
        }
        self.graph.check()?;
        pack::verify_and_strip_metadata(&mut self.graph)?;
        Ok(self.graph)
    }

    fn input(&mut self, name: &str, tensor: Option<(i32, Vec<Option<usize>>)>) -> Result<(), ConvertError> {
        let refuse = |expected: &str, found: String| ConvertError::Input {
            name: name.to_string(),
            expected: expected.to_string(),
            found,
        };
        let mut error = None;
        let shape = match &tensor {
            None => {
                error = Some(refuse("a tensor of known rank", "something else".into()));
                None
            }
            Some((code, dims)) => {
                if !matches!(*code, dtype::F32 | dtype::F64 | dtype::F16) {
                    error = Some(refuse("element type float", dtype::name(*code)));
                }
                let fixed: Vec<Option<usize>> =
                    dims.iter().enumerate().map(|(i, d)| d.or((i == 0).then_some(1))).collect();
                if let Some(axis) = fixed.iter().position(Option::is_none) {
                    error = Some(refuse(&format!("a fixed length on axis {axis}"), "a symbolic one".into()));
                }
                fixed.into_iter().collect::<Option<Vec<_>>>()
            }
        };
        match (shape, error) {
            (Some(shape), error) if error.is_none() || self.lenient => self.placeholder(name, shape)?,
            (_, error) => {
                self.unknown.insert(name.to_string());
                self.input_error = self.input_error.take().or(error);
            }
        }
        Ok(())
    }

    fn placeholder(&mut self, name: &str, shape: Vec<usize>) -> Result<(), ConvertError> {
        let fact = Fact::new(shape);
        let id = self.graph.add_input(name, fact.clone())?;
        self.facts.insert(id, fact);
        self.values.insert(name.to_string(), id);
        Ok(())
    }

    /// Imports one node; `false` when its outputs stay unknown.
    fn node(&mut self, call: &Call<'a>) -> Result<bool, ConvertError> {
        let op = call.op();
        let importer = if call.node.is_standard() { codec::importer(op) } else { None };
        let foldable = call.node.is_standard() && FOLDED.contains(&op);
        if importer.is_none() && !foldable {
            self.add_unsupported(call);
            return Ok(false);
        }
        if let Some(input) = call.node.input.iter().find(|name| self.unknown.contains(name.as_str())) {
            let why = format!("the shape of its input `{input}` is not known");
            if importer.is_none() {
                self.add_unsupported(call);
            } else {
                self.skipped.push((call.index, Some(why)));
            }
            return Ok(false);
        }
        if foldable {
            if op == "Shape"
                && let Some(value) = call.input(0).and_then(|name| self.values.get(name))
            {
                let constant = shapes::shape(call, &self.facts[value].shape);
                self.constants.insert(call.output().to_string(), constant);
                return Ok(true);
            }
            if self.all_constant(call)? {
                let inputs: Vec<Option<&Constant>> =
                    (0..call.node.input.len()).map(|i| call.input(i).and_then(|n| self.constants.get(n))).collect();
                let mut folder = Folder { reader: &self.reader, budget: &mut self.budget };
                let constant = folder.fold(call, &inputs)?;
                self.constants.insert(call.output().to_string(), constant);
                return Ok(true);
            }
        }
        let Some(importer) = importer else {
            // folded on constants, unknown on activations
            self.add_unsupported(call);
            return Ok(false);
        };
        let side = call.node.output.iter().skip(1).find(|name| self.uses.contains_key(name.as_str()));
        if let Some(side) = side {
            return Err(call.refuse("outputs", "only the first to be used", format!("`{side}` is used too")));
        }
        importer(self, call)?;
        Ok(true)
    }

    fn all_constant(&mut self, call: &Call) -> Result<bool, ConvertError> {
        for i in 0..call.node.input.len() {
            if let Some(name) = call.input(i)
                && !self.load(name)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes sure that a constant of that name is decoded; `false` when there is none.
    fn load(&mut self, name: &str) -> Result<bool, ConvertError> {
        if self.constants.contains_key(name) {
            return Ok(true);
        }
        let Some(tensor) = self.stored.get(name) else { return Ok(false) };
        let constant = self.reader.read(tensor)?;
        self.constants.insert(name.to_string(), constant);
        Ok(true)
    }

    /// The constant of that name, decoded when nothing has asked for it yet.
    pub fn constant_of(&self, name: &str) -> Option<Constant> {
        let known = self.constants.get(name).cloned();
        known.or_else(|| self.stored.get(name).and_then(|tensor| self.reader.read(tensor).ok()))
    }

    fn add_unsupported(&mut self, call: &Call) {
        self.skipped.push((call.index, None));
        let op = match call.node.domain.as_deref() {
            None | Some("" | "ai.onnx") => call.op().to_string(),
            Some(domain) => format!("{domain}::{}", call.op()),
        };
        match self.unsupported.iter_mut().find(|u| u.op == op) {
            Some(known) => known.count += 1,
            None => self.unsupported.push(UnsupportedOp { op, node: call.node.label().to_string(), count: 1 }),
        }
    }

    /// Stands in for the outputs of a node that was not imported.
    ///
    /// In lenient mode an output whose shape the file states (or that keeps its input's shape) becomes an input
    /// of the graph, so that the walk goes on behind it.
    fn opaque(&mut self, call: &Call<'a>) {
        for name in call.node.output.iter().filter(|n| !n.is_empty()) {
            if self.values.contains_key(name) {
                continue;
            }
            let shape = if self.lenient { self.stated(name).or_else(|| self.kept(call)) } else { None };
            let known = shape.is_some_and(|shape| self.placeholder(name, shape).is_ok());
            if !known {
                self.unknown.insert(name.clone());
            }
        }
    }

    fn stated(&self, name: &str) -> Option<Vec<usize>> {
        let mut infos = self.onnx.value_info.iter().chain(&self.onnx.output);
        let (_, dims) = infos.find(|v| v.name.as_deref() == Some(name))?.tensor()?;
        dims.into_iter().enumerate().map(|(i, d)| d.or((i == 0).then_some(1))).collect()
    }

    /// Shape of input 0, for operators that work element by element.
    fn kept(&self, call: &Call) -> Option<Vec<usize>> {
        const ELEMENTWISE: &[&str] = &[
            "Abs",
            "Cast",
            "Ceil",
            "Celu",
            "DequantizeLinear",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "InstanceNormalization",
            "LRN",
            "LayerNormalization",
            "Log",
            "LogSoftmax",
            "Mish",
            "Neg",
            "PRelu",
            "QuantizeLinear",
            "Reciprocal",
            "Round",
            "Selu",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Tanh",
        ];
        let value = self.values.get(call.input(0)?)?;
        ELEMENTWISE.contains(&call.op()).then(|| self.facts[value].shape.clone())
    }

    fn lookup(&mut self, name: &str) -> Result<Option<ValueId>, ConvertError> {
        if let Some(id) = self.values.get(name) {
            return Ok(Some(*id));
        }
        if !self.load(name)? {
            return Ok(None);
        }
        let constant = &self.constants[name];
        let tensor = constant.to_tensor().ok_or_else(|| ConvertError::Tensor {
            name: name.to_string(),
            expected: "floats".into(),
            found: constant.describe(),
        })?;
        self.initializer(name, tensor).map(Some)
    }

    // What the importers of `codec` use.

    /// Input `index` as a value of the graph; a constant becomes an initializer under its own name.
    pub fn value(&mut self, call: &Call, index: usize) -> Result<ValueId, ConvertError> {
        let what = format!("input {index}");
        let name = call.input(index).ok_or_else(|| call.refuse(&what, "a value", "nothing"))?;
        self.lookup(name)?.ok_or_else(|| call.refuse(&what, "a value defined before", format!("`{name}`")))
    }

    /// Input `index` if it is a constant.
    pub fn constant(&mut self, call: &Call, index: usize) -> Result<Option<Constant>, ConvertError> {
        match call.input(index) {
            Some(name) if self.load(name)? => Ok(self.constants.get(name).cloned()),
            _ => Ok(None),
        }
    }

    /// Input `index`, which must be a list of integers; `None` when it is left out.
    pub fn int_list(&mut self, call: &Call, index: usize) -> Result<Option<Vec<i64>>, ConvertError> {
        match self.constant(call, index)? {
            Some(constant) => shapes::int_list(call, index, &constant).map(Some),
            None if call.input(index).is_some() => {
                Err(call.refuse(&format!("input {index}"), "a constant list of integers", "a computed one"))
            }
            None => Ok(None),
        }
    }

    /// Input `index`, which must be one constant number; `None` when it is left out.
    pub fn scalar(&mut self, call: &Call, index: usize) -> Result<Option<f32>, ConvertError> {
        let found = self.constant(call, index)?;
        if found.is_none() && call.input(index).is_none() {
            return Ok(None);
        }
        let text = found.as_ref().map_or_else(|| "a computed value".to_string(), Constant::describe);
        let number = found.and_then(|c| c.scalar());
        number.map(Some).ok_or_else(|| call.refuse(&format!("input {index}"), "one constant number", text))
    }

    /// Shape of a value.
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.facts[&value].shape
    }

    /// Batch length of the model: axis 0 of its first input.
    pub fn batch(&self) -> Option<usize> {
        self.graph.inputs().first().and_then(|(_, fact)| fact.shape.first().copied())
    }

    /// A constant of the graph; the same name with the same values is added once.
    pub fn initializer(&mut self, name: &str, tensor: Tensor) -> Result<ValueId, ConvertError> {
        if let Some(id) = self.materialised.get(name)
            && self.graph.initializer(*id).is_some_and(|t| same_bits(t, &tensor))
        {
            return Ok(*id);
        }
        let taken = self.graph.value(name).is_some();
        let unique = if taken { self.fresh(name) } else { name.to_string() };
        let fact = tensor.fact();
        let id = self.graph.add_initializer(&unique, tensor)?;
        self.facts.insert(id, fact);
        self.materialised.insert(name.to_string(), id);
        Ok(id)
    }

    /// A name that nothing in the file or the graph uses.
    pub fn fresh(&self, base: &str) -> String {
        (1..)
            .map(|i| format!("{base}.{i}"))
            .find(|name| !self.reserved.contains(name.as_str()) && self.graph.value(name).is_none())
            .expect("there are more numbers than names")
    }

    /// Adds the node that computes the output of `call`.
    pub fn emit(&mut self, call: &Call, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, ConvertError> {
        self.emit_as(call.output(), op, inputs)
    }

    /// Adds a node under any name.
    pub fn emit_as(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, ConvertError> {
        let op = op.into();
        let facts: Vec<&Fact> = inputs.iter().map(|id| &self.facts[id]).collect();
        let blame = |source| GraphError::Node { node: name.to_string(), op: op.name(), source };
        let fact = op.infer(&facts).map_err(blame)?;
        let id = self.graph.add_node(name, op, inputs)?;
        self.facts.insert(id, fact);
        self.values.insert(name.to_string(), id);
        Ok(id)
    }

    /// The node that alone reads the output of `call`, if it has that operator and is still to come.
    pub fn sole_reader(&self, call: &Call, op: &str) -> Option<Call<'a>> {
        let [index] = self.uses.get(call.output())?[..] else { return None };
        let nodes: &'a [NodeProto] = &self.onnx.node;
        let node = nodes.get(index)?;
        let fits = index > call.index && node.is_standard() && node.op_type.as_deref() == Some(op);
        (fits && node.input.len() == 2 && !self.done.contains(&index)).then_some(Call {
            node,
            index,
            opset: self.opset,
        })
    }

    /// Marks a node as imported together with another.
    pub fn absorb(&mut self, call: &Call) {
        self.done.insert(call.index);
    }

    /// The `Add` of a constant per output channel that follows `call`, as a bias: its node, name and values.
    ///
    /// * `rank`: of the output, whose axis 1 has `channels` entries.
    pub fn bias_ahead(
        &mut self,
        call: &Call,
        channels: usize,
        rank: usize,
    ) -> Result<Option<(Call<'a>, String, Tensor)>, ConvertError> {
        let Some(add) = self.sole_reader(call, "Add") else { return Ok(None) };
        let other = if add.input(0) == Some(call.output()) { add.input(1) } else { add.input(0) };
        let Some(name) = other.filter(|name| *name != call.output()) else { return Ok(None) };
        if !self.load(name)? {
            return Ok(None);
        }
        let Some(tensor) = self.constants[name].to_tensor() else { return Ok(None) };
        Ok(per_channel(&tensor, channels, rank).map(|bias| (add, name.to_string(), bias)))
    }
}

/// `tensor` as one number per channel, if it broadcasts over an output `[N, channels, ..]` of that rank as such.
fn per_channel(tensor: &Tensor, channels: usize, rank: usize) -> Option<Tensor> {
    let missing = rank.checked_sub(tensor.shape.len())?;
    let on_channel = |i: usize| i + missing == 1;
    let fits = tensor.shape.iter().enumerate().all(|(i, d)| *d == 1 || (on_channel(i) && *d == channels));
    match (fits, tensor.data.len()) {
        (true, 1) => Some(Tensor::full([channels], tensor.data[0])),
        (true, n) if n == channels => Some(Tensor { shape: vec![channels], data: tensor.data.clone() }),
        _ => None,
    }
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape && a.data.iter().zip(&b.data).all(|(x, y)| x.to_bits() == y.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_constant_along_the_channel_axis_is_a_bias() {
        let ones = |shape: &[usize]| Tensor::full(shape.to_vec(), 1.0);
        assert!(per_channel(&ones(&[5, 1, 1]), 5, 4).is_some());
        assert!(per_channel(&ones(&[1, 5, 1, 1]), 5, 4).is_some());
        assert!(per_channel(&ones(&[5]), 5, 2).is_some());
        assert_eq!(per_channel(&ones(&[]), 5, 4).unwrap().shape, [5]);
        assert!(per_channel(&ones(&[5]), 5, 4).is_none(), "broadcasts over the width");
        assert!(per_channel(&ones(&[5, 1]), 5, 2).is_none(), "differs per sample");
    }
}
