//! Tile kernels of one instruction set: sums in C, `neon32.c`; what begins and ends them is little, and Rust.

use super::tiles::Pass;
use crate::isa::neon32::*;

/// Outputs of a group and the most vectors per tile, largest group first.
pub(crate) const SHAPES: &[(usize, usize)] = &[(4, 3), (2, 4), (1, 4)];
/// Vectors of sums, at most.
const MOST_SUMS: usize = 12;

unsafe extern "C" {
    /// Adds `entries` entries to `sums`, `[output][vector]`; false when there is no such tile.
    fn sentei_dense_sums(
        vectors: usize,
        outputs: usize,
        entries: usize,
        offsets: *const u32,
        weights: *const f32,
        x: *const f32,
        step: usize,
        sums: *mut Vector,
    ) -> bool;
}

/// Runs `pass` on a tile of `vectors` vectors with groups of `outputs`.
///
/// # Safety
/// As `pass` of `tiles.rs`, for vectors of four.
pub(crate) unsafe fn pass(vectors: usize, outputs: usize, pass: &Pass) {
    let mut sums = [splat(0.0); MOST_SUMS];
    let sums = &mut sums[..vectors * outputs];
    for group in 0..pass.groups {
        let first = group * outputs;
        let at = |i: usize| pass.sums.wrapping_add((first + i / vectors) * pass.sums_stride + i % vectors * LANES);
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: one bias per output; the sums of earlier blocks are whole vectors.
            *sum = unsafe { if pass.first { splat(pass.bias.add(first + i / vectors).read()) } else { load(at(i)) } };
        }
        let weights = pass.weights.wrapping_add(first * pass.entries);
        // SAFETY: by this function's contract; there are as many sums as outputs times vectors.
        let added = unsafe {
            let (entries, offsets) = (pass.entries, pass.offsets);
            sentei_dense_sums(vectors, outputs, entries, offsets, weights, pass.x, pass.x_step, sums.as_mut_ptr())
        };
        assert!(added, "no tile of {vectors} vectors for groups of {outputs}");
        if pass.last {
            // SAFETY: by this function's contract.
            unsafe { finish(pass, vectors, first, sums) };
            continue;
        }
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: another block follows, and reads whole vectors.
            unsafe { store(at(i), *sum) };
        }
    }
}

/// Adds the residual, applies the activation and stores the sums of the outputs from `first` on.
///
/// # Safety
/// As `pass`.
unsafe fn finish(pass: &Pass, vectors: usize, first: usize, sums: &[Vector]) {
    for (i, sum) in sums.iter().enumerate() {
        let row = (first + i / vectors) * pass.stride;
        for segment in 0..pass.segments {
            // SAFETY: `segments` places per vector.
            let place = unsafe { pass.places.add(i % vectors * pass.segments + segment).read() };
            for lane in usize::from(place.from)..usize::from(place.to) {
                let at = row.wrapping_add_signed(place.offset as isize).wrapping_add(lane);
                // SAFETY: the place's lanes are accessible in every output.
                unsafe {
                    let mut sum = sum[lane];
                    if !pass.residual.is_null() {
                        sum += pass.residual.add(at).read();
                    }
                    pass.y.add(at).write(pass.activation.apply(sum));
                }
            }
        }
    }
}
