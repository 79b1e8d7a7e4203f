//! Portable: 64 rows a panel.

use super::super::slices::Value;
use super::tiles::{AHEAD, CACHE_LINE, PART, Panel, dense_panel};
use crate::isa::scalar::{
    LANES, Vector, activate, add, fma, load, load_tail, prefetch, splat, store, store_tail, tail,
};

dense_panel!(, 4 samples together);

/// # Safety
/// A vector of values is readable at `at`.
#[inline]
unsafe fn numbers<T: Value>(at: *const T) -> Vector {
    // SAFETY: by this function's contract.
    std::array::from_fn(|lane| unsafe { at.add(lane).read().number() })
}
