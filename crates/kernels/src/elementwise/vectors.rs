//! Loops over slices: element by element, and every second element.

use crate::{Activation, Isa};

/// Calls `$function` of the module of instruction set `$isa`, whose presence the caller asserted.
macro_rules! on {
    ($isa:expr, $function:ident($($argument:expr),*)) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::$function($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::$function($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::$function($($argument),*),
            Isa::Scalar => scalar::$function($($argument),*),
            #[allow(unreachable_patterns, reason = "the instruction sets of other architectures")]
            _ => unreachable!("no CPU of this architecture runs it"),
        }
    };
}

/// `y = act(x [+ residual])`; all slices have the length of `y`.
///
/// # Panics
/// When the lengths differ, or this CPU lacks the instructions.
pub(super) fn map(isa: Isa, x: &[f32], residual: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
    assert!(isa.runs_here() && x.len() == y.len() && residual.is_none_or(|residual| residual.len() == y.len()));
    // SAFETY: the line above.
    unsafe { on!(isa, map(x, residual, activation, y)) }
}

/// `y[i] = x[2 * i]`.
///
/// # Panics
/// When `x` is too short, or this CPU lacks the instructions.
pub(super) fn every_second(isa: Isa, x: &[f32], y: &mut [f32]) {
    assert!(isa.runs_here() && x.len() + 1 >= 2 * y.len());
    // SAFETY: the line above.
    unsafe { on!(isa, every_second(x, y)) }
}

macro_rules! elementwise_vectors {
    ($(#[$features:meta])?) => {
        use crate::Activation;

        /// # Safety
        /// The CPU has the features and all slices have the length of `y`.
        $(#[$features])?
        pub(super) unsafe fn map(x: &[f32], residual: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
            // SAFETY: by this function's contract.
            unsafe {
                match activation {
                    // each with its own loop, so that none asks again at every vector
                    Activation::None => each(x, residual, Activation::None, y),
                    Activation::Relu => each(x, residual, Activation::Relu, y),
                    other => each(x, residual, other, y),
                }
            }
        }

        /// # Safety
        /// As for `map`.
        #[inline]
        $(#[$features])?
        unsafe fn each(x: &[f32], residual: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
            let full = y.len() / LANES * LANES;
            // SAFETY: `at` and `lanes` lie inside all slices, by this function's contract.
            unsafe {
                match residual {
                    None => {
                        for at in (0..full).step_by(LANES) {
                            store(y.as_mut_ptr().add(at), activate(load(x.as_ptr().add(at)), activation));
                        }
                    }
                    Some(residual) => {
                        for at in (0..full).step_by(LANES) {
                            let sum = add(load(x.as_ptr().add(at)), load(residual.as_ptr().add(at)));
                            store(y.as_mut_ptr().add(at), activate(sum, activation));
                        }
                    }
                }
                if full < y.len() {
                    let lanes = tail(y.len() - full);
                    let mut sum = load_tail(x.as_ptr().add(full), lanes);
                    if let Some(residual) = residual {
                        sum = add(sum, load_tail(residual.as_ptr().add(full), lanes));
                    }
                    store_tail(y.as_mut_ptr().add(full), lanes, activate(sum, activation));
                }
            }
        }

        /// # Safety
        /// The CPU has the features and `x` at least `2 * y.len() - 1` elements.
        $(#[$features])?
        pub(super) unsafe fn every_second(x: &[f32], y: &mut [f32]) {
            let mut at = 0;
            // The last element read is `2 * at + 2 * LANES - 1`, which need not exist for the last of `y`.
            while at + LANES < y.len() {
                // SAFETY: `2 * at + 2 * LANES <= 2 * y.len() - 2`.
                unsafe {
                    let from = x.as_ptr().add(2 * at);
                    store(y.as_mut_ptr().add(at), deinterleave(load(from), load(from.add(LANES))).0);
                }
                at += LANES;
            }
            for (y, x) in y[at..].iter_mut().zip(x[2 * at..].iter().step_by(2)) {
                *y = *x;
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use crate::isa::avx2::*;
    elementwise_vectors!(#[target_feature(enable = "avx2,fma")]);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use crate::isa::avx512::*;
    elementwise_vectors!(#[target_feature(enable = "avx512f")]);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use crate::isa::neon::*;
    elementwise_vectors!(#[target_feature(enable = "neon")]);
}

mod scalar {
    use crate::isa::scalar::*;
    elementwise_vectors!();
}
