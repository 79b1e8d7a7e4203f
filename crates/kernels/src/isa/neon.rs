//! NEON (aarch64): 4 lanes, 32 registers; partial vectors lane by lane.

use std::arch::aarch64::*;

use crate::Activation;

pub(crate) const LANES: usize = 4;
pub(crate) type Vector = float32x4_t;
pub(crate) type Tail = usize;

pub(crate) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn splat(value: f32) -> Vector {
    vdupq_n_f32(value)
}

/// Whether four weights at once are faster than one by one even where they are numbers: `fmla` takes any lane of a register as its factor.
pub(crate) const FOUR_AT_ONCE: bool = true;
/// Rows that are copied at once.
pub(crate) const ROWS_AT_ONCE: usize = 4;

/// Four numbers.
pub(crate) type Four = float32x4_t;

/// # Safety
/// Four elements are readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn four_numbers(at: *const f32) -> Four {
    // SAFETY: by this function's contract.
    unsafe { vld1q_f32(at) }
}

/// # Safety
/// Four bytes are readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn four_bytes(at: *const i8) -> Four {
    // SAFETY: by this function's contract.
    let bytes = vcreate_s8(u64::from(unsafe { at.cast::<u32>().read_unaligned() }));
    vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
}

/// Number `N` of the four in all lanes.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn splat_nth<const N: i32>(four: Four) -> Vector {
    vdupq_laneq_f32::<N>(four)
}

/// # Safety
/// Four elements are readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load(at: *const f32) -> Vector {
    // SAFETY: by this function's contract.
    unsafe { vld1q_f32(at) }
}

/// # Safety
/// Four elements are writable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn store(at: *mut f32, vector: Vector) {
    // SAFETY: by this function's contract.
    unsafe { vst1q_f32(at, vector) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn tail(lanes: usize) -> Tail {
    lanes
}

/// # Safety
/// The first `tail` (1 to 4) elements are readable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_tail(at: *const f32, tail: Tail) -> Vector {
    // SAFETY: lane `i` is read only where `i < tail`, which this function's contract allows.
    unsafe {
        let mut vector = vld1q_lane_f32::<0>(at, vdupq_n_f32(0.0));
        if tail > 1 {
            vector = vld1q_lane_f32::<1>(at.add(1), vector);
        }
        if tail > 2 {
            vector = vld1q_lane_f32::<2>(at.add(2), vector);
        }
        if tail > 3 {
            vector = vld1q_lane_f32::<3>(at.add(3), vector);
        }
        vector
    }
}

/// # Safety
/// The first `tail` (1 to 4) elements are writable at `at`; the others are not touched.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn store_tail(at: *mut f32, tail: Tail, vector: Vector) {
    // SAFETY: lane `i` is written only where `i < tail`, which this function's contract allows.
    unsafe {
        vst1q_lane_f32::<0>(at, vector);
        if tail > 1 {
            vst1q_lane_f32::<1>(at.add(1), vector);
        }
        if tail > 2 {
            vst1q_lane_f32::<2>(at.add(2), vector);
        }
        if tail > 3 {
            vst1q_lane_f32::<3>(at.add(3), vector);
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn add(a: Vector, b: Vector) -> Vector {
    vaddq_f32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn mul(a: Vector, b: Vector) -> Vector {
    vmulq_f32(a, b)
}

/// `a` where `a > b`, else `b`: NaN in `b` is kept, NaN in `a` is not.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn max(a: Vector, b: Vector) -> Vector {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn fma(a: Vector, b: Vector, sum: Vector) -> Vector {
    vfmaq_f32(sum, a, b)
}

/// The even and the odd elements of `a` followed by `b`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn deinterleave(a: Vector, b: Vector) -> (Vector, Vector) {
    (vuzp1q_f32(a, b), vuzp2q_f32(a, b))
}

/// `a[0], b[0], a[1], b[1], ...`, two vectors.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn interleave(a: Vector, b: Vector) -> (Vector, Vector) {
    (vzip1q_f32(a, b), vzip2q_f32(a, b))
}

/// `fmax`/`fmin` of aarch64 return NaN when either operand is NaN.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn activate(x: Vector, activation: Activation) -> Vector {
    match activation {
        Activation::None => x,
        Activation::Relu => vmaxq_f32(splat(0.0), x),
        Activation::Clip { min, max } => vminq_f32(splat(max), vmaxq_f32(splat(min), x)),
        Activation::HardSwish => {
            let gate = vaddq_f32(vmulq_f32(x, splat(1.0 / 6.0)), splat(0.5));
            vmulq_f32(x, vminq_f32(splat(1.0), vmaxq_f32(splat(0.0), gate)))
        }
    }
}

/// Lanes `from..to` are read, the others are 0.
///
/// # Safety
/// The elements `at + from .. at + to` are readable; the others are not touched.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_window(at: *const f32, from: usize, to: usize) -> Vector {
    let mut vector = vdupq_n_f32(0.0);
    // SAFETY: lane `i` is read only where `from <= i < to`, which this function's contract allows.
    unsafe {
        if from == 0 && to > 0 {
            vector = vld1q_lane_f32::<0>(at, vector);
        }
        if from <= 1 && to > 1 {
            vector = vld1q_lane_f32::<1>(at.wrapping_add(1), vector);
        }
        if from <= 2 && to > 2 {
            vector = vld1q_lane_f32::<2>(at.wrapping_add(2), vector);
        }
        if from <= 3 && to > 3 {
            vector = vld1q_lane_f32::<3>(at.wrapping_add(3), vector);
        }
    }
    vector
}

/// Elements 0, 2, 4, ... of `a` followed by `b`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn evens(a: Vector, b: Vector) -> Vector {
    vuzp1q_f32(a, b)
}

/// Lanes `from..to` are written.
///
/// # Safety
/// The elements `at + from .. at + to` are writable; the others are not touched.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn store_window(at: *mut f32, from: usize, to: usize, vector: Vector) {
    if from == 0 && to == LANES {
        // SAFETY: all lanes are writable by this function's contract.
        return unsafe { store(at, vector) };
    }
    let mut lanes = [0.0; LANES];
    // SAFETY: the array holds four elements.
    unsafe { vst1q_f32(lanes.as_mut_ptr(), vector) };
    for (lane, value) in lanes.into_iter().enumerate().take(to).skip(from) {
        // SAFETY: by this function's contract, since `from <= lane < to`.
        unsafe { at.wrapping_add(lane).write(value) };
    }
}

/// Asks for the cache line of `at`; the intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn prefetch<T>(_: *const T) {}

/// For every index from 0 to 15 that element of `table`, for a negative one 0.
///
/// # Safety
/// Sixteen numbers are readable at `table` and four indices at `index`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn lookup(table: *const f32, index: *const i32) -> Vector {
    // SAFETY: by this function's contract; the array has four elements.
    unsafe {
        let picked: [f32; LANES] = std::array::from_fn(|lane| {
            let at = index.add(lane).read();
            if at < 0 { 0.0 } else { table.add(at as usize).read() }
        });
        vld1q_f32(picked.as_ptr())
    }
}

/// Four signed bytes as numbers.
///
/// # Safety
/// Four bytes are readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_bytes(at: *const i8) -> Vector {
    // SAFETY: by this function's contract.
    unsafe {
        let four = vcreate_s8(u64::from(at.cast::<u32>().read_unaligned()));
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
    }
}
