//! AVX-512F + BMI2: 16 lanes, 32 registers; partial vectors through masked loads and stores.

use std::arch::x86_64::*;

use crate::Activation;

pub(crate) const LANES: usize = 16;
pub(crate) type Vector = __m512;
pub(crate) type Tail = __mmask16;

pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("bmi2")
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn splat(value: f32) -> Vector {
    _mm512_set1_ps(value)
}

/// Whether four weights at once are faster than one by one even where they are numbers: a broadcast from memory costs nothing.
pub(crate) const FOUR_AT_ONCE: bool = false;
/// Rows that are copied at once.
pub(crate) const ROWS_AT_ONCE: usize = 1;

/// Four numbers, in each quarter.
pub(crate) type Four = __m512;

/// # Safety
/// Four elements are readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn four_numbers(at: *const f32) -> Four {
    // SAFETY: by this function's contract.
    let four = unsafe { _mm_loadu_ps(at) };
    _mm512_broadcast_f32x4(four)
}

/// # Safety
/// Four bytes are readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn four_bytes(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    let bytes = _mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() });
    _mm512_broadcast_f32x4(_mm_cvtepi32_ps(_mm_cvtepi8_epi32(bytes)))
}

/// Number `N` of the four in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn splat_nth<const N: i32>(four: Four) -> Vector {
    match N {
        0 => _mm512_permute_ps::<0x00>(four),
        1 => _mm512_permute_ps::<0x55>(four),
        2 => _mm512_permute_ps::<0xaa>(four),
        _ => _mm512_permute_ps::<0xff>(four),
    }
}

/// # Safety
/// Sixteen elements are readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm512_loadu_ps(at) }
}

/// # Safety
/// Sixteen elements are writable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract.
    unsafe { _mm512_storeu_ps(at, vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn tail(lanes: usize) -> Tail {
    ((1u32 << lanes) - 1) as Tail
}

/// # Safety
/// The lanes of `tail` are readable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn load_tail(at: *const f32, tail: Tail) -> Vector {
    // SAFETY: by this function's contract; a masked load does not access masked-out lanes.
    unsafe { _mm512_maskz_loadu_ps(tail, at) }
}

/// # Safety
/// The lanes of `tail` are writable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn store_tail(at: *mut f32, tail: Tail, vector: Vector) {
    // SAFETY: by this function's contract; a masked store does not access masked-out lanes.
    unsafe { _mm512_mask_storeu_ps(at, tail, vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn mul(a: Vector, b: Vector) -> Vector {
    _mm512_mul_ps(a, b)
}

/// `a` where `a > b`, else `b`: NaN in `b` is kept, NaN in `a` is not.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn max(a: Vector, b: Vector) -> Vector {
    _mm512_max_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn fma(a: Vector, b: Vector, sum: Vector) -> Vector {
    _mm512_fmadd_ps(a, b, sum)
}

/// The even and the odd elements of `a` followed by `b`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn deinterleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
}

/// `a[0], b[0], a[1], b[1], ...`, two vectors.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn interleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
}

/// `max`/`min` return their second operand for NaN, so the data stands second and NaN is kept.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn activate(x: Vector, activation: Activation) -> Vector {
    match activation {
        Activation::None => x,
        Activation::Relu => _mm512_max_ps(_mm512_setzero_ps(), x),
        Activation::Clip { min, max } => _mm512_min_ps(splat(max), _mm512_max_ps(splat(min), x)),
        Activation::HardSwish => {
            let gate = _mm512_add_ps(_mm512_mul_ps(x, splat(1.0 / 6.0)), splat(0.5));
            _mm512_mul_ps(x, _mm512_min_ps(splat(1.0), _mm512_max_ps(_mm512_setzero_ps(), gate)))
        }
    }
}

/// Lanes `from..to` are read, the others are 0.
///
/// # Safety
/// The elements `at + from .. at + to` are readable; the others are not touched.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn load_window(at: *const f32, from: usize, to: usize) -> Vector {
    let mask = ((1u32 << to) - (1u32 << from)) as Tail;
    // SAFETY: by this function's contract; a masked load does not access masked-out lanes.
    unsafe { _mm512_maskz_loadu_ps(mask, at) }
}

/// Elements 0, 2, 4, ... of `a` followed by `b`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn evens(a: Vector, b: Vector) -> Vector {
    _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b)
}

/// Lanes `from..to` are written.
///
/// # Safety
/// The elements `at + from .. at + to` are writable; the others are not touched.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn store_window(at: *mut f32, from: usize, to: usize, vector: Vector) {
    let mask = ((1u32 << to) - (1u32 << from)) as Tail;
    // SAFETY: by this function's contract; a masked store does not access masked-out lanes.
    unsafe { _mm512_mask_storeu_ps(at, mask, vector) }
}

/// Asks for the cache line of `at`, which need not exist.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn prefetch<T>(at: *const T) {
    _mm_prefetch::<_MM_HINT_T0>(at.cast());
}

/// For every index from 0 to 15 that element of `table`, for a negative one 0.
///
/// # Safety
/// Sixteen numbers are readable at `table` and sixteen indices at `index`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn lookup(table: *const f32, index: *const i32) -> Vector {
    // SAFETY: by this function's contract.
    let (table, index) = unsafe { (_mm512_loadu_ps(table), _mm512_loadu_si512(index.cast())) };
    let inside = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
    _mm512_maskz_permutexvar_ps(inside, index, table)
}

/// Sixteen signed bytes as numbers.
///
/// # Safety
/// Sixteen bytes are readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn load_bytes(at: *const i8) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
}
