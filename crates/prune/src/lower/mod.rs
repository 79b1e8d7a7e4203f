//! How each op of the graph runs and trains in candle. One op, one file; the `match` over [`Op`] only delegates.
//!
//! Every lowering is differentiable in its data inputs and in its trainable initializers. Where candle's own op has no
//! gradient, a wrong one or a slow one on the CPU, a custom op of this crate takes its place there; other devices run candle's
//! own ops.

use candle_core::{Result, Tensor, bail};
use sentei_graph::Op;

use crate::conv::add_bias;

mod activation;
mod pool;

pub(crate) use activation::{Piecewise, piecewise, piecewise_tangent};

/// What a lowering may know and change beside its inputs.
pub(crate) struct Step {
    /// Seed of this node's randomness, `None` where nothing is random.
    pub seed: Option<u64>,
    /// Whether batch norm takes the statistics of the batch, and not the running ones.
    pub batch_statistics: bool,
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
        Step { seed, batch_statistics: seed.is_some(), rate, activation, updates: Vec::new() }
    }
}

/// A value and the speed at which it moves when the parameters move along one direction.
#[derive(Clone, Debug)]
pub(crate) struct Dual {
    /// The value.
    pub value: Tensor,
    /// Its tangent, of the same shape; `None` for a value that stands still.
    pub tangent: Option<Tensor>,
}

impl Dual {
    /// `f(value, tangent)`, unless the value stands still.
    fn push(&self, f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Option<Tensor>> {
        self.tangent.as_ref().map(|t| f(&self.value, t)).transpose()
    }
}

/// An op that candle can run and differentiate.
pub(crate) trait Lower {
    /// The op's output; the graph's shape inference has accepted the inputs up to the length of the batch.
    fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor>;

    /// The tangent of the output `y` that [`Lower::lower`] gave for the values of `inputs`; `None` for zero.
    ///
    /// It is made of ops that `backward` can differentiate once, and no gradient through it is lost but where the op has a
    /// second derivative of zero: one reverse pass over a graph of tangents is then an exact Hessian-vector product.
    fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>>;
}

macro_rules! lowerings {
    ($($module:ident :: $op:ident),* $(,)?) => {
        $(mod $module;)*

        impl Lower for Op {
            fn lower(&self, inputs: &[&Tensor], step: &mut Step) -> Result<Tensor> {
                match self { $(Op::$op(op) => op.lower(inputs, step),)* }
            }

            fn tangent(&self, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
                match self { $(Op::$op(op) => op.tangent(inputs, y, step),)* }
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
fn take<T: Clone, const N: usize>(inputs: &[T]) -> Result<[T; N]> {
    match inputs.to_vec().try_into() {
        Ok(inputs) => Ok(inputs),
        Err(_) => bail!("expected {N} inputs, found {}", inputs.len()),
    }
}

/// The tangent of an op with one input that it is linear in.
fn linear_tangent(op: &impl Lower, inputs: &[Dual], step: &mut Step) -> Result<Option<Tensor>> {
    let [x] = take(inputs)?;
    x.push(|_, dx| op.lower(&[dx], step))
}

/// The tangent of an op with two inputs that it is linear in, each.
fn bilinear_tangent(op: &impl Lower, inputs: &[Dual], step: &mut Step) -> Result<Option<Tensor>> {
    let [a, b] = take(inputs)?;
    let left = a.push(|_, da| op.lower(&[da, &b.value], step))?;
    let right = b.push(|_, db| op.lower(&[&a.value, db], step))?;
    sum([left, right].into_iter().flatten().map(Ok))
}

/// The tangent of an op that is linear in its first two inputs, each, and adds its third, if there is one, to every channel:
/// `dx * W + x * dW + db`.
fn biased_tangent(op: &impl Lower, inputs: &[Dual], y: &Tensor, step: &mut Step) -> Result<Option<Tensor>> {
    let (x_and_weight, bias) = inputs.split_at(2.min(inputs.len()));
    let product = bilinear_tangent(op, x_and_weight, step)?;
    let Some(db) = bias.first().and_then(|b| b.tangent.as_ref()) else { return Ok(product) };
    match product {
        Some(product) => add_bias(&product, db).map(Some),
        None => add_bias(&y.zeros_like()?, db).map(Some),
    }
}

/// The sum of tensors of one shape, `None` of none.
fn sum(terms: impl IntoIterator<Item = Result<Tensor>>) -> Result<Option<Tensor>> {
    let mut total: Option<Tensor> = None;
    for term in terms {
        total = Some(match total {
            Some(total) => (total + term?)?,
            None => term?,
        });
    }
    Ok(total)
}
