//! AVX2 + FMA: one gather and one multiply-add per step of eight rows.

use std::arch::x86_64::*;

use super::LANES;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// # Safety
/// The CPU has AVX2 and FMA, every column is below `x.len()`, `columns` and `values` are equally long.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn steps(columns: &[[u32; LANES]], values: &[[f32; LANES]], x: &[f32], sums: &mut [f32; LANES]) {
    // SAFETY: `sums` holds eight elements; each `columns[step]` and `values[step]` too; the gather reads `x` at
    // columns below `x.len()` (this function's contract), which `SparseLinear::prepare` holds below 2^31.
    unsafe {
        let mut sum = _mm256_loadu_ps(sums.as_ptr());
        for (columns, values) in columns.iter().zip(values) {
            let columns = _mm256_loadu_si256(columns.as_ptr().cast());
            let x = _mm256_i32gather_ps::<4>(x.as_ptr(), columns);
            sum = _mm256_fmadd_ps(_mm256_loadu_ps(values.as_ptr()), x, sum);
        }
        _mm256_storeu_ps(sums.as_mut_ptr(), sum);
    }
}
