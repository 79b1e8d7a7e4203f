//! AVX2 + FMA + BMI2: 8 lanes, 16 registers; partial vectors through masked loads and stores.

use std::arch::x86_64::*;

use crate::Activation;

pub(crate) const LANES: usize = 8;
pub(crate) type Vector = __m256;
pub(crate) type Tail = __m256i;

pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2")
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn splat(value: f32) -> Vector {
    _mm256_set1_ps(value)
}

/// Whether four weights at once are faster than one by one even where they are numbers: a broadcast from memory costs nothing.
pub(crate) const FOUR_AT_ONCE: bool = false;
/// Rows that are copied at once.
pub(crate) const ROWS_AT_ONCE: usize = 1;

/// Four numbers, in each half.
pub(crate) type Four = __m256;

/// # Safety
/// Four elements are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn four_numbers(at: *const f32) -> Four {
    // SAFETY: by this function's contract.
    let four = unsafe { _mm_loadu_ps(at) };
    _mm256_set_m128(four, four)
}

/// # Safety
/// Four bytes are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn four_bytes(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    let bytes = _mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() });
    let four = _mm_cvtepi32_ps(_mm_cvtepi8_epi32(bytes));
    _mm256_set_m128(four, four)
}

/// Number `N` of the four in all lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn splat_nth<const N: i32>(four: Four) -> Vector {
    match N {
        0 => _mm256_permute_ps::<0x00>(four),
        1 => _mm256_permute_ps::<0x55>(four),
        2 => _mm256_permute_ps::<0xaa>(four),
        _ => _mm256_permute_ps::<0xff>(four),
    }
}

/// # Safety
/// Eight elements are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm256_loadu_ps(at) }
}

/// # Safety
/// Eight elements are writable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract.
    unsafe { _mm256_storeu_ps(at, vector) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn tail(lanes: usize) -> Tail {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// # Safety
/// The lanes of `tail` are readable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load_tail(at: *const f32, tail: Tail) -> Vector {
    // SAFETY: by this function's contract; a masked load does not access masked-out lanes.
    unsafe { _mm256_maskload_ps(at, tail) }
}

/// # Safety
/// The lanes of `tail` are writable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn store_tail(at: *mut f32, tail: Tail, vector: Vector) {
    // SAFETY: by this function's contract; a masked store does not access masked-out lanes.
    unsafe { _mm256_maskstore_ps(at, tail, vector) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn mul(a: Vector, b: Vector) -> Vector {
    _mm256_mul_ps(a, b)
}

/// `a` where `a > b`, else `b`: NaN in `b` is kept, NaN in `a` is not.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn max(a: Vector, b: Vector) -> Vector {
    _mm256_max_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn fma(a: Vector, b: Vector, sum: Vector) -> Vector {
    _mm256_fmadd_ps(a, b, sum)
}

/// The even and the odd elements of `a` followed by `b`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn deinterleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let in_order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
    (in_order(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)), in_order(_mm256_shuffle_ps::<0b11_01_11_01>(a, b)))
}

/// `a[0], b[0], a[1], b[1], ...`, two vectors.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn interleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
}

/// `max`/`min` return their second operand for NaN, so the data stands second and NaN is kept.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn activate(x: Vector, activation: Activation) -> Vector {
    match activation {
        Activation::None => x,
        Activation::Relu => _mm256_max_ps(_mm256_setzero_ps(), x),
        Activation::Clip { min, max } => _mm256_min_ps(splat(max), _mm256_max_ps(splat(min), x)),
        Activation::HardSwish => {
            let gate = _mm256_add_ps(_mm256_mul_ps(x, splat(1.0 / 6.0)), splat(0.5));
            _mm256_mul_ps(x, _mm256_min_ps(splat(1.0), _mm256_max_ps(_mm256_setzero_ps(), gate)))
        }
    }
}

/// Lanes `from..to` are read, the others are 0.
///
/// # Safety
/// The elements `at + from .. at + to` are readable; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load_window(at: *const f32, from: usize, to: usize) -> Vector {
    // SAFETY: by this function's contract; a masked load does not access masked-out lanes.
    unsafe { _mm256_maskload_ps(at, window(from, to)) }
}

/// All bits of the lanes `from..to`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn window(from: usize, to: usize) -> Tail {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(to as i32), lanes);
    _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from as i32), lanes), below)
}

/// Elements 0, 2, 4, ... of `a` followed by `b`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn evens(a: Vector, b: Vector) -> Vector {
    let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
    _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
}

/// Lanes `from..to` are written.
///
/// # Safety
/// The elements `at + from .. at + to` are writable; the others are not touched.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn store_window(at: *mut f32, from: usize, to: usize, vector: Vector) {
    // SAFETY: by this function's contract; a masked store does not access masked-out lanes.
    unsafe { _mm256_maskstore_ps(at, window(from, to), vector) }
}

/// Asks for the cache line of `at`, which need not exist.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn prefetch<T>(at: *const T) {
    _mm_prefetch::<_MM_HINT_T0>(at.cast());
}

/// For every index from 0 to 15 that element of `table`, for a negative one 0.
///
/// # Safety
/// Sixteen numbers are readable at `table` and eight indices at `index`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn lookup(table: *const f32, index: *const i32) -> Vector {
    // SAFETY: by this function's contract.
    let (low, high, index) =
        unsafe { (_mm256_loadu_ps(table), _mm256_loadu_ps(table.add(8)), _mm256_loadu_si256(index.cast())) };
    let (low, high) = (_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index));
    // bit 3 says which half, the sign that there is none
    let picked = _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)));
    _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32::<31>(index)), picked)
}

/// Eight signed bytes as numbers.
///
/// # Safety
/// Eight bytes are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn load_bytes(at: *const i8) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) }
}
