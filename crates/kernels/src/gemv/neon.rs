//! NEON (aarch64): eight lane loads and two multiply-adds per step of eight rows.

use std::arch::aarch64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::groups::{Product, SpreadInput, sparse_groups};
use super::slices::{CHUNK, COLUMNS_PER_BLOCK, COLUMNS_PER_CHUNK, SPREAD, Segment, Slices, Value, position};
use super::together::{FEWEST, SAMPLES, SpreadSamples, sparse_together};
use crate::Activation;
use crate::isa::neon::{LANES, Vector, activate, add, fma, load, load_tail, splat, store, tail};

/// Rows side by side.
const GROUP: usize = 8;

sparse_groups!("neon");
sparse_together!("neon");

/// # Safety
/// Eight values are readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn numbers<T: Value>(at: *const T) -> [Vector; 2] {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED {
            let wide = vmovl_s8(vld1_s8(at.cast()));
            let (low, high) = (vmovl_s16(vget_low_s16(wide)), vmovl_s16(vget_high_s16(wide)));
            [vcvtq_f32_s32(low), vcvtq_f32_s32(high)]
        } else {
            [load(at.cast()), load(at.cast::<f32>().add(LANES))]
        }
    }
}

/// # Safety
/// Four positions are readable at `at`, and `x` is readable at each of them.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fetched(x: *const f32, at: *const u16) -> Vector {
    // SAFETY: by this function's contract.
    unsafe {
        let at = at.cast::<u64>().read_unaligned();
        let x = |lane: u32| x.add((at >> (16 * lane)) as u16 as usize);
        let first = vld1q_lane_f32::<1>(x(1), vld1q_dup_f32(x(0)));
        vld1q_lane_f32::<3>(x(3), vld1q_lane_f32::<2>(x(2), first))
    }
}

/// Adds a segment to the sums of `S` samples.
///
/// # Safety
/// The CPU has NEON; `x` points to the spread input of the segment's block for `S` samples.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn segment<T: Value, const S: usize>(
    slices: &Slices<T>,
    segment: &Segment,
    x: *const f32,
    sums: &mut [Sums; S],
) {
    let values = slices.values[segment.values..].as_ptr();
    let positions = slices.positions[segment.positions..].as_ptr();
    // SAFETY: `Slices::build` made the streams as long as the counts say; positions lead to columns of this block or to
    // the zero of its first chunk, which `spread` has written. The sums hold eight elements.
    unsafe {
        for (s, Sums(sums)) in sums.iter_mut().enumerate() {
            let x = x.add(s * SPREAD);
            let mut low = load(sums.as_ptr());
            let mut high = load(sums.as_ptr().add(LANES));
            for step in 0..segment.gathers {
                let weights = numbers(values.add(step * GROUP));
                low = fma(weights[0], fetched(x, positions.add(step * GROUP)), low);
                high = fma(weights[1], fetched(x, positions.add(step * GROUP + LANES)), high);
            }
            store(sums.as_mut_ptr(), low);
            store(sums.as_mut_ptr().add(LANES), high);
            for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
                sums[single.lane as usize] += single.value.number() * x.add(single.position as usize).read();
            }
        }
    }
}
