//! Sparse fully connected layers for one sample or a small batch.
//!
//! Eight rows of similar length are computed side by side: step `k` holds the `k`-th non-zero of each of the eight,
//! so that a vector needs no sum across its lanes. What is left of the longer rows follows one by one.
//! Nothing is padded, so an infinite input meets only the weights that exist.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod slices;

pub use slices::Slices;

use crate::{Activation, KernelError};

/// Rows computed side by side.
pub const LANES: usize = 8;

/// Everything one call reads and writes.
pub struct Gemv<'a> {
    /// Weights and bias.
    pub weights: &'a Slices,
    /// `[batch, cols]`.
    pub x: &'a [f32],
    /// `[batch, rows]`.
    pub y: &'a mut [f32],
    /// Applied last.
    pub activation: Activation,
}

/// `sums[lane] += values[step][lane] * x[columns[step][lane]]` for every step in order.
type StepsFn = unsafe fn(columns: &[[u32; LANES]], values: &[[f32; LANES]], x: &[f32], sums: &mut [f32; LANES]);

/// One row of the table.
#[derive(Debug)]
pub struct GemvKernel {
    /// `dtype_operation_samples x rows_instruction set`.
    pub name: &'static str,
    /// Whether this CPU has the instructions.
    pub runs_here: fn() -> bool,
    /// Sums of the full steps of one slice for one sample; sound to call when `runs_here()`, every column is below
    /// `x.len()`, and `columns` and `values` are equally long.
    steps: StepsFn,
}

impl GemvKernel {
    /// Computes `y[b, r] = act(bias[r] + sum_k value[r, k] * x[b, column[r, k]])`; never allocates.
    ///
    /// Every row is summed in stored order, so a sample's result does not depend on the batch it came in.
    ///
    /// # Panics
    /// When this CPU cannot run the kernel, or `x` and `y` are not whole samples of the same number.
    pub fn run(&self, call: Gemv<'_>) {
        assert!((self.runs_here)(), "{} cannot run on this CPU", self.name);
        let Gemv { weights, x, y, activation } = call;
        let (rows, cols) = (weights.rows(), weights.cols());
        assert!(x.len() % cols == 0 && y.len() == x.len() / cols * rows, "input or output length");
        for slice in weights.iter() {
            for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(rows)) {
                let mut sums = slice.bias;
                // SAFETY: the CPU was asserted above; `Slices::build` holds every column below `cols`, the length of
                // this sample, and makes `columns` and `values` equally long.
                unsafe { (self.steps)(slice.columns, slice.values, x, &mut sums) };
                for &(lane, column, value) in slice.rest {
                    let sum = &mut sums[lane as usize];
                    *sum += value * x[column as usize];
                }
                for (row, sum) in slice.row_of_lane.iter().zip(sums) {
                    y[*row as usize] = activation.apply(sum);
                }
            }
        }
    }
}

/// Every kernel compiled for this architecture, fastest first.
pub static GEMV_F32: &[GemvKernel] = &[
    #[cfg(target_arch = "x86_64")]
    GemvKernel { name: "f32_gemv_1x8_avx2", runs_here: avx2::available, steps: avx2::steps },
    #[cfg(target_arch = "aarch64")]
    GemvKernel { name: "f32_gemv_1x8_neon", runs_here: neon::available, steps: neon::steps },
    GemvKernel { name: "f32_gemv_1x8_scalar", runs_here: || true, steps: scalar::steps },
];

/// The first kernel of the table that runs on this CPU.
pub fn best() -> &'static GemvKernel {
    GEMV_F32.iter().find(|kernel| (kernel.runs_here)()).expect("the scalar kernel runs everywhere")
}

/// A fully connected layer whose zeros are gone.
#[derive(Debug)]
pub struct SparseLinear {
    weights: Slices,
    kernel: &'static GemvKernel,
}

impl SparseLinear {
    /// Prepares a layer for the fastest kernel of this CPU.
    ///
    /// * `nonzeros`: flat index into `[rows, cols]` (outputs, inputs) and weight, strictly increasing.
    /// * `bias`: one per row, or none.
    ///
    /// # Errors
    /// [`KernelError`] when a size is 0 or too large, an index is out of order or range, or the bias has the wrong length.
    pub fn prepare(
        rows: usize,
        cols: usize,
        nonzeros: impl IntoIterator<Item = (u32, f32)>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        Self::prepare_for(best(), rows, cols, nonzeros, bias)
    }

    /// As [`SparseLinear::prepare`], for one kernel of [`GEMV_F32`]; running it needs a CPU that has the kernel.
    ///
    /// # Errors
    /// As [`SparseLinear::prepare`].
    pub fn prepare_for(
        kernel: &'static GemvKernel,
        rows: usize,
        cols: usize,
        nonzeros: impl IntoIterator<Item = (u32, f32)>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        for (what, dim) in [("rows", rows), ("cols", cols)] {
            if dim == 0 {
                return Err(KernelError::Zero { what });
            }
        }
        let len = rows.checked_mul(cols).filter(|len| *len <= i32::MAX as usize);
        let len = len.ok_or(KernelError::TooLarge { what: "the dense weight matrix" })?;
        let bias = crate::bias_or_zeros(bias, rows)?;
        let nonzeros = crate::ordered(nonzeros, len)?;
        Ok(Self { weights: Slices::build(cols, &nonzeros, &bias), kernel })
    }

    /// Outputs of one sample.
    pub fn rows(&self) -> usize {
        self.weights.rows()
    }

    /// Inputs of one sample.
    pub fn cols(&self) -> usize {
        self.weights.cols()
    }

    /// Stored non-zeros, which is also the multiply-adds of one sample.
    pub fn nnz(&self) -> usize {
        self.weights.nnz()
    }

    /// Bytes that weights, columns and bias occupy in memory.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Name of the micro-kernel, as in the table.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name
    }

    /// Computes `y = act(x W^T + bias)`; never allocates.
    ///
    /// * `x`: `[batch, cols]`, `y`: `[batch, rows]`, row-major; the batch is whatever the lengths say.
    ///
    /// # Panics
    /// When the lengths do not fit each other, or this CPU cannot run the kernel.
    pub fn run(&self, x: &[f32], y: &mut [f32], activation: Activation) {
        self.kernel.run(Gemv { weights: &self.weights, x, y, activation });
    }
}

#[cfg(test)]
mod tests;
