//! Finds packed tensors in a file, as function calls or written out, and decodes them under a byte budget.

use std::collections::{HashMap, HashSet};

use sentei_kernels::packed::{self, ByteBudget, Encoding, Packed, PackedError};

use super::DOMAIN;
use super::functions::encoding_of;
use crate::ConvertError;
use crate::constant::{Constant, Data, Origin, TensorReader};
use crate::proto::{GraphProto, NodeProto, TensorProto, dtype};

/// Most bytes one tensor may decode to, whatever the budget of the model.
const MAX_TENSOR_BYTES: u64 = 1 << 30;

/// Most nodes of a written-out decode chain; ours have 17.
const MAX_CHAIN: usize = 64;

/// Result of [`decode_packed`].
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Decoded tensors by the name of the value they define, before `Cast` and scale.
    pub constants: HashMap<String, Constant>,
    /// Indices of the nodes that are now accounted for.
    pub nodes: Vec<usize>,
}

/// Decodes every packed tensor of the graph.
///
/// All rules of the format are checked, and the decoded size is charged to `budget`, before anything of that size
/// is allocated.
pub(crate) fn decode_packed(
    onnx: &GraphProto,
    reader: &TensorReader,
    budget: &mut ByteBudget,
) -> Result<Decoded, ConvertError> {
    let file = File::new(onnx, reader);
    let mut decoded = Decoded::default();
    for (index, node) in onnx.node.iter().enumerate() {
        if node.domain.as_deref() != Some(DOMAIN) {
            continue;
        }
        let Some(encoding) = node.op_type.as_deref().and_then(encoding_of) else { continue };
        let output = node.output.first().map_or("", String::as_str);
        let [values, positions, shape] = &node.input[..] else {
            return Err(wrong(output, "inputs values, positions and shape", format!("{} inputs", node.input.len())));
        };
        let count = node.attribute.iter().find(|a| a.name.as_deref() == Some("count")).and_then(|a| a.i);
        if encoding == Encoding::Gap4 && count.is_none() {
            return Err(wrong(output, "attribute `count`", "nothing".into()));
        }
        let constant = file.decode(output, encoding, [values, positions, shape], count, budget)?;
        file.check_scales(output, &constant)?;
        decoded.constants.insert(output.to_string(), constant);
        decoded.nodes.push(index);
    }
    for chain in file.inline_chains() {
        let suffix = if chain.encoding == Encoding::Mask { "mask" } else { "gaps" };
        let name = |suffix: &str| format!("{}.{suffix}", chain.base);
        let inputs = [&name("values"), &name(suffix), &name("shape")];
        let constant = file.decode(chain.output, chain.encoding, inputs, chain.count, budget)?;
        file.check_scales(chain.output, &constant)?;
        decoded.constants.insert(chain.output.to_string(), constant);
        decoded.nodes.extend(chain.nodes);
    }
    Ok(decoded)
}

fn wrong(name: &str, expected: &str, found: String) -> ConvertError {
    ConvertError::Tensor { name: name.to_string(), expected: expected.to_string(), found }
}

struct File<'a> {
    onnx: &'a GraphProto,
    reader: &'a TensorReader,
    stored: HashMap<&'a str, &'a TensorProto>,
    /// Index of the node that computes a value.
    producers: HashMap<&'a str, usize>,
    /// Indices of the nodes that read a value.
    readers: HashMap<&'a str, Vec<usize>>,
}

/// A written-out decode chain.
struct Chain<'a> {
    base: &'a str,
    output: &'a str,
    encoding: Encoding,
    count: Option<i64>,
    nodes: HashSet<usize>,
}

