//! AVX-512: tile kernels.

use std::arch::x86_64::*;

use super::lists::{self, Changes};
use crate::isa::avx512::*;

super::tiles::sparse_tiles!(#[target_feature(enable = "avx512f,bmi2")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; 2: 1 2 3 4 5 6 7 8; 3: 1 2 3 4 5; 4: 1 2 3 4; 5: 1 2 3; 6: 1 2; 7: 1 2; 8: 1 2;]);

/// As [`lists::keep`], sixteen at once.
///
/// # Safety
/// As [`lists::keep`]; the CPU has AVX-512.
#[target_feature(enable = "avx512f,bmi2")]
pub(super) unsafe fn keep(
    changes: &Changes,
    codes: &[u32],
    values: &[f32],
    to_codes: *mut u32,
    to_values: *mut f32,
) -> usize {
    let Some((add, inside)) = &changes.few else {
        // SAFETY: by this function's contract.
        return unsafe { lists::keep(changes, codes, values, to_codes, to_values) };
    };
    assert_eq!(codes.len(), values.len(), "a code for every value");
    // SAFETY: 32 numbers.
    let (low, high) =
        unsafe { (_mm512_loadu_si512(add.as_ptr().cast()), _mm512_loadu_si512(add[16..].as_ptr().cast())) };
    let (taps, inside) = (_mm512_set1_epi32(changes.taps as i32), _mm512_set1_epi32(*inside as i32));
    let mut kept = 0;
    for first in (0..codes.len()).step_by(LANES) {
        let lanes = tail((codes.len() - first).min(LANES));
        // SAFETY: `first` is inside and the lanes are; there is room for a vector behind everything that is kept.
        unsafe {
            let code = _mm512_maskz_loadu_epi32(lanes, codes.as_ptr().add(first).cast());
            let value = _mm512_maskz_loadu_ps(lanes, values.as_ptr().add(first));
            let tap = _mm512_and_si512(code, taps);
            let moved = _mm512_add_epi32(code, _mm512_permutex2var_epi32(low, tap, high));
            let bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), tap);
            let stay = _mm512_mask_test_epi32_mask(lanes, bit, inside);
            _mm512_storeu_si512(to_codes.add(kept).cast(), _mm512_maskz_compress_epi32(stay, moved));
            _mm512_storeu_ps(to_values.add(kept), _mm512_maskz_compress_ps(stay, value));
            kept += stay.count_ones() as usize;
        }
    }
    kept
}
