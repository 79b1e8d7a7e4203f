//! Dense 3x3 convolutions of stride 1 with fewer multiplications: `y = A' [(G g G') . (B' d B)] A`.
//!
//! The output is cut into tiles of `m x m` pixels (`m` is 2 or 4), each of which needs `(m + 2)^2` products per channel instead of
//! `9 m^2`: 2.25 and 4 times fewer. Inputs are transformed into as many planes of one pixel per tile, each of which is a 1x1
//! convolution of its own, run by the tiles of [`dense`](crate::dense), and what comes out is transformed back.
//! Rounding errors are larger than those of plain sums: about 2 (`m = 2`) and 10 times (`m = 4`).
//!
//! Source: Lavin & Gray 2015, "Fast algorithms for convolutional neural networks" (arXiv:1509.09308).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layer;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod transforms;
mod weights;

#[cfg(test)]
mod tests;

pub use layer::{WinogradChoice, WinogradConv};

use crate::Isa;
use transforms::{InputPass, OutputPass};

/// The transforms of one instruction set.
#[derive(Clone, Copy, Debug)]
struct Transforms {
    /// Tiles of one vector.
    lanes: usize,
    input: unsafe fn(usize, &InputPass),
    output: unsafe fn(usize, &OutputPass),
}

macro_rules! transforms {
    ($module:ident) => {
        Transforms { lanes: crate::isa::$module::LANES, input: $module::input, output: $module::output }
    };
}

impl Transforms {
    /// Of `isa`, which this CPU must have.
    fn of(isa: Isa) -> Self {
        assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => transforms!(avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => transforms!(avx2),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => transforms!(neon),
            _ => transforms!(scalar),
        }
    }
}
