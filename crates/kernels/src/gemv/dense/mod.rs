//! Dense weights: panels of up to eight vectors of rows, in two parts, each column by column: streams that are read once.
//!
//! An input is broadcast and multiplied with the panel's column, so rows are summed in the order of columns and no sum
//! crosses lanes. Narrow panels have several sums a row, by column modulo 2 or 4, to hide the latency of multiply-adds.
//!
//! 2048 -> 1000 in f32 (8 MB) takes as long as a plain read of its weights, AVX-512 and AVX2 alike (277 us where a read takes
//! 280) from the third-level cache; bytes take 63 and 73 us. From the second-level cache bytes are 15 to 25 % slower than f32: widening and
//! converting take two instructions a vector, which a batch shares.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod tiles;

use std::ops::Range;

use super::lines::{Lines, Plain};
use super::{LinearValues, check_sizes};
use crate::{Activation, Call, Isa, KernelError, Layer, Map};
pub(crate) use tiles::{AHEAD, CACHE_LINE};
use tiles::{PART, Panel};

/// Vectors of rows in a panel; the last panel may have fewer.
const VECTORS: usize = 8;

/// A fully connected layer with all its weights.
#[derive(Debug)]
pub struct DenseLinear {
    isa: Isa,
    rows: usize,
    cols: usize,
    weights: Weights,
    /// One per row, then zeros up to a whole vector.
    bias: Lines<f32>,
    /// As the bias; empty for f32 weights.
    scales: Lines<f32>,
    activation: Activation,
}

#[derive(Debug)]
enum Weights {
    F32(Lines<f32>),
    I8(Lines<i8>),
}

