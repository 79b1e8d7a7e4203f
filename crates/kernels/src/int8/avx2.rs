//! Products of bytes as products of 16 bits: AVX2 has none of signed bytes.

use std::arch::x86_64::*;

use crate::isa::avx2::*;

/// Two halves of the sum of every pixel, pixels 0 to 3 and 4 to 7.
type Sum = [__m256i; 2];
/// Channels as 16 bits, of pixels 0 to 3 and 4 to 7.
type Pixels = [__m256i; 2];
/// Weights as 16 bits, of four outputs.
type Four = __m256i;

#[inline]
#[target_feature(enable = "avx2,fma")]
fn none() -> Sum {
    [_mm256_setzero_si256(); 2]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn no_pixels() -> Pixels {
    [_mm256_setzero_si256(); 2]
}

/// # Safety
/// `LANES` words are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn pixels(at: *const u32) -> Pixels {
    // SAFETY: by this function's contract.
    unsafe {
        [_mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())), _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(4).cast()))]
    }
}

/// # Safety
/// Four words are readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn four(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(at.cast()) })
}

/// # Safety
/// One word is readable at `at`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn one(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    _mm256_cvtepi8_epi16(_mm_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() }))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot<const N: i32>(sum: Sum, pixels: Pixels, four: Four) -> Sum {
    let weight = match N {
        0 => _mm256_permute4x64_epi64::<0x00>(four),
        1 => _mm256_permute4x64_epi64::<0x55>(four),
        2 => _mm256_permute4x64_epi64::<0xaa>(four),
        _ => _mm256_permute4x64_epi64::<0xff>(four),
    };
    [
        _mm256_add_epi32(sum[0], _mm256_madd_epi16(pixels[0], weight)),
        _mm256_add_epi32(sum[1], _mm256_madd_epi16(pixels[1], weight)),
    ]
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn number(sum: Sum, correction: i32) -> Vector {
    // pixels 0, 1, 4, 5 and 2, 3, 6, 7
    let whole = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sum[0], sum[1]));
    _mm256_cvtepi32_ps(_mm256_add_epi32(whole, _mm256_set1_epi32(correction)))
}

/// Bounds of `numbers` and of what `bounds` has seen.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn widen(numbers: &[f32], mut bounds: super::Bounds) -> super::Bounds {
    let (eights, rest) = numbers.as_chunks::<8>();
    // SAFETY: both arrays of `bounds`, and every chunk, have eight elements of 32 bits.
    unsafe {
        let mut high = _mm256_loadu_si256(bounds.high.as_ptr().cast());
        let mut low = _mm256_loadu_si256(bounds.low.as_ptr().cast());
        for eight in eights {
            let bits = _mm256_loadu_si256(eight.as_ptr().cast());
            high = _mm256_max_epi32(high, bits);
            low = _mm256_max_epu32(low, bits);
        }
        _mm256_storeu_si256(bounds.high.as_mut_ptr().cast(), high);
        _mm256_storeu_si256(bounds.low.as_mut_ptr().cast(), low);
    }
    super::quantise::widen(rest, bounds)
}

/// Rounds four rows of numbers to words.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn words(rounding: &super::Rounding, rows: [&[f32]; 4], to: &mut [u32]) {
    super::quantise::words(rounding, rows, to);
}

super::tiles::int8_tiles!(#[target_feature(enable = "avx2,fma")] [4: 1; 1: 1 2 3;]);
