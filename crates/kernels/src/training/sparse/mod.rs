//! Sparse convolutions of a training step: forward and input gradient, whose work is that of the weights that survived.
//!
//! A tile is some vectors (columns, rows, blocks of images) of one output channel, whose sums stay in registers; a survivor costs one broadcast
//! and one multiply-add with a memory operand per vector. So the loads are what limits, two per cycle, and what matters is that they
//! find their pixels in the first-level cache: source channels are taken in chunks, and all output channels of a tile go over
//! one chunk before the next. Between chunks the sums wait in the output: same order of sums, same bits.
//!
//! The input gradient is the same kernel over the transposed structure. Where taps fall outside, at the border or between the pixels of a stride, the entries
//! that count are copied for the whole rectangle before its tiles run; nothing is multiplied with zeros.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lists;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plan;
mod rects;
mod scalar;
mod survivors;
mod tiles;
mod tiling;

#[cfg(test)]
mod tests;

use super::{ConvGeometry, Lanes};
use crate::team::Team;
use crate::{Isa, KernelError};
use lists::{Changes, Pool};
use plan::{Direction, Plan, Start};
use tiles::Pass;

/// The functions of one instruction set.
#[derive(Clone, Copy, Debug)]
struct Kernels {
    lanes: usize,
    /// For 1, 2, 3, ... pieces in a tile, the most vectors in a piece.
    widths: &'static [usize],
    /// Sound to call when the CPU has the instructions, for tiles as `Pass` describes.
    pass: unsafe fn(usize, usize, &Pass<'_>),
    /// Sound to call when the CPU has the instructions, as `lists::keep` describes.
    keep: unsafe fn(&Changes, &[u32], &[f32], *mut u32, *mut f32) -> usize,
}

macro_rules! kernels {
    ($module:ident) => {
        Kernels { lanes: crate::isa::$module::LANES, widths: $module::WIDTHS, pass: $module::pass, keep: $module::keep }
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

/// A convolution or fully connected layer that multiplies its surviving weights only, forward and backward to its input.
///
/// It holds which weights survive, not their values: those are read from the dense weights at every call, into room that both directions
/// share; hence `&mut self`. Sums have the order that the module says, so the bits are those of a dense layer whose other weights
/// are zero.
#[derive(Debug)]
pub struct SparseConv {
    geometry: ConvGeometry,
    blocks: usize,
    kernels: Kernels,
    forward: Plan,
    input_gradient: Plan,
    /// One per survivor; what the latest call read.
    values: Vec<f32>,
    pool: Pool,
}

impl SparseConv {
    /// Prepares a layer for the survivors in `keep`.
    ///
    /// * `lanes`: the batch, laid out for `isa`.
    /// * `keep`: one per weight, in the order of the file; only where it is `true` a weight is ever read.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is not one, `keep` has another length, maps are too large for 32-bit offsets,
    /// `lanes` belongs to another instruction set, or this processor lacks it.
    pub fn new(isa: Isa, geometry: ConvGeometry, lanes: Lanes, keep: &[bool]) -> Result<Self, KernelError> {
        let isa = isa.or_portable();
        geometry.check()?;
        if !isa.runs_here() {
            return Err(KernelError::NoKernel { what: "an instruction set that this processor lacks" });
        }
        let kernels = kernels_of(isa);
        if lanes.lanes != kernels.lanes {
            let expected = "laid out for the instruction set of the layer";
            return Err(KernelError::Unfit { what: "the batch of a sparse layer", expected });
        }
        let weights = geometry.weights();
        if keep.len() != weights {
            return Err(KernelError::ValueCount { expected: weights, found: keep.len() });
        }
        if u32::try_from(weights).is_err() {
            return Err(KernelError::TooLarge { what: "the weight of a sparse layer" });
        }
        let kept = positions(keep);
        let plan = |direction| Plan::new(direction, &geometry, &kernels, lanes.blocks(), &kept);
        let (forward, input_gradient) = (plan(Direction::Forward)?, plan(Direction::InputGradient)?);
        let (a, b) = (forward.most(), input_gradient.most());
        let pool = Pool::new((a.0.max(b.0), a.1.max(b.1)));
        let values = vec![0.0; kept.len()];
        Ok(Self { geometry, blocks: lanes.blocks(), kernels, forward, input_gradient, values, pool })
    }

    /// Weights that survive.
    pub fn survivors(&self) -> usize {
        self.values.len()
    }

    /// `y = conv(x, w) + bias`, overwriting `y`.
    ///
    /// * `x`, `y`: as [`Lanes`] says; fastest if they begin on a cache line. `w`: all weights, in the order of the file. `bias`: one per output channel.
    ///
    /// # Panics
    /// When a length is not that of the layer.
    pub fn forward(&mut self, team: &Team, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        assert!(bias.is_none_or(|bias| bias.len() == self.geometry.out_channels), "one bias per output channel");
        let start = bias.map_or(Start::Zero, Start::Bias);
        self.run(Direction::Forward, team, x, w, y, start);
    }

    /// The gradient of the input, `gx`, from that of the output, `gy`; added to what is there if `accumulate`.
    ///
    /// # Panics
    /// When a length is not that of the layer.
    pub fn input_gradient(&mut self, team: &Team, gy: &[f32], w: &[f32], gx: &mut [f32], accumulate: bool) {
        let start = if accumulate { Start::Present } else { Start::Zero };
        self.run(Direction::InputGradient, team, gy, w, gx, start);
    }

    fn run(&mut self, direction: Direction, team: &Team, from: &[f32], w: &[f32], to: &mut [f32], start: Start<'_>) {
        let plan = if direction == Direction::Forward { &self.forward } else { &self.input_gradient };
        assert_eq!([from.len(), to.len()], plan.lens(self.blocks), "numbers that a sparse layer reads and writes");
        assert_eq!(w.len(), self.geometry.weights(), "weights of a sparse layer");
        // SAFETY: `new` has checked that the CPU has the instructions, `forward` the bias; the lengths were checked above.
        unsafe { plan.run(team, &self.kernels, w, &mut self.values, &self.pool, from, to, start) }
    }
}

/// Where `keep` is `true`.
fn positions(keep: &[bool]) -> Vec<u32> {
    const AT_ONCE: usize = 16;
    let mut positions = Vec::with_capacity(keep.iter().filter(|keep| **keep).count());
    for (part, first) in keep.chunks(AT_ONCE).zip((0u32..).step_by(AT_ONCE)) {
        if part.iter().fold(false, |any, keep| any | keep) {
            positions.extend(part.iter().zip(first..).filter(|(keep, _)| **keep).map(|(_, position)| position));
        }
    }
    positions
}
