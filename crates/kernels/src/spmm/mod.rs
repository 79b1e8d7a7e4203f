//! Sparse weights times planar activations: one micro-kernel per instruction set, one contract, one table.
//!
//! `y[o, p] = act(bias[o] + sum_k value[o, k] * x[offset[o, k] + p] + residual[o, p])` for `p` in `0..pixels`.
//!
//! One non-zero is one broadcast and one multiply-add per vector of a tile of pixels that stays in registers. Per
//! pixel the non-zeros of a row are added in stored order, whatever the tile, so cutting the pixels differently
//! (tiles, threads) changes no bit of the result.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod rows;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;

pub use rows::{Entry, Rows};

use crate::Activation;

/// Everything one call reads and writes.
pub struct Spmm<'a> {
    /// Weights and bias.
    pub rows: &'a Rows,
    /// Input; at least `rows.reach() + pixels` long (if any non-zero exists).
    pub x: &'a [f32],
    /// Output, row `o` at `o * stride .. o * stride + pixels`. What lies between the rows is not touched.
    pub y: &'a mut [f32],
    /// Distance between output rows; at least `pixels`.
    pub stride: usize,
    /// Consecutive pixels to compute.
    pub pixels: usize,
    /// Added before the activation; laid out like `y`.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Spmm<'_> {
    /// Holds the bounds that the `unsafe` bodies rely on.
    fn check(&self) {
        let Self { rows, stride, pixels, .. } = *self;
        assert!(pixels <= stride, "{pixels} pixels do not fit an output stride of {stride}");
        if rows.outputs() == 0 || pixels == 0 {
            return;
        }
        if rows.nnz() > 0 {
            let needed = (rows.reach() as usize).checked_add(pixels);
            assert!(needed.is_some_and(|needed| needed <= self.x.len()), "input of {} is too short", self.x.len());
        }
        let needed = stride.checked_mul(rows.outputs() - 1).and_then(|start| start.checked_add(pixels));
        assert!(needed.is_some_and(|needed| needed <= self.y.len()), "output of {} is too short", self.y.len());
        if let Some(residual) = self.residual {
            assert!(needed.is_some_and(|needed| needed <= residual.len()), "residual is too short");
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct SpmmKernel {
    /// `dtype_operation_pixels x outputs_instruction set`: table entry, bench id and name in reports.
    pub name: &'static str,
    /// Most pixels one tile holds in registers.
    pub tile: usize,
    /// Whether this CPU has the instructions.
    pub runs_here: fn() -> bool,
    /// Sound to call when `runs_here()` and after `Spmm::check`.
    body: unsafe fn(&mut Spmm<'_>),
}

impl SpmmKernel {
    /// Computes `call`; never allocates.
    ///
    /// # Panics
    /// When this CPU cannot run the kernel or a slice is too short: both are errors of the calling code.
    pub fn run(&self, mut call: Spmm<'_>) {
        assert!((self.runs_here)(), "{} cannot run on this CPU", self.name);
        call.check();
        if call.pixels > 0 {
            // SAFETY: the line above the check asserted the CPU feature, `Spmm::check` asserted every length.
            unsafe { (self.body)(&mut call) }
        }
    }
}

/// Every kernel compiled for this architecture, fastest first.
pub static SPMM_F32: &[SpmmKernel] = &[
    #[cfg(target_arch = "x86_64")]
    SpmmKernel {
        name: "f32_spmm_160x1_avx512",
        tile: 160,
        runs_here: crate::isa::avx512::available,
        body: avx512::run,
    },
    #[cfg(target_arch = "x86_64")]
    SpmmKernel { name: "f32_spmm_96x1_avx2", tile: 96, runs_here: crate::isa::avx2::available, body: avx2::run },
    #[cfg(target_arch = "aarch64")]
    SpmmKernel { name: "f32_spmm_64x1_neon", tile: 64, runs_here: crate::isa::neon::available, body: neon::run },
    SpmmKernel { name: "f32_spmm_32x1_scalar", tile: 32, runs_here: || true, body: scalar::run },
];

/// The first kernel of the table that runs on this CPU.
pub fn best() -> &'static SpmmKernel {
    SPMM_F32.iter().find(|kernel| (kernel.runs_here)()).expect("the scalar kernel runs everywhere")
}

#[cfg(test)]
mod tests;
