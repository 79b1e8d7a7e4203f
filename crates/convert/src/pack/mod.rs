//! Packed weights inside ONNX: `ai.sentei` functions, or the same nodes written out.
//!
//! * `quantise`: rounds weights to the value type of the file, giving the dense twin that the file must equal.
//! * `functions`: the standard nodes that decode each encoding in any runtime.
//! * `write`: picks an encoding per tensor and puts it into the model.
//! * `read`: finds packed tensors of either form and decodes them under a byte budget.

mod functions;
mod quantise;
mod read;
mod write;

use std::collections::{HashMap, HashSet};

use sentei_graph::{Graph, Role, Tensor, ValueId};
use sha2::{Digest, Sha256};

use crate::ConvertError;
use crate::two_of_four::is_two_of_four;

pub use quantise::quantise;
pub(crate) use read::{Decoded, decode_packed};
pub(crate) use write::pack;

/// Domain of the packed functions.
pub(crate) const DOMAIN: &str = "ai.sentei";

const FORMAT_KEY: &str = "sentei.format";
const SPARSITY_KEY: &str = "sentei.sparsity";
const CHECKSUM_KEY: &str = "sentei.checksum";
/// Says `2:4` where the zeros keep to it, in whatever form the weights are stored.
const PATTERN_KEY: &str = "sentei.pattern";

/// The form in which packed weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Model-local functions whose bodies are standard ops: smallest; ONNX Runtime runs it as it is.
    #[default]
    Functions,
    /// The same nodes in the main graph: runs in runtimes without local functions, a few kB larger.
    Inline,
    /// Plain dense `f32` initializers of the rounded weights.
    Dense,
}

/// The type in which weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// Exact.
    #[default]
    F32,
    /// IEEE half precision, rounded to nearest even.
    F16,
    /// Symmetric int8 with one scale per row of axis 0, `max |w| / 127`.
    I8,
}

impl Values {
    /// `f32`, `f16` or `i8`.
    pub fn name(self) -> &'static str {
        match self {
            Values::F32 => "f32",
            Values::F16 => "f16",
            Values::I8 => "i8",
        }
    }
}

/// How one weight was written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRow {
    /// Name of the weight.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Stored non-zeros.
    pub nnz: usize,
    /// `dense`, `mask`, `gap4` or `gap8`.
    pub encoding: &'static str,
    /// `f32`, `f16` or `i8`.
    pub values: &'static str,
    /// Bytes of values, positions, shape and scales in the file.
    pub bytes: u64,
    /// Bytes as dense `f32`.
    pub dense_bytes: u64,
}

/// The prunable weights of a graph, each once, in the order in which the nodes read them.
pub(crate) fn weights(graph: &Graph) -> Vec<(ValueId, &Tensor)> {
    let roles: HashMap<ValueId, Role> = graph.parameters().into_iter().collect();
    let mut seen = HashSet::new();
    let read = graph.nodes().flat_map(|(_, node)| node.inputs.iter().copied());
    let weights = read.filter(|id| roles.get(id) == Some(&Role::Weight) && seen.insert(*id));
    weights.filter_map(|id| Some((id, graph.initializer(id)?))).collect()
}

/// SHA-256 over name, shape and little-endian bits of every prunable weight, in order of name.
pub fn weights_checksum(graph: &Graph) -> String {
    let mut list = weights(graph);
    list.sort_by_key(|(id, _)| graph.name(*id));
    let mut hash = Sha256::new();
    for (id, tensor) in list {
        let name = graph.name(id);
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((tensor.shape.len() as u64).to_le_bytes());
        for d in &tensor.shape {
            hash.update((*d as u64).to_le_bytes());
        }
        for v in &tensor.data {
            hash.update(v.to_bits().to_le_bytes());
        }
    }
    let digits: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

/// Fraction of zeros among the prunable weights, 0 without any.
pub(crate) fn sparsity(graph: &Graph) -> f64 {
    let list = weights(graph);
    let total: usize = list.iter().map(|(_, t)| t.len()).sum();
    let nonzero: usize = list.iter().map(|(_, t)| t.nonzero()).sum();
    if total == 0 { 0.0 } else { 1.0 - nonzero as f64 / total as f64 }
}

/// What the packed file says about itself.
pub(crate) fn metadata(graph: &Graph) -> [(String, String); 3] {
    [
        (FORMAT_KEY.into(), "1".into()),
        (SPARSITY_KEY.into(), format!("{:.4}", sparsity(graph))),
        (CHECKSUM_KEY.into(), weights_checksum(graph)),
    ]
}

/// Lets a graph say what its zeros keep to, so that the packed file and its dense twin both do: `2:4`, or nothing.
pub(crate) fn name_pattern(graph: &mut Graph) {
    graph.metadata.remove(PATTERN_KEY);
    if is_two_of_four(graph) {
        graph.metadata.insert(PATTERN_KEY.into(), "2:4".into());
    }
}

/// Compares the checksum of a packed file with its decoded weights, and takes the entries out, which describe the
/// file and not the graph.
pub(crate) fn verify_and_strip_metadata(graph: &mut Graph) -> Result<(), ConvertError> {
    let checksum = graph.metadata.remove(CHECKSUM_KEY);
    graph.metadata.remove(SPARSITY_KEY);
    graph.metadata.remove(FORMAT_KEY);
    graph.metadata.remove(PATTERN_KEY);
    let Some(expected) = checksum else { return Ok(()) };
    let found = weights_checksum(graph);
    if expected == found { Ok(()) } else { Err(ConvertError::Checksum { expected, found }) }
}

#[cfg(test)]
mod tests;
