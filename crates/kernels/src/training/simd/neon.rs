//! NEON of aarch64: comparisons give vectors of ones and zeros.

use std::arch::aarch64::*;

super::simd!("NEON", neon, 8 tile, "neon");

#[inline]
#[target_feature(enable = "neon")]
fn pick(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), yes, no)
}

#[inline]
#[target_feature(enable = "neon")]
fn pick_nan(a: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
    vbslq_f32(vceqq_f32(a, a), no, yes)
}
