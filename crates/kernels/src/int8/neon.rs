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

super::tiles::int8_tiles!(#[target_feature(enable = "neon,dotprod")] [8: 1 2 3; 4: 1 2 3 4; 1: 1 2 3 4 5 6;]);
