//! AVX-512F: sixteen rows side by side, one two-register table look-up and one multiply-add per step.
//!
//! LeNet-300-100 at 90 / 95 % zeros, all three layers, one core of a Granite-Rapids-like Xeon: look-ups, then gathers for
//! the rest, 2.6 / 1.8 us; gathers alone 5.9 / 2.7; gathers of eight 5.5 / 2.5; single loads put together 5.7 / 2.9; scalar
//! code with four sums a row 8.3 / 4.3; look-ups alone 2.6 / 1.7, but 6.8 / 8.5 bytes a non-zero; dense 6.5.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::groups::{Product, SpreadInput, sparse_groups};
use super::schedule::STEPS_PER_WORD;
use super::slices::{CHUNK, COLUMNS_PER_BLOCK, COLUMNS_PER_CHUNK, SPREAD, Segment, Slices, Value};
use crate::Activation;
use crate::isa::avx512::{LANES, Vector, activate, add, fma, load, load_tail, splat, store, tail};

/// Rows side by side.
const GROUP: usize = 16;

/// Computes `groups` for all samples, up to four of them together: they share the weights.
///
/// # Safety
/// The CPU has AVX-512F; `y` and the residual hold as many samples as `x`; nothing else uses these groups' rows in `y`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run<T: Value>(call: &Product<'_, T>, groups: Range<usize>) {
    let count = call.samples();
    let mut first = 0;
    while first < count {
        // SAFETY: by this function's contract; the samples taken do not exceed those that are left.
        first += unsafe {
            match count - first {
                4.. => (samples::<T, 4>(call, first, groups.clone()), 4).1,
                2.. => (samples::<T, 2>(call, first, groups.clone()), 2).1,
                _ => (samples::<T, 1>(call, first, groups.clone()), 1).1,
            }
        };
    }
}

sparse_groups!("avx512f");

/// # Safety
/// Sixteen values are readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) } else { load(at.cast()) }
    }
}

/// Adds a segment to the sums of `S` samples.
///
/// Even and odd look-ups have sums of their own, so that one can start while the last is in flight.
///
/// # Safety
/// The CPU has AVX-512F; `x` points to the spread input of the segment's block for `S` samples.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn segment<T: Value, const S: usize>(
    slices: &Slices<T>,
    segment: &Segment,
    x: *const f32,
    sums: &mut [Sums; S],
) {
    let mut values = slices.values[segment.values..].as_ptr();
    let mut words = slices.words[segment.words..].as_ptr();
    let mut positions = slices.positions[segment.positions..].as_ptr();
    // SAFETY: `Slices::build` made the streams as long as the counts say. Chunks and positions lead to columns of this
    // block or to the zero of its first chunk, which `spread` has written; the vector behind a chunk number is a whole
    // chunk. The sums hold sixteen elements.
    unsafe {
        let mut even: [Vector; S] = std::array::from_fn(|s| load(sums[s].0.as_ptr()));
        let mut odd = [splat(0.0); S];
        let chunks = &slices.chunks[segment.chunks..][..segment.lookups];
        for chunks in chunks.as_chunks::<STEPS_PER_WORD>().0 {
            let mut word = _mm512_load_si512(words.cast());
            words = words.add(GROUP);
            for (step, [first, second]) in chunks.iter().enumerate() {
                let weights = numbers(values);
                values = values.add(GROUP);
                for s in 0..S {
                    let x = x.add(s * SPREAD);
                    let first = load(x.add(*first as usize * CHUNK));
                    let second = load(x.add(*second as usize * CHUNK));
                    let inputs = _mm512_permutex2var_ps(first, word, second);
                    let sum = if step % 2 == 0 { &mut even[s] } else { &mut odd[s] };
                    *sum = fma(weights, inputs, *sum);
                }
                word = _mm512_srli_epi32::<5>(word);
            }
        }
        for _ in 0..segment.gathers {
            let at = _mm512_cvtepu16_epi32(_mm256_load_si256(positions.cast()));
            positions = positions.add(GROUP);
            let weights = numbers(values);
            values = values.add(GROUP);
            for (s, sum) in even.iter_mut().enumerate() {
                let inputs = _mm512_i32gather_ps::<4>(at, x.add(s * SPREAD).cast());
                *sum = fma(weights, inputs, *sum);
            }
        }
        for (s, Sums(sums)) in sums.iter_mut().enumerate() {
            store(sums.as_mut_ptr(), add(even[s], odd[s]));
        }
        for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
            for (s, Sums(sums)) in sums.iter_mut().enumerate() {
                let x = x.add(s * SPREAD + single.position as usize).read();
                sums[single.lane as usize] += single.value.number() * x;
            }
        }
    }
}
