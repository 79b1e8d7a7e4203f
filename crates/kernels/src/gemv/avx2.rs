//! AVX2 + FMA: one gather, or eight loads put together, and one multiply-add per step of eight rows.
//!
//! Which of the two is faster depends on the processor (gathers take 5 cycles on recent Intel cores and up to ten times
//! that where microcode slows them down), so `best` times them. Table look-ups as with AVX-512 lost: with one register
//! (8 inputs) 5.4 us on LeNet-300-100 at 90 % zeros but 13 bytes a non-zero, with two registers and a blend 6.4 us,
//! against 5.6 us and 6 bytes with gathers.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::slices::{Segment, Slices, Value};
use crate::isa::avx2::{LANES, Vector, load};

/// Rows side by side.
const GROUP: usize = 8;

/// # Safety
/// Eight values are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) } else { load(at.cast()) }
    }
}

/// # Safety
/// Eight positions are readable at `at`, and `x` is readable at each of them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn gathered(x: *const f32, at: *const u16) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm256_i32gather_ps::<4>(x, _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()))) }
}

/// # Safety
/// As [`gathered`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn loaded(x: *const f32, at: *const u16) -> Vector {
    // SAFETY: by this function's contract; eight positions are two times four.
    unsafe {
        let four = |at: *const u16| {
            let at = at.cast::<u64>().read_unaligned();
            let x = |lane: u32| _mm_load_ss(x.add((at >> (16 * lane)) as u16 as usize));
            let first = _mm_insert_ps::<0x10>(x(0), x(1));
            _mm_insert_ps::<0x30>(_mm_insert_ps::<0x20>(first, x(2)), x(3))
        };
        _mm256_set_m128(four(at.add(4)), four(at))
    }
}

macro_rules! sparse_avx2 {
    ($module:ident, $fetch:ident) => {
        pub(super) mod $module {
            use super::super::groups::{Product, SpreadInput, sparse_groups};
            use super::super::slices::{CHUNK, COLUMNS_PER_BLOCK, COLUMNS_PER_CHUNK, SPREAD, position};
            use super::super::together::{FEWEST, SAMPLES, SpreadSamples, sparse_together};
            use super::*;
            use crate::Activation;
            use crate::isa::avx2::{activate, add, fma, load_tail, splat, store, tail};

            sparse_groups!("avx2,fma");
            sparse_together!("avx2,fma");

            /// Adds a segment to the sums of `S` samples.
            ///
            /// # Safety
            /// The CPU has AVX2 and FMA; `x` points to the spread input of the segment's block for `S` samples.
            #[inline]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn segment<T: Value, const S: usize>(
                slices: &Slices<T>,
                segment: &Segment,
                x: *const f32,
                sums: &mut [Sums; S],
            ) {
                let values = slices.values[segment.values..].as_ptr();
                let positions = slices.positions[segment.positions..].as_ptr();
                // SAFETY: `Slices::build` made the streams as long as the counts say; positions lead to columns of this
                // block or to the zero of its first chunk, which `spread` has written. The sums hold eight elements.
                unsafe {
                    for s in 0..S {
                        let mut sum = load(sums[s].0.as_ptr());
                        for step in 0..segment.gathers {
                            let inputs = $fetch(x.add(s * SPREAD), positions.add(step * GROUP));
                            sum = fma(numbers(values.add(step * GROUP)), inputs, sum);
                        }
                        store(sums[s].0.as_mut_ptr(), sum);
                        for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
                            let x = x.add(s * SPREAD + single.position as usize).read();
                            sums[s].0[single.lane as usize] += single.value.number() * x;
                        }
                    }
                }
            }
        }
    };
}

sparse_avx2!(gathers, gathered);
sparse_avx2!(loads, loaded);
