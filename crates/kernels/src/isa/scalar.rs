//! Portable: arrays of 8, which the compiler turns into whatever vectors the target has.
//!
//! Multiply-adds round twice, as targets without FMA do it.

use crate::Activation;

pub(crate) const LANES: usize = 8;
pub(crate) type Vector = [f32; LANES];
pub(crate) type Tail = usize;

#[inline(always)]
pub(crate) fn splat(value: f32) -> Vector {
    [value; LANES]
}

/// Whether four weights at once are faster than one by one even where they are numbers: there is nothing to choose from.
pub(crate) const FOUR_AT_ONCE: bool = false;
/// Rows that are copied at once.
pub(crate) const ROWS_AT_ONCE: usize = 1;

/// Four numbers.
pub(crate) type Four = [f32; 4];

/// # Safety
/// Four elements are readable at `at`.
#[inline(always)]
pub(crate) unsafe fn four_numbers(at: *const f32) -> Four {
    // SAFETY: by this function's contract; an array of f32 has the alignment of f32.
    unsafe { at.cast::<Four>().read() }
}

/// # Safety
/// Four bytes are readable at `at`.
#[inline(always)]
pub(crate) unsafe fn four_bytes(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    unsafe { at.cast::<[i8; 4]>().read() }.map(f32::from)
}

/// Number `N` of the four in all lanes.
#[inline(always)]
pub(crate) fn splat_nth<const N: i32>(four: Four) -> Vector {
    splat(four[N as usize])
}

/// # Safety
/// Eight elements are readable at `at`.
#[inline(always)]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract; an array of f32 has the alignment of f32.
    unsafe { at.cast::<Vector>().read() }
}

/// # Safety
/// Eight elements are writable at `at`.
#[inline(always)]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract; an array of f32 has the alignment of f32.
    unsafe { at.cast::<Vector>().write(vector) }
}

#[inline(always)]
pub(crate) fn tail(lanes: usize) -> Tail {
    lanes
}

/// # Safety
/// The first `tail` (1 to 8) elements are readable at `at`; the others are not touched.
#[inline(always)]
pub(crate) unsafe fn load_tail(at: *const f32, tail: Tail) -> Vector {
    // SAFETY: lane `i` is read only where `i < tail`, which this function's contract allows.
    std::array::from_fn(|i| if i < tail { unsafe { at.add(i).read() } } else { 0.0 })
}

/// # Safety
/// The first `tail` (1 to 8) elements are writable at `at`; the others are not touched.
#[inline(always)]
pub(crate) unsafe fn store_tail(at: *mut f32, tail: Tail, vector: Vector) {
    for (i, value) in vector.into_iter().enumerate().take(tail) {
        // SAFETY: lane `i` is written only where `i < tail`, which this function's contract allows.
        unsafe { at.add(i).write(value) }
    }
}

#[inline(always)]
pub(crate) fn add(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
pub(crate) fn mul(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] * b[i])
}

/// `a` where `a > b`, else `b`: NaN in `b` is kept, NaN in `a` is not.
#[inline(always)]
pub(crate) fn max(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
}

#[inline(always)]
pub(crate) fn fma(a: Vector, b: Vector, sum: Vector) -> Vector {
    std::array::from_fn(|i| sum[i] + a[i] * b[i])
}

/// The even and the odd elements of `a` followed by `b`.
#[inline(always)]
pub(crate) fn deinterleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let at = |i: usize| if i < LANES { a[i] } else { b[i - LANES] };
    (std::array::from_fn(|i| at(2 * i)), std::array::from_fn(|i| at(2 * i + 1)))
}

/// `a[0], b[0], a[1], b[1], ...`, two vectors.
#[inline(always)]
pub(crate) fn interleave(a: Vector, b: Vector) -> (Vector, Vector) {
    let at = |i: usize| if i.is_multiple_of(2) { a[i / 2] } else { b[i / 2] };
    (std::array::from_fn(at), std::array::from_fn(|i| at(LANES + i)))
}

#[inline(always)]
pub(crate) fn activate(x: Vector, activation: Activation) -> Vector {
    x.map(|x| activation.apply(x))
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
    std::array::from_fn(|i| if 2 * i < LANES { a[2 * i] } else { b[2 * i - LANES] })
}

/// Lanes `from..to` are written.
///
/// # Safety
/// The elements `at + from .. at + to` are writable; the others are not touched.
#[inline(always)]
pub(crate) unsafe fn store_window(at: *mut f32, from: usize, to: usize, vector: Vector) {
    for (lane, value) in vector.into_iter().enumerate().take(to).skip(from) {
        // SAFETY: by this function's contract, since `from <= lane < to`.
        unsafe { at.wrapping_add(lane).write(value) };
    }
}

/// Asks for the cache line of `at`; there is no portable way.
#[inline(always)]
pub(crate) fn prefetch<T>(_: *const T) {}

/// For every index from 0 to 15 that element of `table`, for a negative one 0.
///
/// # Safety
/// Sixteen numbers are readable at `table` and eight indices at `index`.
#[inline(always)]
pub(crate) unsafe fn lookup(table: *const f32, index: *const i32) -> Vector {
    std::array::from_fn(|lane| {
        // SAFETY: by this function's contract.
        let at = unsafe { index.add(lane).read() };
        // SAFETY: as above.
        if at < 0 { 0.0 } else { unsafe { table.add(at as usize).read() } }
    })
}

/// Signed bytes as numbers.
///
/// # Safety
/// `LANES` bytes are readable at `at`.
#[inline(always)]
pub(crate) unsafe fn load_bytes(at: *const i8) -> Vector {
    // SAFETY: by this function's contract.
    std::array::from_fn(|lane| f32::from(unsafe { at.add(lane).read() }))
}
