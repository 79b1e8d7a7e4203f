//! Sliding windows over single planes: what depthwise convolutions and pooling share.
//!
//! `y[c, oy, ox] = fold over taps (ky, kx) of x[c, oy * stride + ky * dilation - pad, ox * ...]`.
//!
//! A plane (or a band of its rows, where it is larger than the first-level cache or threads share it) is first copied into scratch memory with
//! its padding, cut into one sub-plane per row and column phase of the stride, so that every tap is a plain contiguous
//! load ([`plan`]). Then tiles of up to [`MOST_ROWS`] output rows, one vector wide, are folded in registers: a vector of
//! input loaded once serves every output row whose window covers it, which leaves a 3x3 kernel about one load
//! for two multiply-adds ([`fold`]). Without that sharing loads are the bottleneck, since two of three cross cache lines.

mod copy;
mod fold;
mod plan;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use crate::isa::avx2::*;
    super::copy::window_copy!(#[target_feature(enable = "avx2,fma")]);
    super::fold::window_fold!(#[target_feature(enable = "avx2,fma")]);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use crate::isa::avx512::*;
    super::copy::window_copy!(#[target_feature(enable = "avx512f")]);
    super::fold::window_fold!(#[target_feature(enable = "avx512f")]);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use crate::isa::neon::*;
    super::copy::window_copy!(#[target_feature(enable = "neon")]);
    super::fold::window_fold!(#[target_feature(enable = "neon")]);
}

mod scalar {
    use crate::isa::scalar::*;
    super::copy::window_copy!();
    super::fold::window_fold!();
}

pub(crate) use plan::{Window, check_map, check_slabs};

use std::ops::Range;

use crate::{Activation, Call, Isa};

/// Output rows of one tile, at most.
const MOST_ROWS: usize = 8;

/// Vertically neighbouring taps that are folded together, at most.
const MOST_TAPS: usize = 5;

/// `fold` starts from the bias and adds `weight * x`.
pub(crate) const WEIGHTED: u8 = 0;
/// `fold` starts from `f32::MIN` and keeps the larger; NaN never wins.
pub(crate) const LARGEST: u8 = 1;
/// `fold` starts from 0 and adds; the sum is multiplied by the pixel's scale.
pub(crate) const SUM: u8 = 2;

/// What is folded, beside the pixels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// `WEIGHTED`: the weights of every channel in the order of [`Window::order`].
    pub weights: Vec<f32>,
    /// `WEIGHTED`: one per channel.
    pub bias: Vec<f32>,
    /// `SUM`: one per output pixel, and a vector more of anything.
    pub scales: Vec<f32>,
    /// Applied last.
    pub activation: Activation,
}

/// Computes the units `units` (bands of rows of [`Window::together`] channels) of a layer.
///
/// # Safety
/// As for [`crate::Layer::run_units`].
///
/// # Panics
/// As [`crate::Layer::run_units`].
pub(crate) unsafe fn run<const FOLD: u8>(
    window: &Window,
    parameters: &Parameters,
    units: Range<usize>,
    call: &Call<'_>,
    scratch: &mut [f32],
) {
    let channels = window.output.channels;
    assert!(window.isa.runs_here(), "this CPU lacks {}", window.isa.name());
    assert!(units.start <= units.end && units.end <= window.units(), "{units:?} of {} units", window.units());
    assert!(call.x.len() >= window.input.len(), "input of {} elements is too short", call.x.len());
    assert!(call.y.len() >= window.output.len(), "output of {} elements is too short", call.y.len());
    let residual_len = call.residual.map_or(usize::MAX, <[f32]>::len);
    assert!(residual_len >= window.output.len(), "residual of {residual_len} elements is too short");
    assert!(scratch.len() >= window.scratch_len(), "scratch of {} elements is too short", scratch.len());
    let (weights, scales) = (channels * window.order.len(), window.output.pixels() + window.isa.lanes());
    match FOLD {
        WEIGHTED => assert!(parameters.weights.len() == weights && parameters.bias.len() == channels),
        SUM => assert!(parameters.scales.len() == scales),
        _ => {}
    }
    // SAFETY: the CPU has the instructions and all lengths were asserted above; the caller keeps the units apart.
    unsafe {
        match window.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run::<FOLD>(window, parameters, units, call, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run::<FOLD>(window, parameters, units, call, scratch),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::run::<FOLD>(window, parameters, units, call, scratch),
            Isa::Scalar => scalar::run::<FOLD>(window, parameters, units, call, scratch),
            #[allow(unreachable_patterns, reason = "the instruction sets of other architectures")]
            _ => unreachable!("runs_here() was asserted"),
        }
    }
}
