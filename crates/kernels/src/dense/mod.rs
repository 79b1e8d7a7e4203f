//! Dense convolutions: every weight is there, so nothing is looked up but where a tap's pixels start.
//!
//! A tile is some outputs times some vectors of pixels, all sums in registers; each entry (input channel and tap) costs one load per
//! vector and one broadcast per output. Every load serves several outputs, so loads that straddle cache lines are affordable here,
//! unlike in the sparse kernel: one padded copy of the input (per phase of a stride) serves all taps, and a plane is one long row of
//! pixels, in which the columns between two image rows are computed too and dropped.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod choice;
mod layer;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(neon32)]
mod neon32;
pub(crate) mod pack;
pub(crate) mod places;
mod scalar;
pub(crate) mod tiles;

#[cfg(test)]
pub(crate) mod tests;

pub use layer::{DenseChoice, DenseConv};

use crate::Isa;
use crate::planes;
use tiles::Pass;

/// The functions of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    pub isa: Isa,
    /// Pixels of one vector.
    pub lanes: usize,
    /// Outputs of a group, largest first, and the vectors per tile there are for them, at most.
    pub shapes: &'static [(usize, usize)],
    /// Which make the copies that are read.
    pub planes: planes::Kernels,
    pass: unsafe fn(usize, usize, &Pass),
}

macro_rules! kernels {
    ($isa:ident, $module:ident) => {
        Kernels {
            isa: Isa::$isa,
            lanes: crate::isa::$module::LANES,
            shapes: $module::SHAPES,
            planes: planes::Kernels::of(Isa::$isa),
            pass: $module::pass,
        }
    };
}

impl Kernels {
    /// The functions of `isa`.
    ///
    /// # Panics
    /// When this CPU lacks the instructions: an error of the calling code.
    pub fn of(isa: Isa) -> Self {
        assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => kernels!(Avx512, avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => kernels!(Avx2, avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernels!(Neon, neon),
            #[cfg(neon32)]
            Isa::Neon32 => kernels!(Neon32, neon32),
            _ => kernels!(Scalar, scalar),
        }
    }

    /// Vectors per tile, at most, for groups of `outputs`; none where there are no such groups.
    pub fn most_vectors(&self, outputs: usize) -> Option<usize> {
        self.shapes.iter().find(|(group, _)| *group == outputs).map(|(_, vectors)| *vectors)
    }

    /// # Safety
    /// As `pass` of the tile kernels; the features were checked by [`Kernels::of`].
    pub unsafe fn pass(&self, vectors: usize, outputs: usize, pass: &Pass) {
        // SAFETY: by this function's contract.
        unsafe { (self.pass)(vectors, outputs, pass) }
    }
}
