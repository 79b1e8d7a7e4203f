//! Tile kernels and copies of one instruction set: tiles in C, `neon32.c`, copies in Rust.

use super::rows::Turn;
use super::tiles::{Pass, Place};
use crate::isa::neon32::*;

super::fill::planes_fill!(; each #[inline(never)]);

/// [`Pass`] as C sees it.
#[repr(C)]
struct CPass {
    turns: *const Turn,
    groups: usize,
    offsets: *const u16,
    unit: usize,
    values: *const f32,
    bias: *const f32,
    scales: *const f32,
    x: *const f32,
    sums: *mut f32,
    sums_stride: usize,
    y: *mut f32,
    stride: usize,
    residual: *const f32,
    /// Null where the tile is whole.
    places: *const Place,
    count: usize,
    whole: usize,
    finished: *mut f32,
    first: usize,
    last: usize,
    hard_swish: usize,
    min: f32,
    max: f32,
}

unsafe extern "C" {
    /// Runs `pass` on a tile of `vectors` vectors with `group` outputs per entry; false when there is no such tile.
    fn sentei_planes_pass(vectors: usize, group: usize, pass: &CPass) -> bool;
}

/// Runs `pass` on a tile of `vectors` vectors with `group` outputs per entry.
///
/// # Safety
/// As `pass` of `tiles.rs`, for vectors of four.
pub(crate) unsafe fn pass(vectors: usize, group: usize, pass: &Pass) {
    let bounds = pass.activation.bounds();
    let (min, max) = bounds.unwrap_or((0.0, 0.0));
    let pass = CPass {
        turns: pass.turns,
        groups: pass.groups,
        offsets: pass.offsets,
        unit: pass.unit as usize,
        values: pass.values,
        bias: pass.bias,
        scales: pass.scales,
        x: pass.x,
        sums: pass.sums,
        sums_stride: pass.sums_stride,
        y: pass.y,
        stride: pass.stride,
        residual: pass.residual,
        places: if pass.whole.is_some() { std::ptr::null() } else { pass.places },
        count: pass.count,
        whole: pass.whole.unwrap_or(0),
        finished: pass.finished,
        first: usize::from(pass.first),
        last: usize::from(pass.last),
        hard_swish: usize::from(bounds.is_none()),
        min,
        max,
    };
    // SAFETY: the structs are those of the C file, field by field, and its tile reads and writes what this function's contract allows;
    // `finished` has room for two groups of outputs of any tile.
    let computed = unsafe { sentei_planes_pass(vectors, group, &pass) };
    assert!(computed, "no tile of {vectors} vectors for groups of {group}");
}
