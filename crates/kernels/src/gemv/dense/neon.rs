//! NEON (aarch64): 32 rows a panel.

use std::arch::aarch64::*;

use super::super::slices::Value;
use super::tiles::{AHEAD, CACHE_LINE, PART, Panel, dense_panel};
use crate::isa::neon::{LANES, Vector, activate, add, fma, load, load_tail, prefetch, splat, store, store_tail, tail};

dense_panel!("neon", 6 samples together);

/// # Safety
/// A vector of values is readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract; a value that is scaled is an i8, any other an f32.
    unsafe {
        if T::SCALED {
            let four = vcreate_s8(u64::from(at.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
        } else {
            load(at.cast())
        }
    }
}