impl<'a> File<'a> {
    fn new(onnx: &'a GraphProto, reader: &'a TensorReader) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut producers = HashMap::new();
        for (index, node) in onnx.node.iter().enumerate() {
            for name in &node.input {
                readers.entry(name).or_default().push(index);
            }
            producers.extend(node.output.iter().map(|name| (name.as_str(), index)));
        }
        let stored = onnx.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t))).collect();
        File { onnx, reader, stored, producers, readers }
    }

    fn op(&self, index: usize) -> &'a str {
        self.onnx.node[index].op_type.as_deref().unwrap_or("")
    }

    fn constant(&self, of: &str, name: &str) -> Result<Constant, ConvertError> {
        let tensor =
            self.stored.get(name).ok_or_else(|| wrong(of, "packed data in initializers", format!("no `{name}`")))?;
        self.reader.read(tensor)
    }

    fn decode(
        &self,
        output: &str,
        encoding: Encoding,
        [values, positions, shape]: [&String; 3],
        count: Option<i64>,
        budget: &mut ByteBudget,
    ) -> Result<Constant, ConvertError> {
        let packed_error = |source: PackedError| ConvertError::packed(output, source);
        let shape = self.constant(output, shape)?;
        let dims = shape.as_ints().unwrap_or(&[]);
        let lengths: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(*d).ok().filter(|n| *n > 0)).collect();
        let lengths = lengths
            .filter(|l| l.len() == shape.len())
            .ok_or_else(|| wrong(output, "a shape of lengths above 0", format!("{dims:?}")))?;
        let needed = lengths.iter().try_fold(4u64, |n, d| n.checked_mul(*d as u64)).unwrap_or(u64::MAX);
        if needed > MAX_TENSOR_BYTES.min(budget.left()) {
            let left = MAX_TENSOR_BYTES.min(budget.left());
            return Err(packed_error(PackedError::Budget { needed, left }));
        }
        let stored_values = self.constant(output, values)?;
        let code = stored_values.dtype;
        let values = without_fill(output, &stored_values)?;
        let stored_positions = self.constant(output, positions)?;
        let bytes = match (&stored_positions.data, stored_positions.dtype) {
            (Data::Int(v), dtype::U8) => v.iter().map(|v| *v as u8).collect::<Vec<u8>>(),
            _ => return Err(wrong(output, "positions of uint8", stored_positions.describe())),
        };
        let symbols = match (encoding, count) {
            (Encoding::Gap4, Some(count)) => {
                usize::try_from(count).map_err(|_| wrong(output, "a symbol count of at least 0", count.to_string()))?
            }
            (Encoding::Gap4, None) => bytes.len() * 2,
            _ => bytes.len(),
        };
        let tensor = Packed { shape: lengths.clone(), encoding, positions: bytes, symbols, values, scales: None };
        let data = tensor.to_dense(budget).map_err(packed_error)?;
        let data =
            if code == dtype::I8 { Data::Int(data.iter().map(|v| *v as i64).collect()) } else { Data::Float(data) };
        let bytes = stored_values.origin.bytes + stored_positions.origin.bytes + shape.origin.bytes;
        let origin = Origin { bytes, encoding: Some(encoding.name()) };
        Ok(Constant { dtype: code, shape: lengths, data, origin })
    }

    /// int8 weights are followed by `Cast` and `Mul` with one scale per row, finite, above 0 and without overflow.
    fn check_scales(&self, output: &str, constant: &Constant) -> Result<(), ConvertError> {
        if constant.dtype != dtype::I8 {
            return Ok(());
        }
        let (mut name, mut rows) = (output, constant.shape.first().copied());
        for _ in 0..3 {
            let Some(&[next]) = self.readers.get(name).map(Vec::as_slice) else { return Ok(()) };
            let node = &self.onnx.node[next];
            match self.op(next) {
                "Cast" => {}
                // a chunk: the scale covers the rows of all of them
                "Concat" => rows = None,
                "Mul" => {
                    let scale = node.input.iter().find(|i| i.as_str() != name);
                    let Some(scale) = scale.filter(|s| self.stored.contains_key(s.as_str())) else { return Ok(()) };
                    let found = self.constant(output, scale)?;
                    if let Some(rows) = rows.filter(|rows| found.len() != *rows) {
                        return Err(wrong(scale, &format!("{rows} scales"), found.describe()));
                    }
                    // 128 is the largest magnitude of an int8 value
                    let bad = match &found.data {
                        Data::Float(v) => {
                            v.iter().find(|s| !(**s > 0.0 && (**s * 128.0).is_finite())).map(f32::to_string)
                        }
                        Data::Int(_) => Some("integers".into()),
                    };
                    return bad.map_or(Ok(()), |bad| Err(wrong(scale, "finite scales above 0", bad)));
                }
                _ => return Ok(()),
            }
            name = node.output.first().map_or("", String::as_str);
        }
        Ok(())
    }

    /// Written-out chains: `<base>.values`, `<base>.gaps` or `.mask`, and a Reshape to `<base>.shape`.
    fn inline_chains(&self) -> Vec<Chain<'a>> {
        let mut chains = Vec::new();
        for (last, node) in self.onnx.node.iter().enumerate().filter(|(_, n)| is_reshape(n)) {
            let Some(base) = node.input[1].strip_suffix(".shape") else { continue };
            let has = |suffix: &str| self.stored.contains_key(format!("{base}.{suffix}").as_str());
            if !has("shape") || !has("values") || !(has("gaps") || has("mask")) {
                continue;
            }
            if let Some(nodes) = self.constant_ancestors(last) {
                let output = node.output.first().map_or("", String::as_str);
                let encoding = match (has("mask"), nodes.iter().any(|i| self.splits_nibbles(*i))) {
                    (true, _) => Encoding::Mask,
                    (false, true) => Encoding::Gap4,
                    (false, false) => Encoding::Gap8,
                };
                let count_name = format!("{base}.count");
                let count = self.stored.get(count_name.as_str()).and_then(|t| self.reader.read(t).ok());
                let count = count.as_ref().and_then(Constant::as_ints).and_then(|v| v.first().copied());
                chains.push(Chain { base, output, encoding, count, nodes });
            }
        }
        chains
    }

    /// The node and everything it is computed from, if that is all constant.
    fn constant_ancestors(&self, last: usize) -> Option<HashSet<usize>> {
        let mut seen = HashSet::from([last]);
        let mut open = vec![last];
        while let Some(index) = open.pop() {
            if seen.len() > MAX_CHAIN {
                return None;
            }
            for name in self.onnx.node[index].input.iter().filter(|n| !n.is_empty()) {
                match self.producers.get(name.as_str()) {
                    Some(next) if seen.insert(*next) => open.push(*next),
                    Some(_) => {}
                    None if self.stored.contains_key(name.as_str()) => {}
                    None => return None,
                }
            }
        }
        Some(seen)
    }

    fn splits_nibbles(&self, index: usize) -> bool {
        let table = self.onnx.node[index].input.first().and_then(|name| self.stored.get(name.as_str()));
        self.op(index) == "Gather" && table.is_some_and(|t| t.dims == [256, 2])
    }
}

