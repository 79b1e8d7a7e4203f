//! NEON of ARMv7: whether the processor has it, and arrays of four for what is not C.
//!
//! What is in C computes on four lanes; copies are made in Rust, for which the general registers do.

pub(crate) const LANES: usize = 4;
pub(crate) type Vector = [f32; LANES];
/// Rows that are copied at once.
pub(crate) const ROWS_AT_ONCE: usize = 1;

/// What the kernel says of the processor: `AT_HWCAP`, of which bit 12 is NEON.
const AT_HWCAP: std::ffi::c_ulong = 16;
const NEON: std::ffi::c_ulong = 1 << 12;

unsafe extern "C" {
    /// An entry of what the kernel hands to every program; 0 where there is no such entry.
    safe fn getauxval(entry: std::ffi::c_ulong) -> std::ffi::c_ulong;
}

pub(crate) fn available() -> bool {
    getauxval(AT_HWCAP) & NEON != 0
}

#[inline(always)]
pub(crate) fn splat(value: f32) -> Vector {
    [value; LANES]
}

/// # Safety
/// Four elements are readable at `at`.
#[inline(always)]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract; an array of f32 has the alignment of f32.
    unsafe { at.cast::<Vector>().read() }
}

/// # Safety
/// Four elements are writable at `at`.
#[inline(always)]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract; an array of f32 has the alignment of f32.
    unsafe { at.cast::<Vector>().write(vector) }
}

/// Lanes `from..to` are read, the others are 0.
///
/// # Safety
/// The elements `at + from .. at + to` are readable; the others are not touched.
#[inline(always)]
pub(crate) unsafe fn load_window(at: *const f32, from: usize, to: usize) -> Vector {
    // SAFETY: by this function's contract, since only lanes `from..to` are read.
    std::array::from_fn(|i| if i >= from && i < to { unsafe { at.wrapping_add(i).read() } } else { 0.0 })
}

/// Elements 0, 2, 4, ... of `a` followed by `b`.
#[inline(always)]
pub(crate) fn evens(a: Vector, b: Vector) -> Vector {
    [a[0], a[2], b[0], b[2]]
}
