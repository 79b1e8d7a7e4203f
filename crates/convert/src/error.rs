//! Why a file cannot be read, written or trusted.

use sentei_graph::GraphError;
use sentei_graph::passes::PassError;
use sentei_kernels::packed::PackedError;

use crate::equivalence::Equivalence;

/// An operator without an importer, or one used in a way that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOp {
    /// ONNX operator.
    pub op: String,
    /// First node that uses it.
    pub node: String,
    /// Number of nodes that use it.
    pub count: usize,
}

impl std::fmt::Display for UnsupportedOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} nodes, first `{}`)", self.op, self.count, self.node)
    }
}

/// What can go wrong between ONNX bytes and a graph.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The bytes are no ONNX model.
    #[error("not an ONNX model: {0}")]
    NotOnnx(String),
    /// The operator set is outside the range read here.
    #[error("opset {found} is outside the supported 7 to {newest}")]
    Opset {
        /// Version in the file.
        found: i64,
        /// Newest version read.
        newest: i64,
    },
    /// Operators without an importer, all of them.
    #[error("unsupported operators: {}", list(ops))]
    Unsupported {
        /// Each operator once, in order of appearance.
        ops: Vec<UnsupportedOp>,
    },
    /// A node uses a supported operator in a way that is not supported, or wrongly.
    #[error("node `{node}` ({op}): {what}: expected {expected}, found {found}")]
    Node {
        /// Name of the node.
        node: String,
        /// ONNX operator.
        op: String,
        /// Attribute or input.
        what: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A constant is malformed.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An input of the model cannot be represented.
    #[error("model input `{name}`: expected {expected}, found {found}")]
    Input {
        /// Name of the input.
        name: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Data in another file cannot be used.
    #[error("tensor `{name}`: external data `{location}`: {why}")]
    External {
        /// Name of the tensor.
        name: String,
        /// Location given in the file.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// A packed tensor breaks a rule of the format.
    #[error("packed tensor `{name}`: {source}")]
    Packed {
        /// Name of the tensor.
        name: String,
        /// The broken rule.
        source: PackedError,
    },
    /// The file asks for more memory than allowed.
    #[error("{what} needs {needed} bytes, {limit} are allowed")]
    Limit {
        /// What asks for it.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The graph refuses what was built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A deployment pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights do not fit the value type asked for.
    #[error("weight `{name}`: {value} does not fit {dtype}; use --values f32")]
    Range {
        /// Name of the weight.
        name: String,
        /// The value that does not fit.
        value: f32,
        /// Value type.
        dtype: &'static str,
    },
    /// The checksum in the file differs from that of its weights.
    #[error("weights were changed after compiling: checksum in the file {expected}, of its weights {found}")]
    Checksum {
        /// Stored checksum.
        expected: String,
        /// Computed checksum.
        found: String,
    },
    /// The written model does not compute what the reference computes.
    #[error("{stage} differs from the reference: max abs error {}, max ulp {}, first at `{}`",
        .equivalence.max_abs, .equivalence.max_ulp, .equivalence.first_failure())]
    Mismatch {
        /// What was compared.
        stage: &'static str,
        /// The whole comparison.
        equivalence: Box<Equivalence>,
    },
    /// A layer kept to 2:4 before, and the written file does not.
    #[error("layer `{layer}` (weight `{weight}`) kept to 2:4 before compiling and the compiled file does not: {why}")]
    Pattern {
        /// Name of the layer's output.
        layer: String,
        /// Name of its weight.
        weight: String,
        /// The first broken group, or why there are no groups any more.
        why: String,
    },
}

fn list(ops: &[UnsupportedOp]) -> String {
    ops.iter().map(UnsupportedOp::to_string).collect::<Vec<_>>().join(", ")
}

impl ConvertError {
    /// An error about a packed tensor; an exhausted budget is a [`ConvertError::Limit`].
    pub(crate) fn packed(name: &str, source: PackedError) -> Self {
        match source {
            PackedError::Budget { needed, left } => {
                ConvertError::Limit { what: format!("packed tensor `{name}`"), needed, limit: left }
            }
            source => ConvertError::Packed { name: name.to_string(), source },
        }
    }

    /// Whether the written model is not what it must be: it computes something else, or lost its pattern (exit code 4).
    pub fn is_mismatch(&self) -> bool {
        matches!(self, ConvertError::Mismatch { .. } | ConvertError::Pattern { .. })
    }

    /// Whether a byte limit was hit (exit code 6).
    pub fn is_limit(&self) -> bool {
        matches!(self, ConvertError::Limit { .. })
    }
}
