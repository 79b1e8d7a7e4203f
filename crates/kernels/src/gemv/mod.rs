//! Fully connected layers, sparse and dense, for one sample or a small batch; f32 or i8 weights with a scale per row.
//!
//! `y[r] = act(scale[r] * sum_k weight[r, k] * x[k] + bias[r] + residual[r])`. Rows are the vector axis: 8 or 16 are summed
//! side by side, so that no sum crosses lanes. [`SparseLinear`] stores only weights that exist, and an infinite or NaN
//! input meets only those; [`DenseLinear`] stores all. In both a row is always summed in the same order: neither the
//! batch that a sample came in nor how units are shared out changes a bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod groups;
pub(crate) mod lines;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(neon32)]
mod neon32;
mod scalar;
mod schedule;
mod slices;
mod sparse;
mod together;

use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

pub use dense::DenseLinear;
pub(crate) use dense::{AHEAD, CACHE_LINE};
pub(crate) use lines::Lines;
pub use sparse::SparseLinear;

use crate::{Isa, KernelError};
use groups::Product;

/// Weights of a fully connected layer; borrowed while it is prepared.
#[derive(Clone, Copy, Debug)]
pub enum LinearValues<'a> {
    /// Weights as they are.
    F32(&'a [f32]),
    /// Weights that one scale per row multiplies.
    I8 {
        /// One byte per weight.
        values: &'a [i8],
        /// One per row.
        scales: &'a [f32],
    },
}

/// Computes groups of rows of one product.
type Run<T> = unsafe fn(&Product<'_, T>, Range<usize>);

/// One row of the table of sparse kernels.
#[derive(Debug)]
pub struct GemvKernel {
    /// `operation_samples x rows_instruction set`, after `f32_` or `i8_`.
    pub name: &'static str,
    /// The same with bytes as weights.
    pub name_i8: &'static str,
    /// Instructions it needs.
    pub isa: Isa,
    /// Rows side by side.
    lanes: usize,
    /// Whether it has look-up steps.
    lookups: bool,
    /// Sound to call when `isa.runs_here()`, `y` and residual hold as many samples as `x`, the weights were built for these
    /// lanes and steps, and nobody else uses the rows of the groups in `y`.
    f32: Run<f32>,
    i8: Run<i8>,
}

macro_rules! kernel {
    ($tail:literal, $isa:ident, $lanes:literal, $lookups:literal, $($module:ident)::+) => {
        GemvKernel {
            name: concat!("f32_gemv_", $tail),
            name_i8: concat!("i8_gemv_", $tail),
            isa: Isa::$isa,
            lanes: $lanes,
            lookups: $lookups,
            f32: $($module)::+::run::<f32>,
            i8: $($module)::+::run::<i8>,
        }
    };
}

/// Every sparse kernel compiled for this architecture.
pub static GEMV: &[GemvKernel] = &[
    #[cfg(target_arch = "x86_64")]
    kernel!("1x16_avx512", Avx512, 16, true, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!("1x8_avx2", Avx2, 8, false, avx2::gathers),
    #[cfg(target_arch = "x86_64")]
    kernel!("1x8_avx2_loads", Avx2, 8, false, avx2::loads),
    #[cfg(target_arch = "aarch64")]
    kernel!("1x8_neon", Neon, 8, false, neon),
    #[cfg(neon32)]
    kernel!("1x8_neon32", Neon32, 8, false, neon32),
    kernel!("1x8_scalar", Scalar, 8, false, scalar),
];

/// The fastest sparse kernel of this CPU; which of two AVX2 kernels that is, is timed once.
pub fn best() -> &'static GemvKernel {
    #[cfg(target_arch = "x86_64")]
    if Isa::best() == Isa::Avx2 {
        static FASTER: LazyLock<&'static GemvKernel> =
            LazyLock::new(|| faster_of(GEMV.iter().filter(|kernel| kernel.isa == Isa::Avx2)));
        return *FASTER;
    }
    GEMV.iter().find(|kernel| kernel.isa.runs_here()).expect("the scalar kernel runs everywhere")
}

/// Times kernels on a small layer, best of a few runs of some microseconds each.
#[cfg(target_arch = "x86_64")]
fn faster_of(kernels: impl Iterator<Item = &'static GemvKernel>) -> &'static GemvKernel {
    let nonzeros: Vec<(u32, f32)> = (0..64 * 256).step_by(7).map(|index| (index, 0.5)).collect();
    let (x, mut y) = ([0.5; 256], [0.0; 64]);
    let mut time = |kernel: &'static GemvKernel| {
        let layer = SparseLinear::prepare_for(kernel, 64, 256, nonzeros.iter().copied(), None).expect("a valid layer");
        let mut once = || {
            let start = std::time::Instant::now();
            layer.run(&x, &mut y, crate::Activation::None);
            start.elapsed()
        };
        (0..20).map(|_| once()).min()
    };
    kernels.min_by_key(|kernel| time(kernel)).expect("at least one kernel")
}

/// Checks the sizes of a layer and that flat indices fit the gathers.
fn check_sizes(rows: usize, cols: usize) -> Result<usize, KernelError> {
    for (what, dim) in [("rows", rows), ("cols", cols)] {
        if dim == 0 {
            return Err(KernelError::Zero { what });
        }
    }
    let len = rows.checked_mul(cols).filter(|len| *len <= i32::MAX as usize);
    len.ok_or(KernelError::TooLarge { what: "the dense weight matrix" })
}

#[cfg(test)]
mod tests;
