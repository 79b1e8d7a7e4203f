//! NEON (ARMv7): steps of eight rows in C, `neon32.c`; several samples at once as in portable code, which rounds alike.

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

unsafe extern "C" {
    /// Adds `steps` steps of eight values and positions each to eight sums.
    fn sentei_gemv_f32(steps: usize, values: *const f32, positions: *const u16, x: *const f32, sums: *mut f32);
    /// The same with bytes as values.
    fn sentei_gemv_i8(steps: usize, values: *const i8, positions: *const u16, x: *const f32, sums: *mut f32);
}

/// Adds a segment to the sums of `S` samples.
///
/// # Safety
/// The CPU has NEON; `x` points to the spread input of the segment's block for `S` samples.
#[inline]
unsafe fn segment<T: Value, const S: usize>(
    slices: &Slices<T>,
    segment: &Segment,
    x: *const f32,
    sums: &mut [Sums; S],
) {
    let entries = segment.gathers * GROUP;
    let values = slices.values[segment.values..][..entries].as_ptr();
    let positions = slices.positions[segment.positions..][..entries].as_ptr();
    for (s, Sums(sums)) in sums.iter_mut().enumerate() {
        let x = x.wrapping_add(s * SPREAD);
        // SAFETY: the streams hold `gathers` steps by the lines above; positions lead to columns of this block or to the zero of its
        // first chunk, which `spread` has written. A value that is scaled is an i8, any other an f32.
        unsafe {
            if T::SCALED {
                sentei_gemv_i8(segment.gathers, values.cast(), positions, x, sums.as_mut_ptr());
            } else {
                sentei_gemv_f32(segment.gathers, values.cast(), positions, x, sums.as_mut_ptr());
            }
        }
        for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
            // SAFETY: as above.
            let input = unsafe { x.add(single.position as usize).read() };
            sums[single.lane as usize] += single.value.number() * input;
        }
    }
}
