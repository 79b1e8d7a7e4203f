//! The functions of each instruction set, and what an ill-fitting call is told.

use super::panels::{Products, Turn};
use super::tiles::{Rect, Tile};
use crate::{Isa, KernelError};

use crate::training::{ConvGeometry, Lanes};

/// The functions of one instruction set. Sound to call when the CPU has the instructions, by the contracts of `tiles`.
pub(super) struct Kernels {
    pub lanes: usize,
    /// Most outputs and channels of a tile.
    pub tile: (usize, usize),
    /// The same where a group has no more input channels than these.
    pub few_channels: (usize, usize),
    /// Most outputs, and vectors of features, of fully connected layers.
    pub panel: (usize, usize),
    pub add_tile: unsafe fn(&Tile, &[Rect], *const f32, *const f32, *mut f32),
    pub add_bundle: unsafe fn(&Rect, *const f32, *const f32, &[u32], &[i32], *mut f32),
    pub add_lanes: unsafe fn(*const f32, usize, *mut f32),
    pub turn: unsafe fn(Turn, *const f32, *mut f32),
    pub products: unsafe fn(&Products, *const f32, *const f32, *mut f32, *mut f32),
}

macro_rules! kernels {
    ($module:ident, $tile:expr, $few_channels:expr, $panel:expr) => {
        Kernels {
            lanes: crate::isa::$module::LANES,
            tile: $tile,
            few_channels: $few_channels,
            panel: $panel,
            add_tile: super::$module::tile,
            add_bundle: super::$module::bundle,
            add_lanes: super::$module::lanes,
            turn: super::$module::turn,
            products: super::$module::products,
        }
    };
}

pub(super) fn kernels_of(isa: Isa) -> Kernels {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernels!(avx512, (4, 6), (8, 3), (8, 3)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernels!(avx2, (4, 3), (4, 3), (3, 4)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernels!(neon, (4, 6), (8, 3), (8, 3)),
        _ => kernels!(scalar, (2, 2), (2, 2), (2, 2)),
    }
}

/// The instruction set whose kernels compute this layer for this batch.
pub(super) fn checked(isa: Isa, geometry: &ConvGeometry, lanes: Lanes) -> Result<Isa, KernelError> {
    let isa = isa.or_portable();
    geometry.check()?;
    if lanes.lanes != kernels_of(isa).lanes {
        return Err(KernelError::Unfit {
            what: "the number of images side by side, for a weight gradient,",
            expected: "the lanes of the instruction set",
        });
    }
    let largest = lanes.len(1).checked_mul(geometry.in_channels.max(geometry.out_channels)).and_then(|len| {
        let pixels = |map: [usize; 2]| map[0].checked_mul(map[1]);
        len.checked_mul(pixels(geometry.input)?.max(pixels(geometry.output)?))
    });
    match largest {
        Some(len) if len <= isize::MAX as usize / size_of::<f32>() => Ok(isa),
        _ => Err(KernelError::TooLarge { what: "the batch" }),
    }
}
