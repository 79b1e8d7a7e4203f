//! How each op of the graph runs and trains in candle. One op, one file; the `match` over [`Op`] only delegates.
//!
//! Every lowering is differentiable in its data inputs and in its trainable initializers. Where candle's own op has no
//! gradient, a wrong one or a slow one on the CPU, a custom op of this crate takes its place there; other devices run candle's
//! own ops.

use candle_core::{Result, Tensor, bail};
use sentei_graph::Op;

mod activation;
mod pool;

pub(crate) use activation::{Piecewise, piecewise};

/// What a lowering may know and change beside its inputs.
pub(crate) struct Step {
    /// Seed of this node's randomness in training, `None` in evaluation.
    pub seed: Option<u64>,
    /// Dropout rate that overrides the graph's.
    pub rate: Option<f32>,
    /// Activation that the op applies to its output, in place of the node that follows (batch norm only).
    pub activation: Option<Piecewise>,
    /// New values of inputs that training moves without a gradient, by input position.
    pub updates: Vec<(usize, Tensor)>,
}

impl Step {
    /// `seed` is the seed of the pass, `position` that of the node in it.
    pub fn new(seed: Option<u64>, position: u64, rate: Option<f32>, activation: Option<Piecewise>) -> Step {
        let seed = seed.map(|s| s.wrapping_add(position.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Step { seed, rate, activation, updates: Vec::new() }
    }

    /// Whether batch statistics and dropout are on.
    pub fn training(&self) -> bool {
        self.seed.is_some()
    }
}

/// An op that candle can run and differentiate.
pub(crate) trait Lower {
    /// The op's output; the graph's shape inference has accepted the inputs up to the length of the batch.
    fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor>;
}

macro_rules! lowerings {
    ($($module:ident :: $op:ident),* $(,)?) => {
        $(mod $module;)*

        impl Lower for Op {
            fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor> {
                match self { $(Op::$op(op) => op.lower(inputs, step),)* }
            }
        }
    };
}

lowerings! {
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

/// The activation that `op` is, if it is one of straight pieces.
pub(crate) fn as_piecewise(op: &Op) -> Option<Piecewise> {
    match op {
        Op::Relu(_) => Some(Piecewise::Leaky { alpha: 0.0 }),
        Op::LeakyRelu(op) => Some(Piecewise::Leaky { alpha: op.alpha }),
        Op::Clip(op) => Some(Piecewise::Clip { min: op.min, max: op.max }),
        _ => None,
    }
}

/// The inputs as an array of the length that the op takes.
fn take<'a, const N: usize>(inputs: &[&'a Tensor]) -> Result<[&'a Tensor; N]> {
    match inputs.try_into() {
        Ok(inputs) => Ok(inputs),
        Err(_) => bail!("expected {N} inputs, found {}", inputs.len()),
    }
}
