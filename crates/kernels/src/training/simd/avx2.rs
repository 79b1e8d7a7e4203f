//! AVX2 and FMA: comparisons give vectors of ones and zeros.

use std::arch::x86_64::*;

super::simd!("AVX2", avx2, 8 tile, "avx2,fma");

#[inline]
#[target_feature(enable = "avx2,fma")]
fn pick(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
    _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn pick_nan(a: __m256, yes: __m256, no: __m256) -> __m256 {
    _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
}