/// The functions of one instruction set.
struct Kernels {
    lanes: usize,
    /// Sound to call when the CPU has the instructions, for a panel as `Panel` describes.
    f32: unsafe fn(&Panel<'_, f32>),
    i8: unsafe fn(&Panel<'_, i8>),
}

macro_rules! kernels {
    ($module:ident) => {
        Kernels { lanes: crate::isa::$module::LANES, f32: $module::panel::<f32>, i8: $module::panel::<i8> }
    };
}

fn kernels_of(isa: Isa) -> Kernels {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernels!(avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernels!(avx2),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernels!(neon),
        _ => kernels!(scalar),
    }
}

impl DenseLinear {
    /// Prepares a layer for `isa`; running it needs a CPU that has the instructions.
    ///
    /// * `weights`: `[rows, cols]` (outputs, inputs), row-major.
    /// * `bias`: one per row, or none.
    ///
    /// # Errors
    /// [`KernelError`] when a size is 0 or too large, or weights, scales or bias have the wrong length.
    pub fn prepare(
        isa: Isa,
        rows: usize,
        cols: usize,
        weights: LinearValues<'_>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        let isa = isa.or_portable();
        let len = check_sizes(rows, cols)?;
        let found = match weights {
            LinearValues::F32(values) => values.len(),
            LinearValues::I8 { values, .. } => values.len(),
        };
        if found != len {
            return Err(KernelError::ValueCount { expected: len, found });
        }
        let bias = crate::bias_or_zeros(bias, rows)?;
        let lanes = kernels_of(isa).lanes;
        let padded = |of_row: &[f32]| {
            let mut lines = Lines::zeros(rows.next_multiple_of(lanes));
            lines.as_mut_slice()[..rows].copy_from_slice(of_row);
            lines
        };
        let (weights, scales) = match weights {
            LinearValues::F32(values) => (Weights::F32(parts(lanes, rows, cols, values)), Lines::zeros(0)),
            LinearValues::I8 { scales, .. } if scales.len() != rows => {
                return Err(KernelError::ScaleCount { expected: rows, found: scales.len() });
            }
            LinearValues::I8 { values, scales } => (Weights::I8(parts(lanes, rows, cols, values)), padded(scales)),
        };
        Ok(Self { isa, rows, cols, weights, bias: padded(&bias), scales, activation: Activation::None })
    }

    /// The activation that [`Layer::run`] applies.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Outputs of one sample.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of one sample.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Computes `y = act(x W^T + bias)` for a batch; never allocates. Weights are read once for a few samples.
    ///
    /// * `x`: `[batch, cols]`, `y`: `[batch, rows]`, row-major; the batch is whatever the lengths say.
    ///
    /// # Panics
    /// When the lengths do not fit each other, or this CPU lacks the instructions.
    pub fn run(&self, x: &[f32], y: &mut [f32], activation: Activation) {
        assert!(
            x.len().is_multiple_of(self.cols) && y.len() == x.len() / self.cols * self.rows,
            "input or output length"
        );
        // SAFETY: `y` has a row for every sample of `x` and is borrowed mutably for the whole call.
        unsafe { self.run_panels(0..self.panels(), x, y.as_mut_ptr(), None, activation) }
    }

    fn rows_per_panel(&self) -> usize {
        VECTORS * kernels_of(self.isa).lanes
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(self.rows_per_panel())
    }

    /// # Safety
    /// `x` is whole samples, `y` and the residual hold as many; nothing else uses the rows of these panels in `y`.
    unsafe fn run_panels(
        &self,
        panels: Range<usize>,
        x: &[f32],
        y: *mut f32,
        residual: Option<&[f32]>,
        activation: Activation,
    ) {
        assert!(self.isa.runs_here(), "{} cannot run on this CPU", self.isa.name());
        assert!(panels.end <= self.panels(), "a panel that does not exist");
        let kernels = kernels_of(self.isa);
        let (rows, cols) = (self.rows, self.cols);
        for panel in panels {
            let first = panel * self.rows_per_panel();
            let count = self.rows_per_panel().min(rows - first);
            let residual = residual.map_or(std::ptr::null(), |residual| residual[first..].as_ptr());
            let (bias, scales) = (&self.bias[first..], self.scales.get(first..).unwrap_or(&[]));
            // SAFETY: the CPU was asserted above. The panel's rows exist, its weights lie behind those of the panels before
            // it, and `y` and the residual hold a row for every sample by this function's contract.
            unsafe {
                let y = y.add(first);
                match &self.weights {
                    Weights::F32(weights) => {
                        let weights = &weights[first * cols..];
                        (kernels.f32)(&Panel { weights, bias, scales, x, cols, y, residual, rows, count, activation });
                    }
                    Weights::I8(weights) => {
                        let weights = &weights[first * cols..];
                        (kernels.i8)(&Panel { weights, bias, scales, x, cols, y, residual, rows, count, activation });
                    }
                }
            }
        }
    }
}

/// Weights `[rows, cols]` as parts of panels, `[part][col][row of part]`, rows filled up to whole vectors with zeros.
fn parts<T: Plain>(lanes: usize, rows: usize, cols: usize, values: &[T]) -> Lines<T> {
    let mut parts = Lines::zeros(rows.next_multiple_of(lanes) * cols);
    let to = parts.as_mut_slice();
    for first in (0..rows).step_by(PART * lanes) {
        let count = (rows - first).min(PART * lanes);
        let pitch = count.next_multiple_of(lanes);
        for row in 0..count {
            for (col, value) in values[(first + row) * cols..][..cols].iter().enumerate() {
                to[first * cols + col * pitch + row] = *value;
            }
        }
    }
    parts
}

impl Layer for DenseLinear {
    fn input(&self) -> Map {
        Map::tight(self.cols, 1, 1)
    }

    fn output(&self) -> Map {
        Map::tight(self.rows, 1, 1)
    }

    fn units(&self) -> usize {
        self.panels()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        (self.rows - unit * self.rows_per_panel()).min(self.rows_per_panel()) as u64
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _: &mut [f32]) {
        assert!(call.x.len() >= self.cols && call.y.len() >= self.rows, "input or output is too short");
        let residual = call.residual.map(|residual| &residual[..self.rows]);
        // SAFETY: one sample of each by the lines above; rows of other units are not touched, and those of these are not
        // used by anyone else, by this function's contract.
        unsafe { self.run_panels(units, &call.x[..self.cols], call.y.as_mut_ptr(), residual, self.activation) }
    }

    fn weight_bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::F32(weights) => size_of_val(&weights[..]),
            Weights::I8(weights) => size_of_val(&weights[..]),
        };
        weights + size_of_val(&self.bias[..]) + size_of_val(&self.scales[..])
    }

    fn macs(&self) -> u64 {
        (self.rows * self.cols) as u64
    }

    fn kernel(&self) -> String {
        let dtype = match self.weights {
            Weights::F32(_) => "f32",
            Weights::I8(_) => "i8",
        };
        format!("{dtype}_dense_1x{}_{}", self.rows_per_panel(), self.isa.name())
    }
}
