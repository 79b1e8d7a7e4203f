//! Lifts packed weights out of an ONNX graph, so that tract never sees them.
//!
//! `Unpack*` and what only shapes its result (`Concat` of chunks, `Cast` to float, `Mul` by a scale per row, `Identity`)
//! are taken out of the graph; the value they made becomes a graph input of the same name. tract types a graph whose
//! weights are inputs like any other, cannot fold what it does not have, and leaves it to this room whether such an input
//! ends in a sparse kernel or in a constant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use half::f16;
use sentei_kernels::packed::{Packed, Values, concat};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::tract_ndarray::{ArrayD, IxDyn};
use tract_onnx::prelude::{Datum, IntoArcTensor, Tensor};

use crate::error::RuntimeError;

/// One weight that the file stores packed.
#[derive(Clone, Debug)]
pub(super) struct PackedWeight {
    /// Shape of the whole weight.
    pub(super) shape: Vec<usize>,
    /// Ranges of axis 0, in order; valid, within the byte budget.
    pub(super) chunks: Arc<Vec<Packed>>,
    /// Type of the value in the graph.
    pub(super) element: Element,
}

/// Type that a lifted weight has in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    I8,
}

impl PackedWeight {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn nnz(&self) -> usize {
        self.chunks.iter().map(Packed::nnz).sum()
    }

    /// Flat index and value of every non-zero, in row-major order.
    pub(super) fn nonzeros(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        concat(&self.chunks)
    }

    /// The dense weight; its size was charged to the byte budget when the file was screened.
    pub(super) fn to_tensor(&self) -> Arc<Tensor> {
        fn dense<T: Datum + Copy>(weight: &PackedWeight, zero: T, cast: impl Fn(f32) -> T) -> ArrayD<T> {
            let mut array = ArrayD::from_elem(IxDyn(&weight.shape), zero);
            let flat = array.as_slice_mut().expect("a new array is contiguous");
            weight.nonzeros().for_each(|(index, value)| flat[index as usize] = cast(value));
            array
        }
        match self.element {
            Element::F32 => dense(self, 0.0f32, |value| value).into_arc_tensor(),
            Element::F16 => dense(self, f16::ZERO, f16::from_f32).into_arc_tensor(),
            Element::I8 => dense(self, 0i8, |value| value as i8).into_arc_tensor(),
        }
    }
}

/// Takes the packed weights out of `proto`; `chunks` are the screened ones by the name of their value.
///
/// Returns them by the name of the graph input that now stands for them. Fixes the open first axis of every other input
/// to `batch`.
pub(super) fn lift(
    proto: &mut ModelProto,
    chunks: HashMap<String, Packed>,
    batch: usize,
) -> Result<HashMap<String, PackedWeight>, RuntimeError> {
    proto.functions.clear();
    let graph = proto.graph.as_mut().ok_or_else(|| RuntimeError::Malformed("there is no graph".into()))?;
    fix_batch(graph, batch)?;
    let mut lift = Lift::new(graph, chunks);
    let nodes = std::mem::take(&mut graph.node);
    let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let (mut kept, mut freed) = (Vec::with_capacity(nodes.len()), HashSet::new());
    for node in nodes {
        match lift.absorb(&node, &constants)? {
            true => freed.extend(node.input),
            false => kept.push(node),
        }
    }
    graph.node = kept;

    let needed: HashSet<&str> = graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let used = |name: &str| needed.contains(name) || outputs.contains(name);
    graph.initializer.retain(|tensor| used(&tensor.name) || !freed.contains(&tensor.name));
    graph.input.retain(|input| used(&input.name) || !freed.contains(&input.name));
    let weights: HashMap<String, PackedWeight> = lift.weights.into_iter().filter(|(name, _)| used(name)).collect();
    let mut names: Vec<_> = weights.keys().collect();
    names.sort();
    let inputs: Vec<_> = names.into_iter().map(|name| weight_input(name, &weights[name])).collect();
    graph.value_info.retain(|info| !weights.contains_key(&info.name));
    graph.input.extend(inputs);
    Ok(weights)
}

struct Lift {
    chunks: HashMap<String, Packed>,
    weights: HashMap<String, PackedWeight>,
    uses: HashMap<String, usize>,
}

