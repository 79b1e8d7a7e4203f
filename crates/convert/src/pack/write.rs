//! Writes a graph with its weights packed, each tensor in the smallest form.

use std::collections::BTreeSet;

use prost::Message;
use sentei_graph::Graph;
use sentei_kernels::packed::{self, Encoding, Packed};

use super::functions::{Names, function, function_name, nodes, shared_constant};
use super::quantise::{Quantised, Stored, quantise_tensor};
use super::{DOMAIN, Packing, TensorRow, Values, metadata, name_pattern, weights};
use crate::ConvertError;
use crate::export::{self, ExportOptions};
use crate::proto::{
    AttributeProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, dtype,
};

/// Densest tensor worth packing: above it the positions and the decode nodes cost more than the zeros.
const MAX_DENSITY: f64 = 0.6;
/// Smallest tensor worth packing, in bytes of dense `f32`.
const MIN_DENSE_BYTES: usize = 1024;
/// Elements per chunk of the inline form: tract folds constants of up to 4 MiB.
const CHUNK_ELEMENTS: usize = 1 << 20;
/// About what the nodes and names of a stored type cost, so that tiny tensors stay plain.
const CAST_BYTES: usize = 120;

/// Writes `graph` packed; also returns its dense twin and what became of each weight.
///
/// The file decodes to the weights of the twin, bit for bit.
pub(crate) fn pack(
    graph: &Graph,
    packing: Packing,
    values: Values,
    options: ExportOptions,
) -> Result<(Vec<u8>, Graph, Vec<TensorRow>), ConvertError> {
    let mut twin = graph.clone();
    let mut quantised = Vec::new();
    for (id, tensor) in weights(graph) {
        let name = graph.name(id).to_string();
        let weight = quantise_tensor(&name, tensor, values)?;
        twin.set_initializer(id, weight.dense.clone());
        quantised.push((name, weight));
    }
    name_pattern(&mut twin);
    let mut model = export::model(&twin, options)?;
    let mut to = Writer { model: &mut model, packing, nodes: Vec::new(), used: BTreeSet::new() };
    let rows = quantised.iter().map(|(name, weight)| to.weight(name, weight)).collect::<Result<Vec<_>, _>>()?;
    let (prefix, used) = (to.nodes, to.used);
    if packing != Packing::Dense {
        let entry = |(k, v)| StringStringEntryProto { key: Some(k), value: Some(v) };
        model.metadata_props.extend(metadata(&twin).map(entry));
    }
    if packing == Packing::Functions && !used.is_empty() {
        model.opset_import.push(OperatorSetIdProto { domain: Some(DOMAIN.into()), version: Some(1) });
        model.functions = used.into_iter().map(function).collect();
    }
    let onnx = model.graph.as_mut().expect("export writes a graph");
    onnx.node.splice(0..0, prefix);
    if packing != Packing::Dense {
        // every node is called like its output, which is what readers fall back to
        onnx.node.iter_mut().for_each(|node| node.name = None);
    }
    Ok((model.encode_to_vec(), twin, rows))
}

struct Writer<'a> {
    model: &'a mut ModelProto,
    packing: Packing,
    /// Decode nodes, which come before everything else.
    nodes: Vec<NodeProto>,
    used: BTreeSet<Encoding>,
}

