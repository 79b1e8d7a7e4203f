//! AVX-512F: 128 rows a panel.

use std::arch::x86_64::*;

use super::super::slices::Value;
use super::tiles::{AHEAD, CACHE_LINE, PART, Panel, dense_panel};
use crate::isa::avx512::{
    LANES, Vector, activate, add, fma, load, load_tail, prefetch, splat, store, store_tail, tail,
};

dense_panel!("avx512f", 6 samples together);

/// # Safety
/// A vector of values is readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) } else { load(at.cast()) }
    }
}
