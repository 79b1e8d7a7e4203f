//! The closed set of operations. One op, one file; every `match` over [`Op`] only delegates.

mod attribute;
mod broadcast;
mod elementwise;
mod window;

use crate::{Fact, Tensor};
pub use attribute::{Attribute, AttributeError};
pub(crate) use broadcast::aligned_axis;

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

/// What every op answers; `Default` is the op with every attribute left out.
pub trait OpSpec: Default {
    /// The op's name in text form and messages.
    const NAME: &'static str;

    /// Every attribute under its name in the text form, open for reading and writing.
    fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)>;

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
            /// Names of all ops.
            pub const NAMES: &'static [&'static str] = &[$($op::NAME),*];

            /// The op's name in text form and messages.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => $op::NAME,)* }
            }

            /// The op of that name with default attributes.
            pub fn by_name(name: &str) -> Option<Op> {
                match name { $($op::NAME => Some(Op::$op($op::default())),)* _ => None }
            }

            /// See [`OpSpec::attributes`].
            pub fn attributes(&mut self) -> Vec<(&'static str, Attribute<'_>)> {
                match self { $(Op::$op(op) => op.attributes(),)* }
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

/// Exactly `N` inputs.
fn arity<'a, T, const N: usize>(inputs: &[&'a T]) -> Result<[&'a T; N], OpError> {
    inputs.try_into().map_err(|_| OpError::Arity { expected: in_words(N, false), found: inputs.len() })
}

/// `N` inputs and perhaps one more.
#[allow(clippy::type_complexity, reason = "a pair of inputs and one optional input reads plainly")]
fn arity_or_more<'a, T, const N: usize>(inputs: &[&'a T]) -> Result<([&'a T; N], Option<&'a T>), OpError> {
    match inputs.len().checked_sub(N) {
        Some(extra @ (0 | 1)) => Ok((arity(&inputs[..N])?, (extra == 1).then(|| inputs[N]))),
        _ => Err(OpError::Arity { expected: in_words(N, true), found: inputs.len() }),
    }
}

fn in_words(count: usize, one_more: bool) -> &'static str {
    match (count, one_more) {
        (1, false) => "1",
        (2, false) => "2",
        (5, false) => "5",
        (2, true) => "2 or 3",
        _ => "another number of",
    }
}

/// The inputs' axis lengths as an image `[N, C, H, W]`.
fn image(index: usize, x: &Fact) -> Result<[usize; 4], OpError> {
    x.shape.as_slice().try_into().map_err(|_| misfit(index, "[N, C, H, W]", x))
}

/// The inputs' axis lengths as a matrix.
fn matrix(index: usize, x: &Fact, expected: &str) -> Result<[usize; 2], OpError> {
    x.shape.as_slice().try_into().map_err(|_| misfit(index, expected, x))
}

fn misfit(index: usize, expected: impl Into<String>, found: &Fact) -> OpError {
    OpError::Shape { index, expected: expected.into(), found: found.clone() }
}

fn attribute(name: &'static str, why: impl Into<String>) -> OpError {
    OpError::Attribute { name, why: why.into() }
}

/// Checks an axis attribute against the rank of the input.
fn axis_of(axis: usize, x: &Fact) -> Result<usize, OpError> {
    if axis < x.rank() { Ok(axis) } else { Err(attribute("axis", format!("{axis} is outside {x}"))) }
}

/// A shape whose values can be counted and addressed.
///
/// A model file may ask for any shape; refusing absurd ones here keeps `eval` and `macs` free of overflow.
fn countable(shape: Vec<usize>) -> Result<Fact, OpError> {
    const MOST_ELEMENTS: usize = 1 << 32;
    let fact = Fact { shape };
    match fact.elements() {
        Some(n) if n <= MOST_ELEMENTS => Ok(fact),
        _ => Err(misfit(0, format!("an output of at most {MOST_ELEMENTS} elements"), &fact)),
    }
}

/// Shape of the output for tensors instead of facts.
fn output_shape(op: &impl OpSpec, inputs: &[&Tensor]) -> Result<Vec<usize>, OpError> {
    let facts: Vec<Fact> = inputs.iter().map(|t| t.fact()).collect();
    Ok(op.infer(&facts.iter().collect::<Vec<_>>())?.shape)
}

/// Distance in a row-major array between neighbours along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Every index of a shape in row-major order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let strides = strides(shape);
    let count: usize = shape.iter().product();
    let shape = shape.to_vec();
    (0..count).map(move |flat| strides.iter().zip(&shape).map(|(s, d)| flat / s % d).collect())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// `1, 2, 3, ..` in the given shape.
    pub(crate) fn counting<const R: usize>(shape: [usize; R]) -> Tensor {
        let len = shape.iter().product::<usize>();
        Tensor::new(shape, (1..=len).map(|v| v as f32).collect())
    }

    /// What `infer` says about inputs of these shapes.
    pub(crate) fn inferred(op: &impl OpSpec, shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
        let facts: Vec<Fact> = shapes.iter().map(|s| Fact::new(s.to_vec())).collect();
        op.infer(&facts.iter().collect::<Vec<_>>()).map(|f| f.shape)
    }

    /// How channels pass through for inputs of these shapes.
    pub(crate) fn flow(op: &impl OpSpec, shapes: &[&[usize]]) -> ChannelFlow {
        let facts: Vec<Fact> = shapes.iter().map(|s| Fact::new(s.to_vec())).collect();
        op.channel_flow(&facts.iter().collect::<Vec<_>>())
    }

    /// Every op, by default attributes.
    fn every_op() -> Vec<Op> {
        let names = [
            "Add",
            "AveragePool",
            "BatchNorm",
            "Clip",
            "Concat",
            "Conv",
            "Dropout",
            "Flatten",
            "Gemm",
            "GlobalAveragePool",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "MatMul",
            "MaxPool",
            "Mul",
            "Pad",
            "Relu",
            "Reshape",
            "Sigmoid",
            "Silu",
            "Slice",
            "Softmax",
            "Transpose",
        ];
        names.iter().map(|n| Op::by_name(n).unwrap_or_else(|| panic!("no op is called {n}"))).collect()
    }

    #[test]
    fn every_op_is_found_by_its_own_name() {
        for op in every_op() {
            assert_eq!(Op::by_name(op.name()), Some(op));
        }
        assert_eq!(Op::by_name("Gru"), None);
    }

    #[test]
    fn no_op_panics_on_missing_surplus_empty_or_scalar_inputs() {
        let shapes: [&[usize]; 6] = [&[], &[0], &[1, 0, 3, 3], &[2, 3], &[1, 3, 4, 5], &[1, 2, 3, 4, 5]];
        for op in every_op() {
            for shape in shapes {
                let fact = Fact::new(shape.to_vec());
                let tensor = Tensor::full(shape.to_vec(), 0.5);
                for count in 0..=6 {
                    let inferred = op.infer(&vec![&fact; count]);
                    let evaluated = op.eval(&vec![&tensor; count]);
                    assert_eq!(inferred, evaluated.map(|t| t.fact()), "{} of {count} x {fact}", op.name());
                    if inferred.is_ok() {
                        op.channel_flow(&vec![&fact; count]);
                        op.macs(&vec![&fact; count]);
                    }
                }
            }
        }
    }
}
