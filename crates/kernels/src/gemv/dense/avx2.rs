//! AVX2 + FMA: 64 rows a panel.

use std::arch::x86_64::*;

use super::super::slices::Value;
use super::tiles::{AHEAD, CACHE_LINE, PART, Panel, dense_panel};
use crate::isa::avx2::{LANES, Vector, activate, add, fma, load, load_tail, prefetch, splat, store, store_tail, tail};

dense_panel!("avx2,fma", 3 samples together);

/// # Safety
/// A vector of values is readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) } else { load(at.cast()) }
    }
}
