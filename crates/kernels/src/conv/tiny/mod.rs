//! Convolutions of maps that one vector of pixels or two hold, where the tile kernels would compute padding for the most part.
//!
//! Every weight of an output reads one *position*: the pixels of one input plane under one kernel tap, all of the output at once,
//! copied beforehand. Taps that see nothing but padding do not exist. Sparse: some rows side by side ([`sparse`]), a position times
//! a weight of each. Dense: vectors of outputs times single pixels ([`dense`]), so that weights, which outnumber the pixels by far,
//! are a stream that is read once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod layer;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pixels;
mod scalar;
mod sparse;
mod steps;
mod taps;
#[cfg(target_arch = "x86_64")]
mod xmm;

use std::ops::Range;

pub use layer::TinyConv;

use crate::Isa;

/// Pixels of a plane, at most, of the input as of the output.
pub(crate) const MOST_PIXELS: usize = 16;
/// Rows side by side, at most.
const MOST_ROWS: usize = 8;

/// The functions for one number of pixels.
#[derive(Clone, Copy, Debug)]
struct Pixels {
    /// Vectors of a position.
    vectors: usize,
    /// Elements of a position.
    lanes: usize,
    /// Rows side by side.
    rows: usize,
    pick: unsafe fn(usize, &pixels::Pick<'_>),
    pass: unsafe fn(usize, &sparse::Pass<'_>),
    finish: unsafe fn(usize, Range<usize>, &pixels::Finish<'_>),
}

macro_rules! pixels {
    ($module:ident, $vectors:literal, $rows:literal) => {
        Pixels {
            vectors: $vectors,
            lanes: $vectors * crate::isa::$module::LANES,
            rows: $rows,
            pick: $module::pick,
            pass: $module::pass,
            finish: $module::finish,
        }
    };
}

/// The functions for outputs of `pixels` pixels; the narrowest vectors that hold them all.
fn pixels(isa: Isa, pixels: usize) -> Pixels {
    match (isa, pixels) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx2, ..=4) => pixels!(xmm, 1, 8),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx2, ..=8) => pixels!(avx2, 1, 8),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _) => pixels!(avx512, 1, 8),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => pixels!(avx2, 2, 4),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, ..=4) => pixels!(neon, 1, 8),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, ..=8) => pixels!(neon, 2, 8),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, _) => pixels!(neon, 4, 4),
        (_, ..=8) => pixels!(scalar, 1, 8),
        _ => pixels!(scalar, 2, 4),
    }
}

/// The dense kernel for one number of pixels.
#[derive(Clone, Copy, Debug)]
struct Panels {
    /// Outputs of a panel.
    outputs: usize,
    panel: unsafe fn(&dense::Panel<'_>),
}

/// The dense kernel for outputs of `pixels` pixels, if there is one.
fn panels(isa: Isa, pixels: usize) -> Option<Panels> {
    macro_rules! panels {
        ($module:ident) => {
            $module::shape(pixels)
                .map(|(vectors, _)| Panels { outputs: vectors * crate::isa::$module::LANES, panel: $module::panel })
        };
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => panels!(avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => panels!(avx2),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => panels!(neon),
        _ => panels!(scalar),
    }
}

#[cfg(test)]
mod tests;