impl Writer<'_> {
    fn weight(&mut self, name: &str, weight: &Quantised) -> Result<TensorRow, ConvertError> {
        let dense = &weight.dense;
        let dense_bytes = dense.len() * 4;
        let nnz = dense.nonzero();
        let mut row = TensorRow {
            name: name.to_string(),
            shape: dense.shape.clone(),
            nnz,
            encoding: "dense",
            values: "f32",
            bytes: dense_bytes as u64,
            dense_bytes: dense_bytes as u64,
        };
        if self.packing == Packing::Dense {
            return Ok(row);
        }
        let (width, scales, typed) = match &weight.stored {
            Stored::F32(_) => (4, 0, "f32"),
            Stored::F16(_) => (2, 0, "f16"),
            Stored::I8(_, scales) => (1, 4 * scales.len(), "i8"),
        };
        let plain = dense.len() * width + scales + if width < 4 { CAST_BYTES } else { 0 };
        let (positions, _) = packed::nonzeros(&dense.data);
        let encoding = packed::smallest(&positions, dense.len(), width);
        let packs = dense_bytes >= MIN_DENSE_BYTES && nnz as f64 <= MAX_DENSITY * dense.len() as f64;
        let stored = packed::encoded_bytes(encoding, &positions, dense.len(), width) + scales;
        if packs && stored < plain.min(dense_bytes) {
            row.encoding = encoding.name();
            row.values = typed;
            row.bytes = self.packed(name, weight, encoding)? + scales as u64;
        } else if plain < dense_bytes {
            row.values = typed;
            row.bytes = (dense.len() * width + scales) as u64;
            self.plain(name, weight);
        }
        Ok(row)
    }

    fn initializers(&mut self) -> &mut Vec<TensorProto> {
        &mut self.model.graph.as_mut().expect("export writes a graph").initializer
    }

    fn drop_dense(&mut self, name: &str) {
        self.initializers().retain(|t| t.name.as_deref() != Some(name));
    }

    fn add(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.nodes.push(NodeProto { name: None, ..NodeProto::standard(op, inputs, output, attributes) });
    }

    /// Stores every element in its type.
    fn plain(&mut self, name: &str, weight: &Quantised) {
        self.drop_dense(name);
        let stored = format!("{name}.q");
        let (code, bytes) = stored_bytes(&weight.stored, None);
        self.initializers().push(TensorProto::raw(&stored, code, &weight.dense.shape, bytes));
        self.widen(name, weight);
    }

    /// `<name>.q` in its type to `<name>` in `f32`.
    fn widen(&mut self, name: &str, weight: &Quantised) {
        let stored = format!("{name}.q");
        let to_float = vec![AttributeProto::int("to", i64::from(dtype::F32))];
        let Stored::I8(_, scales) = &weight.stored else {
            return self.add("Cast", &[&stored], name, to_float);
        };
        let (wide, scale) = (format!("{name}.f"), format!("{name}.scale"));
        let mut shape = vec![1; weight.dense.shape.len()];
        shape[0] = scales.len();
        self.initializers().push(TensorProto::floats(&scale, &shape, scales));
        self.add("Cast", &[&stored], &wide, to_float);
        self.add("Mul", &[&wide, &scale], name, vec![]);
    }

    /// Stores positions and non-zeros; returns their bytes.
    fn packed(&mut self, name: &str, weight: &Quantised, encoding: Encoding) -> Result<u64, ConvertError> {
        self.drop_dense(name);
        self.used.insert(encoding);
        let typed = !matches!(weight.stored, Stored::F32(_));
        let whole = if typed { format!("{name}.q") } else { name.to_string() };
        let shape = &weight.dense.shape;
        let row_len: usize = shape[1..].iter().product();
        let rows = match self.packing {
            Packing::Inline => (CHUNK_ELEMENTS / row_len.max(1)).max(1),
            _ => shape[0],
        };
        let mut bytes = 0;
        let mut parts = Vec::new();
        for (i, first) in (0..shape[0]).step_by(rows).enumerate() {
            let last = (first + rows).min(shape[0]);
            let single = rows >= shape[0];
            let (base, output) =
                if single { (name.to_string(), whole.clone()) } else { (format!("{name}.{i}"), format!("{name}.{i}")) };
            let mut part = shape.clone();
            part[0] = last - first;
            bytes += self.chunk(&base, &output, weight, encoding, &part, first * row_len..last * row_len)?;
            parts.push(output);
        }
        if parts.len() > 1 {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            self.add("Concat", &parts, &whole, vec![AttributeProto::int("axis", 0)]);
        }
        if typed {
            self.widen(name, weight);
        }
        Ok(bytes)
    }

    fn chunk(
        &mut self,
        base: &str,
        output: &str,
        weight: &Quantised,
        encoding: Encoding,
        shape: &[usize],
        range: std::ops::Range<usize>,
    ) -> Result<u64, ConvertError> {
        let (positions, _) = packed::nonzeros(&weight.dense.data[range.clone()]);
        let kept: Vec<usize> = positions.iter().map(|p| range.start + *p as usize).collect();
        let values = match &weight.stored {
            Stored::F32(v) => packed::Values::F32(kept.iter().map(|i| v[*i]).collect()),
            Stored::F16(v) => packed::Values::F16(kept.iter().map(|i| v[*i]).collect()),
            Stored::I8(v, _) => packed::Values::I8(kept.iter().map(|i| v[*i]).collect()),
        };
        let blame = |source| ConvertError::Packed { name: base.to_string(), source };
        let chunk = Packed::encode(shape, encoding, &positions, values, None).map_err(blame)?;
        let (code, bytes) = stored_bytes(&weight.stored, Some(&kept));
        let name = |suffix: &str| format!("{base}.{suffix}");
        let values_name = name("values");
        let positions_name = name(if encoding == Encoding::Mask { "mask" } else { "gaps" });
        let shape_name = name("shape");
        let dims: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
        let elements = range.len() as i64;
        let odd = encoding == Encoding::Gap4 && chunk.symbols % 2 == 1;
        let size = chunk.file_bytes() as u64 + 8 * dims.len() as u64;
        let list = self.initializers();
        list.push(TensorProto::raw(&values_name, code, &[1 + kept.len()], bytes));
        list.push(TensorProto::raw(&positions_name, dtype::U8, &[chunk.positions.len()], chunk.positions));
        list.push(TensorProto::int64s(&shape_name, &[dims.len()], &dims));
        if self.packing == Packing::Functions {
            let count = AttributeProto::int("count", chunk.symbols as i64);
            let attributes = if encoding == Encoding::Gap4 { vec![count] } else { vec![] };
            self.add(function_name(encoding), &[&values_name, &positions_name, &shape_name], output, attributes);
            self.nodes.last_mut().expect("just added").domain = Some(DOMAIN.into());
            return Ok(size);
        }
        let (elements_name, count_name) = (name("n"), name("count"));
        let list = self.initializers();
        list.push(TensorProto::int64s(&elements_name, &[1], &[elements]));
        if odd {
            list.push(TensorProto::int64s(&count_name, &[1], &[chunk.symbols as i64]));
        }
        let names = Names {
            values: &values_name,
            positions: &positions_name,
            shape: &shape_name,
            elements: &elements_name,
            count: odd.then_some(count_name.as_str()),
            output,
        };
        let mut wanted = BTreeSet::new();
        let decode = nodes(
            encoding,
            &names,
            |inner| name(&format!("_{inner}")),
            |shared| {
                wanted.insert(shared);
                format!("sentei.{shared}")
            },
        );
        self.nodes.extend(decode);
        for shared in wanted {
            let name = format!("sentei.{shared}");
            if !self.initializers().iter().any(|t| t.name.as_ref() == Some(&name)) {
                self.initializers().push(TensorProto { name: Some(name), ..shared_constant(shared) });
            }
        }
        Ok(size)
    }
}

/// Element type and little-endian bytes: all elements, or the fill value and the `kept` ones.
fn stored_bytes(stored: &Stored, kept: Option<&[usize]>) -> (i32, Vec<u8>) {
    fn bytes<T: Copy, const N: usize>(all: &[T], kept: Option<&[usize]>, le: fn(T) -> [u8; N]) -> Vec<u8> {
        match kept {
            None => all.iter().flat_map(|v| le(*v)).collect(),
            Some(kept) => [0; N].into_iter().chain(kept.iter().flat_map(|i| le(all[*i]))).collect(),
        }
    }
    match stored {
        Stored::F32(v) => (dtype::F32, bytes(v, kept, f32::to_le_bytes)),
        Stored::F16(v) => (dtype::F16, bytes(v, kept, half::f16::to_le_bytes)),
        Stored::I8(v, _) => (dtype::I8, bytes(v, kept, i8::to_le_bytes)),
    }
}
