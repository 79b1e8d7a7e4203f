//! Portable products of bytes.

use crate::isa::scalar::*;

type Sum = [i32; LANES];
type Pixels = [[i8; 4]; LANES];
type Four = [[i8; 4]; 4];

#[inline(always)]
fn none() -> Sum {
    [0; LANES]
}

#[inline(always)]
fn no_pixels() -> Pixels {
    [[0; 4]; LANES]
}

/// # Safety
/// `LANES` words are readable at `at`.
#[inline(always)]
unsafe fn pixels(at: *const u32) -> Pixels {
    // SAFETY: by this function's contract; bytes have no alignment.
    unsafe { at.cast::<Pixels>().read() }
}

/// # Safety
/// Four words are readable at `at`.
#[inline(always)]
unsafe fn four(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    unsafe { at.cast::<Four>().read() }
}

/// # Safety
/// One word is readable at `at`.
#[inline(always)]
unsafe fn one(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    [unsafe { at.cast::<[i8; 4]>().read() }; 4]
}

#[inline(always)]
fn dot<const N: i32>(sum: Sum, pixels: Pixels, four: Four) -> Sum {
    let products =
        |lane: usize| (0..4).map(|i| i32::from(pixels[lane][i]) * i32::from(four[N as usize][i])).sum::<i32>();
    std::array::from_fn(|lane| sum[lane] + products(lane))
}

#[inline(always)]
fn number(sum: Sum, correction: i32) -> Vector {
    sum.map(|sum| (sum + correction) as f32)
}

/// Bounds of `numbers` and of what `bounds` has seen.
///
/// # Safety
/// The CPU has the features.
pub(super) unsafe fn widen(numbers: &[f32], bounds: super::Bounds) -> super::Bounds {
    super::quantise::widen(numbers, bounds)
}

/// Rounds four rows of numbers to words.
///
/// # Safety
/// The CPU has the features.
pub(super) unsafe fn words(rounding: &super::Rounding, rows: [&[f32]; 4], to: &mut [u32]) {
    super::quantise::words(rounding, rows, to);
}

super::tiles::int8_tiles!([4: 1; 1: 1 2;]);
