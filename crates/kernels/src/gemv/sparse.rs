//! The sparse layer: prepared once for one kernel, run by samples or as a layer of a region.

use std::ops::Range;

use super::groups::Product;
use super::slices::{Slices, Value};
use super::{GemvKernel, LinearValues, best, check_sizes};
use crate::{Activation, Call, KernelError, Layer, Map};

/// Rows of one unit: enough that spreading the input once more for it does not count.
const ROWS_PER_UNIT: usize = 32;

/// A fully connected layer whose zeros are gone.
#[derive(Debug)]
pub struct SparseLinear {
    weights: Weights,
    kernel: &'static GemvKernel,
    activation: Activation,
}

#[derive(Debug)]
enum Weights {
    F32(Slices<f32>),
    I8(Slices<i8>),
}

/// Evaluates `$body` with the slices of either kind.
macro_rules! with_slices {
    ($weights:expr, $slices:ident => $body:expr) => {
        match $weights {
            Weights::F32($slices) => $body,
            Weights::I8($slices) => $body,
        }
    };
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

    /// As [`SparseLinear::prepare`], for one kernel of [`GEMV`](super::GEMV); running it needs a CPU that has the kernel.
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
        let len = check_sizes(rows, cols)?;
        let bias = crate::bias_or_zeros(bias, rows)?;
        let nonzeros = crate::ordered(nonzeros, len)?;
        let slices = Slices::build(kernel.lanes, kernel.lookups, cols, &nonzeros, &bias, &[]);
        Ok(Self { weights: Weights::F32(slices), kernel, activation: Activation::None })
    }

    /// Prepares a layer from positions and values that lie apart, f32 or bytes with scales.
    ///
    /// * `positions`: flat indices into `[rows, cols]`, strictly increasing; one value for each.
    ///
    /// # Errors
    /// As [`SparseLinear::prepare`], and when values or scales have the wrong length.
    pub fn from_values(
        kernel: &'static GemvKernel,
        rows: usize,
        cols: usize,
        positions: &[u32],
        values: LinearValues<'_>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        let count = |found: usize| match found == positions.len() {
            true => Ok(()),
            false => Err(KernelError::ValueCount { expected: positions.len(), found }),
        };
        match values {
            LinearValues::F32(values) => {
                count(values.len())?;
                let nonzeros = positions.iter().copied().zip(values.iter().copied());
                Self::prepare_for(kernel, rows, cols, nonzeros, bias)
            }
            LinearValues::I8 { values, scales } => {
                count(values.len())?;
                let len = check_sizes(rows, cols)?;
                if scales.len() != rows {
                    return Err(KernelError::ScaleCount { expected: rows, found: scales.len() });
                }
                let bias = crate::bias_or_zeros(bias, rows)?;
                let nonzeros = crate::ordered(positions.iter().copied().zip(values.iter().copied()), len)?;
                let slices = Slices::build(kernel.lanes, kernel.lookups, cols, &nonzeros, &bias, scales);
                Ok(Self { weights: Weights::I8(slices), kernel, activation: Activation::None })
            }
        }
    }

    /// The activation that [`Layer::run`] applies.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Outputs of one sample.
    pub fn rows(&self) -> usize {
        with_slices!(&self.weights, slices => slices.rows)
    }

    /// Inputs of one sample.
    pub fn cols(&self) -> usize {
        with_slices!(&self.weights, slices => slices.cols)
    }

    /// Stored non-zeros, which is also the multiply-adds of one sample.
    pub fn nnz(&self) -> usize {
        with_slices!(&self.weights, slices => slices.nnz)
    }

    /// Bytes that weights, columns and bias occupy in memory.
    pub fn weight_bytes(&self) -> usize {
        with_slices!(&self.weights, slices => slices.bytes())
    }

    /// Name of the micro-kernel, as in the table.
    pub fn kernel_name(&self) -> &'static str {
        match self.weights {
            Weights::F32(_) => self.kernel.name,
            Weights::I8(_) => self.kernel.name_i8,
        }
    }

    /// Computes `y = act(x W^T + bias)`; never allocates.
    ///
    /// * `x`: `[batch, cols]`, `y`: `[batch, rows]`, row-major; the batch is whatever the lengths say.
    ///
    /// # Panics
    /// When the lengths do not fit each other, or this CPU cannot run the kernel.
    pub fn run(&self, x: &[f32], y: &mut [f32], activation: Activation) {
        let (rows, cols) = (self.rows(), self.cols());
        assert!(x.len().is_multiple_of(cols) && y.len() == x.len() / cols * rows, "input or output length");
        // SAFETY: `y` has a row for every sample of `x` and is borrowed mutably for the whole call.
        unsafe { self.run_groups(0..self.groups(), x, y.as_mut_ptr(), None, activation) }
    }

    fn groups(&self) -> usize {
        with_slices!(&self.weights, slices => slices.groups())
    }

    fn groups_per_unit(&self) -> usize {
        ROWS_PER_UNIT / self.kernel.lanes
    }

    /// # Safety
    /// `x` is whole samples, `y` and the residual hold as many; nothing else uses the rows of these groups in `y`.
    ///
    /// # Panics
    /// When this CPU cannot run the kernel or a group does not exist.
    unsafe fn run_groups(
        &self,
        groups: Range<usize>,
        x: &[f32],
        y: *mut f32,
        residual: Option<&[f32]>,
        activation: Activation,
    ) {
        assert!(self.kernel.isa.runs_here(), "{} cannot run on this CPU", self.kernel.name);
        assert!(groups.end <= self.groups(), "a group that does not exist");
        // SAFETY: the CPU was asserted above, the weights were built for this kernel by `prepare_for` or `from_values`,
        // the rest by this function's contract.
        unsafe {
            match &self.weights {
                Weights::F32(slices) => (self.kernel.f32)(&Product { slices, x, y, residual, activation }, groups),
                Weights::I8(slices) => (self.kernel.i8)(&Product { slices, x, y, residual, activation }, groups),
            }
        }
    }
}

impl Layer for SparseLinear {
    fn input(&self) -> Map {
        Map::tight(self.cols(), 1, 1)
    }

    fn output(&self) -> Map {
        Map::tight(self.rows(), 1, 1)
    }

    fn units(&self) -> usize {
        self.groups().div_ceil(self.groups_per_unit())
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        fn work<T: Value>(slices: &Slices<T>, groups: Range<usize>) -> usize {
            groups.map(|group| slices.work(group)).sum()
        }
        let groups = unit * self.groups_per_unit()..((unit + 1) * self.groups_per_unit()).min(self.groups());
        with_slices!(&self.weights, slices => work(slices, groups)) as u64
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _: &mut [f32]) {
        let (rows, cols) = (self.rows(), self.cols());
        assert!(call.x.len() >= cols && call.y.len() >= rows, "input or output is too short");
        let groups = units.start * self.groups_per_unit()..(units.end * self.groups_per_unit()).min(self.groups());
        assert!(units.end <= self.units(), "a unit that does not exist");
        let residual = call.residual.map(|residual| &residual[..rows]);
        // SAFETY: one sample of each by the lines above; rows of other units are not touched, and those of these are not
        // used by anyone else, by this function's contract.
        unsafe { self.run_groups(groups, &call.x[..cols], call.y.as_mut_ptr(), residual, self.activation) }
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes()
    }

    fn macs(&self) -> u64 {
        self.nnz() as u64
    }

    fn kernel(&self) -> String {
        self.kernel_name().into()
    }
}
