//! The lower halves of AVX2's registers: 4 lanes, for vectors that have no more.

use std::arch::x86_64::*;

use crate::Activation;

pub(crate) const LANES: usize = 4;
pub(crate) type Vector = __m128;
pub(crate) type Tail = __m128i;

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn splat(value: f32) -> Vector {
    _mm_set1_ps(value)
}

/// # Safety
/// Four elements are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm_loadu_ps(at) }
}

/// # Safety
/// Four elements are writable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract.
    unsafe { _mm_storeu_ps(at, vector) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn tail(lanes: usize) -> Tail {
    _mm_cmpgt_epi32(_mm_set1_epi32(lanes as i32), _mm_setr_epi32(0, 1, 2, 3))
}

/// # Safety
/// The lanes of `tail` are readable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load_tail(at: *const f32, tail: Tail) -> Vector {
    // SAFETY: by this function's contract; a masked load does not access masked-out lanes.
    unsafe { _mm_maskload_ps(at, tail) }
}

/// # Safety
/// The lanes of `tail` are writable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn store_tail(at: *mut f32, tail: Tail, vector: Vector) {
    // SAFETY: by this function's contract; a masked store does not access masked-out lanes.
    unsafe { _mm_maskstore_ps(at, tail, vector) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add(a: Vector, b: Vector) -> Vector {
    _mm_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn fma(a: Vector, b: Vector, sum: Vector) -> Vector {
    _mm_fmadd_ps(a, b, sum)
}

/// `max`/`min` return their second operand for NaN, so the data stands second and NaN is kept.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn activate(x: Vector, activation: Activation) -> Vector {
    match activation {
        Activation::None => x,
        Activation::Relu => _mm_max_ps(_mm_setzero_ps(), x),
        Activation::Clip { min, max } => _mm_min_ps(splat(max), _mm_max_ps(splat(min), x)),
        Activation::HardSwish => {
            let gate = _mm_add_ps(_mm_mul_ps(x, splat(1.0 / 6.0)), splat(0.5));
            _mm_mul_ps(x, _mm_min_ps(splat(1.0), _mm_max_ps(_mm_setzero_ps(), gate)))
        }
    }
}

/// For every index from 0 to 15 that element of `table`, for a negative one 0.
///
/// # Safety
/// Sixteen numbers are readable at `table` and eight indices at `index`, of which the first four count.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn lookup(table: *const f32, index: *const i32) -> Vector {
    // SAFETY: by this function's contract.
    _mm256_castps256_ps128(unsafe { super::avx2::lookup(table, index) })
}

/// Four signed bytes as numbers.
///
/// # Safety
/// Four bytes are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load_bytes(at: *const i8) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(at.cast::<i32>().read_unaligned()))) }
}
