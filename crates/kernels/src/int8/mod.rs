//! Convolutions in bytes: weights are bytes with a scale per output, activations are rounded to bytes while they are copied, and sums are
//! exact integers, which processors with a dot product of bytes add sixteen products at a time.
//!
//! **Rounding.** A number is a scale times a byte less a zero point, as in Jacob et al. 2018, "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877), section 2.1. A piece (some rows of the output) finds both in the
//! numbers that it reads, as ONNX's DynamicQuantizeLinear does for a whole tensor: nothing has to be calibrated, and nothing in the file
//! says so.
//!
//! **Layout.** Four input channels of a pixel lie side by side as one word. A word is to this room what a number is to [`crate::dense`]:
//! copies, offsets and places are those, a quarter as many, and one product of a tile is a dot product of four.
//!
//! **Zeros.** Words of four weights (one output, four neighbouring input channels, one tap) that are all zero can be left out, one output
//! at a time (`1x4` blocks) or four (`4x4`). How a layer stores its words changes no bit of its result, and neither does the instruction set:
//! pieces depend on the sizes alone, integers on no order, and the steps from and to f32 are single roundings.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod layer;
#[cfg(target_arch = "aarch64")]
mod neon;
mod quantise;
mod scalar;
mod tiles;
mod words;

#[cfg(test)]
mod tests;

pub use layer::Int8Conv;

use crate::Isa;
use quantise::{Bounds, Rounding};
use tiles::Pass;

/// The functions of one instruction set.
#[derive(Clone, Copy, Debug)]
struct Kernels {
    /// As in kernel names.
    name: &'static str,
    /// Pixels of one vector.
    lanes: usize,
    /// Outputs of a group, largest first, and the vectors per tile there are for them, at most.
    shapes: &'static [(usize, usize)],
    pass: unsafe fn(usize, usize, &Pass),
    widen: unsafe fn(&[f32], Bounds) -> Bounds,
    words: unsafe fn(&Rounding, [&[f32]; 4], &mut [u32]),
}

macro_rules! kernels {
    ($module:ident, $name:literal) => {
        Kernels {
            name: $name,
            lanes: crate::isa::$module::LANES,
            shapes: $module::SHAPES,
            pass: $module::pass,
            widen: $module::widen,
            words: $module::words,
        }
    };
}

impl Kernels {
    /// The functions of `isa`, or portable ones where it has no products of bytes.
    ///
    /// # Panics
    /// When this CPU lacks the instructions: an error of the calling code.
    fn of(isa: Isa) -> Self {
        assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => kernels!(avx2, "avx2"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if neon::available() => kernels!(neon, "neon"),
            _ => kernels!(scalar, "scalar"),
        }
    }

    /// Vectors per tile, at most, for groups of `outputs`.
    ///
    /// # Panics
    /// When there are no such groups.
    fn most_vectors(&self, outputs: usize) -> usize {
        self.shapes.iter().find(|(group, _)| *group == outputs).expect("a group of the kernel").1
    }

    /// The bounds of `numbers` and of what `bounds` has seen.
    fn widen(&self, numbers: &[f32], bounds: Bounds) -> Bounds {
        // SAFETY: `Kernels::of` has checked the features.
        unsafe { (self.widen)(numbers, bounds) }
    }

    /// Rounds four rows to words; all five slices are equally long.
    fn words(&self, rounding: &Rounding, rows: [&[f32]; 4], to: &mut [u32]) {
        // SAFETY: `Kernels::of` has checked the features.
        unsafe { (self.words)(rounding, rows, to) }
    }

    /// # Safety
    /// As `pass` of the tile kernels; the features were checked by [`Kernels::of`].
    unsafe fn pass(&self, vectors: usize, outputs: usize, pass: &Pass) {
        // SAFETY: by this function's contract.
        unsafe { (self.pass)(vectors, outputs, pass) }
    }
}

/// Names of the kernels of this processor's instruction sets.
pub(crate) fn names() -> impl Iterator<Item = (String, bool)> {
    let of = |isa: &Isa| isa.runs_here().then(|| Kernels::of(*isa).name);
    let mut names: Vec<&str> = Isa::COMPILED.iter().filter_map(of).collect();
    names.dedup();
    names.into_iter().map(|name| (format!("i8_dot_{name}"), true))
}
