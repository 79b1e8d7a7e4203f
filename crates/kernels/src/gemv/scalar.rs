//! Portable kernel in safe code: eight independent sums.

use super::LANES;

pub(super) fn steps(columns: &[[u32; LANES]], values: &[[f32; LANES]], x: &[f32], sums: &mut [f32; LANES]) {
    for (columns, values) in columns.iter().zip(values) {
        for lane in 0..LANES {
            sums[lane] += values[lane] * x[columns[lane] as usize];
        }
    }
}
