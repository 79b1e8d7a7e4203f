//! AVX-512F: comparisons give masks.

use std::arch::x86_64::*;

super::simd!("AVX-512", avx512, 8 tile, "avx512f");

#[inline]
#[target_feature(enable = "avx512f")]
fn pick(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pick_nan(a: __m512, yes: __m512, no: __m512) -> __m512 {
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), no, yes)
}
