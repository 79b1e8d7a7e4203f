//! NEON (aarch64): eight lane loads and two multiply-adds per step of eight rows.

use std::arch::aarch64::*;

use super::LANES;

pub(super) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// # Safety
/// The CPU has NEON, every column is below `x.len()`, `columns` and `values` are equally long.
#[target_feature(enable = "neon")]
pub(super) unsafe fn steps(columns: &[[u32; LANES]], values: &[[f32; LANES]], x: &[f32], sums: &mut [f32; LANES]) {
    // SAFETY: `sums` and each `values[step]` hold eight elements, read and written as two times four; lane loads
    // read `x` at columns below `x.len()` (this function's contract).
    unsafe {
        let mut low = vld1q_f32(sums.as_ptr());
        let mut high = vld1q_f32(sums.as_ptr().add(4));
        for (columns, values) in columns.iter().zip(values) {
            let x = |lane: usize| x.as_ptr().add(columns[lane] as usize);
            let first = vld1q_lane_f32::<1>(x(1), vld1q_dup_f32(x(0)));
            let first = vld1q_lane_f32::<3>(x(3), vld1q_lane_f32::<2>(x(2), first));
            let second = vld1q_lane_f32::<1>(x(5), vld1q_dup_f32(x(4)));
            let second = vld1q_lane_f32::<3>(x(7), vld1q_lane_f32::<2>(x(6), second));
            low = vfmaq_f32(low, vld1q_f32(values.as_ptr()), first);
            high = vfmaq_f32(high, vld1q_f32(values.as_ptr().add(4)), second);
        }
        vst1q_f32(sums.as_mut_ptr(), low);
        vst1q_f32(sums.as_mut_ptr().add(4), high);
    }
}
