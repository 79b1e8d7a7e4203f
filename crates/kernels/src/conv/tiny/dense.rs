//! All weights: vectors of outputs times each pixel, a stream of weights that is read once.

use crate::Activation;

/// One panel of outputs.
pub(super) struct Panel<'a> {
    /// `[position][outputs of a panel]`, then what follows; aligned.
    pub weights: *const f32,
    /// `[position][lanes]`.
    pub x: *const f32,
    /// Elements of a position in `x`, at least the pixels that the kernel takes.
    pub lanes: usize,
    pub positions: usize,
    /// One per output of the panel, up to whole vectors.
    pub bias: &'a [f32],
    /// Outputs of the panel.
    pub count: usize,
    /// First output of the panel.
    pub y: *mut f32,
    /// As `y`, or null.
    pub residual: *const f32,
    pub stride: usize,
    /// Pixels of an output.
    pub pixels: usize,
    pub activation: Activation,
}

/// Pixels times outputs of a panel, at most.
pub(super) const MOST_SUMS: usize = 6 * 64;

/// Defines `panel` for one instruction set: vectors of outputs for numbers of pixels.
macro_rules! tiny_dense {
    ($(#[$features:meta])* [$($vectors:literal: $($pixels:literal)*);*]) => {
        /// Vectors of outputs in a panel for at least `pixels` pixels, and how many pixels that kernel takes.
        pub(super) const fn shape(pixels: usize) -> Option<(usize, usize)> {
            $($(
                if pixels <= $pixels {
                    return Some(($vectors, $pixels));
                }
            )*)*
            None
        }

        /// Computes one panel.
        ///
        /// # Safety
        /// The CPU has the features; `shape` has something for `call.pixels`. Weights and `x` are readable for all positions, the
        /// bias for whole vectors, `y` (writable) and a residual that is not null for `pixels` elements of `count` outputs; nothing
        /// else uses them in `y`.
        $(#[$features])*
        pub(super) unsafe fn panel(call: &super::dense::Panel<'_>) {
            // SAFETY: by this function's contract.
            unsafe {
                match shape(call.pixels) {
                    $($(Some(($vectors, $pixels)) => panel_of::<$vectors, $pixels>(call),)*)*
                    _ => unreachable!("no kernel for {} pixels", call.pixels),
                }
            }
        }

        /// # Safety
        /// As [`panel`], for `O` vectors of outputs and `P` pixels.
        $(#[$features])*
        unsafe fn panel_of<const O: usize, const P: usize>(call: &super::dense::Panel<'_>) {
            use $crate::gemv::{AHEAD, CACHE_LINE};
            // SAFETY: by this function's contract; a position has `O * LANES` weights and at least `P` pixels.
            unsafe {
                let bias = std::array::from_fn(|o| load(call.bias.as_ptr().add(o * LANES)));
                let mut sums: [[Vector; O]; P] = [bias; P];
                let (mut weights, mut x) = (call.weights, call.x);
                for _ in 0..call.positions {
                    let column: [Vector; O] = std::array::from_fn(|o| {
                        let at = weights.add(o * LANES);
                        if o * LANES * size_of::<f32>() % CACHE_LINE == 0 {
                            prefetch(at.wrapping_byte_add(AHEAD));
                        }
                        load(at)
                    });
                    for p in 0..P {
                        let pixel = splat(x.add(p).read());
                        for o in 0..O {
                            sums[p][o] = fma(pixel, column[o], sums[p][o]);
                        }
                    }
                    weights = weights.add(O * LANES);
                    x = x.add(call.lanes);
                }
                let mut finished = [0.0f32; super::dense::MOST_SUMS];
                for p in 0..P {
                    for o in 0..O {
                        store(finished[(p * O + o) * LANES..][..LANES].as_mut_ptr(), sums[p][o]);
                    }
                }
                if !call.residual.is_null() {
                    for p in 0..call.pixels {
                        for output in 0..call.count {
                            finished[p * O * LANES + output] += call.residual.add(output * call.stride + p).read();
                        }
                    }
                }
                for p in 0..call.pixels {
                    for o in 0..O {
                        let at = finished[(p * O + o) * LANES..][..LANES].as_mut_ptr();
                        store(at, activate(load(at), call.activation));
                    }
                    for output in 0..call.count {
                        call.y.add(output * call.stride + p).write(finished[p * O * LANES + output]);
                    }
                }
            }
        }
    };
}

pub(super) use tiny_dense;