fn is_reshape(node: &NodeProto) -> bool {
    node.is_standard() && node.op_type.as_deref() == Some("Reshape") && node.input.len() == 2
}

/// The non-zeros behind the fill value, which must be there and `+0`.
fn without_fill(output: &str, stored: &Constant) -> Result<packed::Values, ConvertError> {
    let refuse = || wrong(output, "values float, float16 or int8 that start with +0", stored.describe());
    match (&stored.data, stored.dtype) {
        (Data::Float(v), code) => {
            let (fill, rest) = v.split_first().ok_or_else(refuse)?;
            match code {
                _ if fill.to_bits() != 0 => Err(wrong(output, "fill value +0", fill.to_string())),
                dtype::F32 => Ok(packed::Values::F32(rest.to_vec())),
                dtype::F16 => Ok(packed::Values::F16(rest.iter().map(|v| half::f16::from_f32(*v)).collect())),
                _ => Err(refuse()),
            }
        }
        (Data::Int(v), dtype::I8) => {
            let (fill, rest) = v.split_first().ok_or_else(refuse)?;
            if *fill != 0 {
                return Err(wrong(output, "fill value 0", fill.to_string()));
            }
            Ok(packed::Values::I8(rest.iter().map(|v| *v as i8).collect()))
        }
        _ => Err(refuse()),
    }
}
