//! Portable: eight independent sums.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::groups::{Product, SpreadInput, sparse_groups};
use super::slices::{CHUNK, COLUMNS_PER_BLOCK, COLUMNS_PER_CHUNK, SPREAD, Segment, Slices, Value, position};
use super::together::{FEWEST, SAMPLES, SpreadSamples, sparse_together};
use crate::Activation;
use crate::isa::scalar::{LANES, Vector, activate, add, fma, load, load_tail, splat, store, tail};

/// Rows side by side.
const GROUP: usize = 8;

sparse_groups!();
sparse_together!();

/// Adds a segment to the sums of `S` samples.
///
/// # Safety
/// `x` points to the spread input of the segment's block for `S` samples.
#[inline]
unsafe fn segment<T: Value, const S: usize>(
    slices: &Slices<T>,
    segment: &Segment,
    x: *const f32,
    sums: &mut [Sums; S],
) {
    let entries = segment.gathers * GROUP;
    let values = &slices.values[segment.values..][..entries];
    let positions = &slices.positions[segment.positions..][..entries];
    for (s, Sums(sums)) in sums.iter_mut().enumerate() {
        // SAFETY: positions lead to columns of this block or to the zero of its first chunk, which `spread` has written.
        let x = |position: u16| unsafe { x.add(s * SPREAD + position as usize).read() };
        for (values, positions) in values.as_chunks::<GROUP>().0.iter().zip(positions.as_chunks::<GROUP>().0) {
            for lane in 0..GROUP {
                sums[lane] += values[lane].number() * x(positions[lane]);
            }
        }
        for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
            sums[single.lane as usize] += single.value.number() * x(single.position);
        }
    }
}