impl Lift {
    fn new(graph: &GraphProto, chunks: HashMap<String, Packed>) -> Self {
        let mut uses = HashMap::new();
        let inputs = graph.node.iter().flat_map(|node| &node.input);
        for name in inputs.chain(graph.output.iter().map(|output| &output.name)) {
            *uses.entry(name.clone()).or_default() += 1;
        }
        Self { chunks, weights: HashMap::new(), uses }
    }

    /// Whether `node` only made or shaped a packed weight and is now part of [`Lift::weights`].
    fn absorb(&mut self, node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Result<bool, RuntimeError> {
        let [output] = &node.output[..] else { return Ok(false) };
        let known = |name: &String| self.weights.contains_key(name);
        let weight = match node.op_type.as_str() {
            "UnpackGap4" | "UnpackGap8" | "UnpackMask" if node.domain == "ai.sentei" => {
                let Some(packed) = self.chunks.remove(output) else {
                    return Err(RuntimeError::Malformed(format!("packed weight `{output}` is made twice")));
                };
                let element = match packed.values {
                    Values::F32(_) => Element::F32,
                    Values::F16(_) => Element::F16,
                    Values::I8(_) => Element::I8,
                };
                PackedWeight { shape: packed.shape.clone(), chunks: Arc::new(vec![packed]), element }
            }
            "Concat" if int(node, "axis") == Some(0) && !node.input.is_empty() && node.input.iter().all(known) => {
                let parts: Vec<_> = node.input.iter().map(|name| self.take(name)).collect();
                concatenate(output, parts)?
            }
            "Cast" if int(node, "to") == Some(DataType::Float as i64) && node.input.iter().all(known) => {
                PackedWeight { element: Element::F32, ..self.take(&node.input[0]) }
            }
            "Identity" if node.input.iter().all(known) => self.take(&node.input[0]),
            "Mul" if node.input.len() == 2 => {
                let (weight, scale) = if known(&node.input[0]) {
                    (&node.input[0], &node.input[1])
                } else {
                    (&node.input[1], &node.input[0])
                };
                let scales = constants.get(scale.as_str());
                let Some(scales) = self.weights.get(weight).zip(scales).and_then(|(w, s)| row_scales(w, s)) else {
                    return Ok(false);
                };
                let mut weight = self.take(weight);
                let mut rest = &scales[..];
                for chunk in Arc::make_mut(&mut weight.chunks) {
                    let (head, tail) = rest.split_at(chunk.shape[0]);
                    chunk.scales = Some(head.to_vec());
                    rest = tail;
                }
                weight
            }
            _ => return Ok(false),
        };
        self.weights.insert(output.clone(), weight);
        Ok(true)
    }

    /// The weight of that name; moved out if nobody else reads it.
    fn take(&mut self, name: &str) -> PackedWeight {
        let last = self.uses.get(name).copied() == Some(1);
        let weight = if last { self.weights.remove(name) } else { self.weights.get(name).cloned() };
        weight.expect("the caller found the name")
    }
}

fn concatenate(name: &str, parts: Vec<PackedWeight>) -> Result<PackedWeight, RuntimeError> {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().expect("the caller has at least one part");
    for part in parts {
        if part.element != whole.element || part.shape.get(1..) != whole.shape.get(1..) || part.shape.is_empty() {
            return Err(RuntimeError::Malformed(format!("the chunks of packed weight `{name}` do not fit together")));
        }
        whole.shape[0] += part.shape[0];
        Arc::make_mut(&mut whole.chunks).extend(Arc::unwrap_or_clone(part.chunks));
    }
    if whole.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_none_or(|n| n > i32::MAX as usize) {
        return Err(RuntimeError::Malformed(format!("packed weight `{name}` has more than 2^31-1 elements")));
    }
    Ok(whole)
}

/// One factor per row when `scale` is a positive f32 constant that multiplies the rows of an int8 weight.
fn row_scales(weight: &PackedWeight, scale: &TensorProto) -> Option<Vec<f32>> {
    let int8 = |chunk: &Packed| matches!(chunk.values, Values::I8(_)) && chunk.scales.is_none();
    if weight.element != Element::F32 || !weight.chunks.iter().all(int8) || scale.data_type != DataType::Float as i32 {
        return None;
    }
    let numbers: Vec<f32> = match scale.raw_data.is_empty() {
        true => scale.float_data.clone(),
        false => scale.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    // 128 is the largest magnitude of an int8 value
    if !numbers.iter().all(|scale| *scale > 0.0 && (scale * 128.0).is_finite()) {
        return None;
    }
    let rows = weight.shape.first().copied()?;
    let per_row = scale.dims.len() == weight.shape.len()
        && scale.dims[0] == rows as i64
        && scale.dims[1..].iter().all(|dim| *dim == 1);
    match numbers[..] {
        [scale_of_all] if scale.dims.len() <= weight.shape.len() => Some(vec![scale_of_all; rows]),
        _ if per_row && numbers.len() == rows => Some(numbers),
        _ => None,
    }
}

/// Gives every input a fixed shape: an open first axis becomes `batch`, any other open axis is refused.
fn fix_batch(graph: &mut GraphProto, batch: usize) -> Result<(), RuntimeError> {
    let unsupported = |what| RuntimeError::Unsupported { engine: "tract", what };
    let initializers: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut opened = false;
    for input in graph.input.iter_mut().filter(|input| !initializers.contains(input.name.as_str())) {
        let value = input.r#type.as_mut().and_then(|t| t.value.as_mut());
        let Some(type_proto::Value::TensorType(tensor)) = value else {
            return Err(unsupported(format!("input `{}` is not a tensor", input.name)));
        };
        let Some(shape) = tensor.shape.as_mut() else {
            return Err(unsupported(format!("input `{}` has no shape", input.name)));
        };
        for (axis, dim) in shape.dim.iter_mut().enumerate() {
            match &dim.value {
                Some(Dim::DimValue(fixed)) if *fixed > 0 => {
                    if axis == 0 && batch > 1 && *fixed != batch as i64 {
                        let what = format!("input `{}` fixes its batch to {fixed}, {batch} was asked for", input.name);
                        return Err(unsupported(what));
                    }
                }
                _ if axis == 0 => {
                    dim.value = Some(Dim::DimValue(batch as i64));
                    opened = true;
                }
                _ => return Err(unsupported(format!("input `{}` leaves axis {axis} open", input.name))),
            }
        }
    }
    if opened {
        // they may repeat the symbol that was just replaced
        graph.value_info.clear();
    }
    Ok(())
}

fn int(node: &NodeProto, attribute: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == attribute).map(|a| a.i)
}

fn weight_input(name: &str, weight: &PackedWeight) -> ValueInfoProto {
    let element = match weight.element {
        Element::F32 => DataType::Float,
        Element::F16 => DataType::Float16,
        Element::I8 => DataType::Int8,
    };
    let dim = |dim: &usize| Dimension { value: Some(Dim::DimValue(*dim as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: weight.shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: element as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(rows: usize, values: Vec<i8>) -> PackedWeight {
        let positions: Vec<u32> = (0..values.len() as u32).collect();
        let shape = vec![rows, 2];
        let packed =
            Packed::encode(&shape, sentei_kernels::packed::Encoding::Mask, &positions, Values::I8(values), None);
        PackedWeight { shape, chunks: Arc::new(vec![packed.unwrap()]), element: Element::F32 }
    }

    fn scale(dims: &[i64], numbers: &[f32]) -> TensorProto {
        let data_type = DataType::Float as i32;
        TensorProto { dims: dims.to_vec(), data_type, float_data: numbers.to_vec(), ..Default::default() }
    }

    #[test]
    fn only_a_factor_per_row_is_a_scale() {
        let w = weight(3, vec![1, 2, 3]);
        assert_eq!(row_scales(&w, &scale(&[3, 1], &[1.0, 2.0, 3.0])), Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(row_scales(&w, &scale(&[], &[2.0])), Some(vec![2.0; 3]));
        assert_eq!(row_scales(&w, &scale(&[1, 2], &[1.0, 2.0])), None);
        assert_eq!(row_scales(&w, &scale(&[3, 1], &[1.0, 0.0, 3.0])), None);
        assert_eq!(row_scales(&w, &scale(&[1, 1, 1], &[1.0])), None);
    }

    #[test]
    fn chunks_of_different_rows_are_refused() {
        let whole = concatenate("w", vec![weight(1, vec![5]), weight(2, vec![1, 2, 3])]).unwrap();
        assert_eq!(whole.shape, [3, 2]);
        assert_eq!(
            whole.to_tensor().try_as_plain_ram().unwrap().as_slice::<f32>().unwrap(),
            [5.0, 0.0, 1.0, 2.0, 3.0, 0.0]
        );
        let mut other = weight(1, vec![5]);
        other.shape = vec![1, 3];
        assert!(concatenate("w", vec![whole, other]).is_err());
    }
}
