//! The closed set of operations. One op, one file; every `match` over [`Op`] only delegates.

use crate::{Fact, Tensor};

/// Why an op refuses its inputs.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpError {
    /// Wrong number of inputs.
    #[error("expected {expected} inputs, found {found}")]
    Arity {
        /// What the op takes, in words.
        expected: &'static str,
        /// How many it was given.
        found: usize,
    },
    /// An input has an unusable shape.
    #[error("input {index}: expected {expected}, found {found}")]
    Shape {
        /// Position of the input.
        index: usize,
        /// What would fit.
        expected: String,
        /// The shape found.
        found: Fact,
    },
    /// An attribute has an unusable value.
    #[error("attribute `{name}`: {why}")]
    Attribute {
        /// Name of the attribute.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// How the channels (axis 1) of the output relate to those of the data inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelFlow {
    /// Output channel `c` depends on channel `c` of every data input, and on nothing else.
    Same,
    /// Output channels read every input channel of their group (Conv, Gemm); the weight's rows are the output channels.
    Mixes {
        /// Number of independent groups.
        groups: usize,
    },
    /// Channel `c` becomes the `factor` consecutive output channels from `c * factor` on (Flatten).
    Spreads {
        /// Elements per channel.
        factor: usize,
    },
    /// The channels of the inputs follow one another (Concat on axis 1).
    Concatenates,
    /// Channels cannot be followed through this op.
    Blocks,
}

/// What an input is to its op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An activation, or a constant used as one.
    Data,
    /// A prunable weight, `[out, in/groups, kh, kw]` or `[out, in]`.
    Weight,
    /// Added per output channel; trained, never pruned.
    Bias,
    /// Batch-norm scale (gamma); trained, never pruned.
    Scale,
    /// Batch-norm shift (beta); trained, never pruned.
    Shift,
    /// Batch-norm running mean; not trained by gradient.
    RunningMean,
    /// Batch-norm running variance; not trained by gradient.
    RunningVariance,
}

impl Role {
    /// Whether gradients change it.
    pub fn is_trainable(self) -> bool {
        matches!(self, Role::Weight | Role::Bias | Role::Scale | Role::Shift)
    }
}

/// What every op answers.
pub trait OpSpec {
    /// The op's name in text form and messages.
    const NAME: &'static str;

    /// Shape of the output.
    ///
    /// # Errors
    /// [`OpError`] when the inputs do not fit.
    fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError>;

    /// How channels pass through; `inputs` have been accepted by [`OpSpec::infer`].
    fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow;

    /// What input `index` is.
    fn role(&self, index: usize) -> Role;

    /// Multiply-adds of the dense op; `inputs` have been accepted by [`OpSpec::infer`].
    fn macs(&self, inputs: &[&Fact]) -> u64;

    /// The slow, obvious evaluation that everything else is tested against.
    ///
    /// # Errors
    /// [`OpError`] when the inputs do not fit.
    fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError>;
}

macro_rules! ops {
    ($($module:ident :: $op:ident),* $(,)?) => {
        $(mod $module; pub use $module::$op;)*

        /// One operation with its attributes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op { $(#[doc = concat!("See [`", stringify!($op), "`].")] $op($op),)* }

        $(impl From<$op> for Op { fn from(op: $op) -> Op { Op::$op(op) } })*

        impl Op {
            /// The op's name in text form and messages.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => $op::NAME,)* }
            }

            /// See [`OpSpec::infer`].
            ///
            /// # Errors
            /// [`OpError`] when the inputs do not fit.
            pub fn infer(&self, inputs: &[&Fact]) -> Result<Fact, OpError> {
                match self { $(Op::$op(op) => op.infer(inputs),)* }
            }

            /// See [`OpSpec::channel_flow`].
            pub fn channel_flow(&self, inputs: &[&Fact]) -> ChannelFlow {
                match self { $(Op::$op(op) => op.channel_flow(inputs),)* }
            }

            /// See [`OpSpec::role`].
            pub fn role(&self, index: usize) -> Role {
                match self { $(Op::$op(op) => op.role(index),)* }
            }

            /// See [`OpSpec::macs`].
            pub fn macs(&self, inputs: &[&Fact]) -> u64 {
                match self { $(Op::$op(op) => op.macs(inputs),)* }
            }

            /// See [`OpSpec::eval`].
            ///
            /// # Errors
            /// [`OpError`] when the inputs do not fit.
            pub fn eval(&self, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
                match self { $(Op::$op(op) => op.eval(inputs),)* }
            }
        }
    };
}

ops! {
    add::Add,
    average_pool::AveragePool,
    batch_norm::BatchNorm,
    clip::Clip,
    concat::Concat,
    conv::Conv,
    dropout::Dropout,
    flatten::Flatten,
    gemm::Gemm,
    global_average_pool::GlobalAveragePool,
    hard_sigmoid::HardSigmoid,
    hard_swish::HardSwish,
    identity::Identity,
    leaky_relu::LeakyRelu,
    matmul::MatMul,
    max_pool::MaxPool,
    mul::Mul,
    pad::Pad,
    relu::Relu,
    reshape::Reshape,
    sigmoid::Sigmoid,
    silu::Silu,
    slice::Slice,
    softmax::Softmax,
    transpose::Transpose,
}
