//! The dot product of bytes that aarch64 has from ARMv8.2 on (`FEAT_DotProd`); its intrinsics are not stable.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::isa::neon::*;

type Sum = int32x4_t;
type Pixels = int8x16_t;
type Four = int8x16_t;

/// Whether this processor has it.
pub(super) fn available() -> bool {
    crate::isa::neon::available() && std::arch::is_aarch64_feature_detected!("dotprod")
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn none() -> Sum {
    vdupq_n_s32(0)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn no_pixels() -> Pixels {
    vdupq_n_s8(0)
}

/// # Safety
/// Four words are readable at `at`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn pixels(at: *const u32) -> Pixels {
    // SAFETY: by this function's contract.
    unsafe { vld1q_s8(at.cast()) }
}

/// # Safety
/// Four words are readable at `at`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn four(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    unsafe { vld1q_s8(at) }
}

/// # Safety
/// One word is readable at `at`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn one(at: *const i8) -> Four {
    // SAFETY: by this function's contract; a lane is loaded whatever its alignment.
    vreinterpretq_s8_u32(vdupq_n_u32(unsafe { at.cast::<u32>().read_unaligned() }))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const N: i32>(mut sum: Sum, pixels: Pixels, four: Four) -> Sum {
    macro_rules! sdot {
        ($lane:literal) => {
            // SAFETY: an instruction on registers, which this function's features allow.
            unsafe {
                asm!(
                    concat!("sdot {sum:v}.4s, {pixels:v}.16b, {four:v}.4b[", $lane, "]"),
                    sum = inout(vreg) sum, pixels = in(vreg) pixels, four = in(vreg) four,
                    options(pure, nomem, nostack, preserves_flags),
                )
            }
        };
    }
    match N {
        0 => sdot!(0),
        1 => sdot!(1),
        2 => sdot!(2),
        _ => sdot!(3),
    }
    sum
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn number(sum: Sum, correction: i32) -> Vector {
    vcvtq_f32_s32(vaddq_s32(sum, vdupq_n_s32(correction)))
}

/// Bounds of `numbers` and of what `bounds` has seen.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn widen(numbers: &[f32], mut bounds: super::Bounds) -> super::Bounds {
    let (eights, rest) = numbers.as_chunks::<8>();
    // SAFETY: both arrays of `bounds`, and every chunk, have eight elements of 32 bits.
    unsafe {
        let (high, low) = (bounds.high.as_mut_ptr(), bounds.low.as_mut_ptr());
        let mut highs = [vld1q_s32(high), vld1q_s32(high.add(LANES))];
        let mut lows = [vld1q_u32(low), vld1q_u32(low.add(LANES))];
        for eight in eights {
            let bits = [0, 1].map(|half| vreinterpretq_u32_f32(vld1q_f32(eight.as_ptr().add(half * LANES))));
            for half in 0..2 {
                highs[half] = vmaxq_s32(highs[half], vreinterpretq_s32_u32(bits[half]));
                lows[half] = vmaxq_u32(lows[half], bits[half]);
            }
        }
        vst1q_s32(high, highs[0]);
        vst1q_s32(high.add(LANES), highs[1]);
        vst1q_u32(low, lows[0]);
        vst1q_u32(low.add(LANES), lows[1]);
    }
    super::quantise::widen(rest, bounds)
}

/// Rounds four rows of numbers to words; all five slices are equally long.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn words(rounding: &super::Rounding, rows: [&[f32]; 4], to: &mut [u32]) {
    let whole = to.len() / LANES * LANES;
    assert!(rows.iter().all(|row| row.len() == to.len()), "rows as long as their words");
    let (inverse, shift) = (vdupq_n_f32(rounding.inverse), vdupq_n_f32(rounding.shift));
    for at in (0..whole).step_by(LANES) {
        // SAFETY: four elements from `at` on lie in each row and in `to`, whose lengths were compared.
        unsafe {
            let bits = |row: usize| {
                let numbers = vld1q_f32(rows[row].as_ptr().add(at));
                vreinterpretq_u32_f32(vaddq_f32(vmulq_f32(numbers, inverse), shift))
            };
            // each keeps the low bytes of what it is inserted into
            let two = vsliq_n_u32::<8>(bits(0), bits(1));
            let four = vsliq_n_u32::<24>(vsliq_n_u32::<16>(two, bits(2)), bits(3));
            vst1q_u32(to.as_mut_ptr().add(at), four);
        }
    }
    super::quantise::words(rounding, rows.map(|row| &row[whole..]), &mut to[whole..]);
}

super::tiles::int8_tiles!(#[target_feature(enable = "neon,dotprod")] [8: 1 2 3; 4: 1 2 3 4; 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;]);
