//! Sparse rows times planes of pixels: one tile kernel for sparse, block-sparse and dense convolutions.
//!
//! `y[o, p] = act(bias[o] + sum_k value[o, k] * x[offset[k] + p] + residual[o, p])`, a tile of pixels at a time in registers.
//! Where a convolution has more than one tap, or a stride, its input is copied first. Vector loads that straddle cache lines halve
//! the speed with AVX-512 (one core: 132 against 77 GFLOP/s from the first-level cache, 87 against 42 from the second), so
//! [`spread`] makes several copies in which every tap starts on a line. With AVX2 every second load straddles at most, which costs a
//! fifth (104 against 80): where several copies are dear, with a stride or few outputs, a tap may start anywhere in one ([`padded`]).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod fill;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(neon32)]
mod neon32;
pub(crate) mod padded;
mod rows;
mod scalar;
pub(crate) mod spread;
pub(crate) mod tiles;

pub use rows::{Item, Rows, Values};
pub(crate) use rows::{Layout, Segment};

use crate::Isa;
use fill::Filling;
use tiles::Pass;

/// The functions of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    pub isa: Isa,
    /// Pixels of one vector.
    pub lanes: usize,
    /// Vectors per tile, at most, for 1, 2, 4 and 8 outputs per group.
    most: [usize; 4],
    pass: unsafe fn(usize, usize, &Pass),
    fill: unsafe fn(&Filling<'_>),
}

macro_rules! kernels {
    ($isa:ident, $module:ident, $most:expr) => {
        Kernels {
            isa: Isa::$isa,
            lanes: crate::isa::$module::LANES,
            most: $most,
            pass: $module::pass,
            fill: $module::fill,
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
            Isa::Avx512 => kernels!(Avx512, avx512, [14, 12, 6, 3]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => kernels!(Avx2, avx2, [14, 6, 3, 1]),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernels!(Neon, neon, [16, 12, 6, 3]),
            #[cfg(neon32)]
            Isa::Neon32 => kernels!(Neon32, neon32, [13, 6, 3, 1]),
            _ => kernels!(Scalar, scalar, [4, 2, 1, 1]),
        }
    }

    /// Vectors per tile, at most, for `group` outputs per group.
    pub fn most_vectors(&self, group: usize) -> usize {
        self.most[group.ilog2() as usize]
    }

    /// # Safety
    /// As `pass` of the tile kernels; the features were checked by [`Kernels::of`].
    pub unsafe fn pass(&self, vectors: usize, group: usize, pass: &Pass) {
        // SAFETY: by this function's contract.
        unsafe { (self.pass)(vectors, group, pass) }
    }

    /// # Safety
    /// As `fill` of the instruction set; the features were checked by [`Kernels::of`].
    pub unsafe fn fill(&self, filling: &Filling<'_>) {
        // SAFETY: by this function's contract.
        unsafe { (self.fill)(filling) }
    }
}
