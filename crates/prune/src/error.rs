//! What can go wrong while a graph is lowered, run or written back.

use sentei_graph::GraphError;

/// Why a network cannot be lowered or run.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The graph itself is not sound.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// candle refused a tensor operation outside of any one node.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A node could not be computed.
    #[error("node `{node}` ({op}): {source}")]
    Node {
        /// Name of the node's output value.
        node: String,
        /// Name of the op.
        op: &'static str,
        /// What candle or the lowered op says.
        source: candle_core::Error,
    },
    /// The graph has no single image or feature input, or no output.
    #[error("a network to train needs one input and at least one output, found {inputs} inputs and {outputs} outputs")]
    Interface {
        /// Number of graph inputs.
        inputs: usize,
        /// Number of graph outputs.
        outputs: usize,
    },
    /// A tensor does not have the shape that the network needs.
    #[error("`{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Name of the value.
        name: String,
        /// Shape needed; axis 0 of an input is free.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// No value, parameter or dropout of that name.
    #[error("the network has no {kind} named `{name}`")]
    Missing {
        /// What was looked for.
        kind: &'static str,
        /// The name given.
        name: String,
    },
    /// A dropout rate outside `[0, 1)`.
    #[error("dropout rate {rate} of `{name}` is outside [0, 1)")]
    Rate {
        /// Name of the dropout node.
        name: String,
        /// The rate given.
        rate: f32,
    },
    /// Networks run in f32 and f64 only.
    #[error("a network cannot run in {0}, expected f32 or f64")]
    Precision(&'static str),
    /// A loss over nothing.
    #[error("no samples to take a loss over")]
    NoSamples,
    /// The parts of a direction and the parameters do not pair up.
    #[error("a direction of {found} tensors for {expected} parameters, expected one each")]
    Direction {
        /// Number of parameters.
        expected: usize,
        /// Number of tensors found.
        found: usize,
    },
    /// A softmax temperature that divides by zero or flips the loss.
    #[error("temperature {0} is not a positive number")]
    Temperature(f64),
    /// The device was not understood.
    #[error("unknown device `{0}`, expected `cpu`, `cuda` or `cuda:N`; see `--device`")]
    UnknownDevice(String),
    /// The device is not in this build or not in this machine.
    #[error("device `{spec}` is not available: {why}")]
    NoDevice {
        /// The device asked for.
        spec: String,
        /// What is missing and how to get it.
        why: String,
    },
}
