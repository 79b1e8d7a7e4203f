//! The one inner loop: some outputs times some vectors, all sums in registers, over channels and taps.

/// Where a tap reads, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// From the start of a channel.
    pub x: usize,
    /// From the weights of a channel.
    pub w: usize,
}

/// Lines that are copied one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Element of the first, from the start of a channel.
    pub from: usize,
    /// Elements from one to the next.
    pub step: usize,
    /// How many.
    pub count: usize,
}

/// One call of a tile: `y[o][p]` begins as said and adds `x[channel][tap + p] * w[o][channel][tap]`, by channel and then by tap.
pub(super) struct Tile<'a> {
    /// First channel. The vectors of one tap lie one behind the other.
    pub x: *const f32,
    /// Elements from one channel to the next.
    pub x_channel: usize,
    pub channels: usize,
    pub taps: &'a [Tap],
    /// First output, first channel.
    pub w: *const f32,
    pub w_out: usize,
    pub w_channel: usize,
    /// First output, first vector.
    pub y: *mut f32,
    pub y_out: usize,
    pub y_step: usize,
    /// Sums begin with what is in `y`.
    pub kept: bool,
    /// If they do not, with one number per output, or with 0 where this is null.
    pub bias: *const f32,
}

/// A tile of a fixed number of outputs and vectors.
pub(super) type TileFn = unsafe fn(&Tile<'_>);
/// Copies the runs of some channels one behind the other: source, its elements per channel, channels, runs, destination.
pub(super) type PackFn = unsafe fn(*const f32, usize, usize, &[Run], *mut f32);

/// The functions of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    /// Those of one vector, of two, ..., and in each those of one output, of two, ...
    pub tiles: &'static [&'static [TileFn]],
    pub pack: PackFn,
}

/// Defines `KERNELS` for one instruction set: for each number of vectors the numbers of outputs whose sums fit the registers.
///
/// In scope of the caller: what `isa` offers.
macro_rules! tiles {
    ($($features:literal)?, $($vectors:literal: $($outputs:literal)*;)*) => {
        pub(super) static KERNELS: Kernels =
            Kernels { tiles: &[$(&[$(tile::<$outputs, $vectors>),*]),*], pack };

        /// # Safety
        /// The CPU has the features. For all channels, taps, outputs and vectors of the tile, what [`Tile`] names is readable, and
        /// writable in `y`, which nobody else uses meanwhile.
        $(#[target_feature(enable = $features)])?
        unsafe fn tile<const O: usize, const P: usize>(call: &Tile<'_>) {
            let mut sums = [[splat(0.0); P]; O];
            // SAFETY: all reads and writes are those that this function's contract names.
            unsafe {
                for o in 0..O {
                    if call.kept {
                        for p in 0..P {
                            sums[o][p] = load(call.y.add(o * call.y_out + p * call.y_step));
                        }
                    } else if !call.bias.is_null() {
                        sums[o] = [splat(call.bias.add(o).read()); P];
                    }
                }
                let (mut x, mut w) = (call.x, call.w);
                if let [tap] = call.taps {
                    // a loop of one round would cost more than its body
                    (x, w) = (x.add(tap.x), w.add(tap.w));
                    for _ in 0..call.channels {
                        step(x, w, call.w_out, &mut sums);
                        (x, w) = (x.wrapping_add(call.x_channel), w.wrapping_add(call.w_channel));
                    }
                } else {
                    for _ in 0..call.channels {
                        for tap in call.taps {
                            step(x.add(tap.x), w.add(tap.w), call.w_out, &mut sums);
                        }
                        (x, w) = (x.wrapping_add(call.x_channel), w.wrapping_add(call.w_channel));
                    }
                }
                for o in 0..O {
                    for p in 0..P {
                        store(call.y.add(o * call.y_out + p * call.y_step), sums[o][p]);
                    }
                }
            }
        }

        /// One tap of one channel. The smaller side waits in registers.
        ///
        /// # Safety
        /// The CPU has the features; `P` vectors are readable at `x`, and `O` weights at `w`, `w_out` apart.
        #[inline]
        $(#[target_feature(enable = $features)])?
        unsafe fn step<const O: usize, const P: usize>(
            x: *const f32, w: *const f32, w_out: usize, sums: &mut [[Vector; P]; O],
        ) {
            // SAFETY: by this function's contract.
            unsafe {
                if O < P {
                    let mut weights = [splat(0.0); O];
                    for o in 0..O {
                        weights[o] = splat(w.add(o * w_out).read());
                    }
                    for p in 0..P {
                        let pixel = load(x.add(p * LANES));
                        for o in 0..O {
                            sums[o][p] = fma(pixel, weights[o], sums[o][p]);
                        }
                    }
                } else {
                    let mut pixels = [splat(0.0); P];
                    for p in 0..P {
                        pixels[p] = load(x.add(p * LANES));
                    }
                    for o in 0..O {
                        let weight = splat(w.add(o * w_out).read());
                        for p in 0..P {
                            sums[o][p] = fma(pixels[p], weight, sums[o][p]);
                        }
                    }
                }
            }
        }

        /// # Safety
        /// The CPU has the features; the runs of all channels are readable, and as many lines are writable at `to`.
        $(#[target_feature(enable = $features)])?
        unsafe fn pack(source: *const f32, channel: usize, channels: usize, runs: &[Run], to: *mut f32) {
            let (mut source, mut to) = (source, to);
            for _ in 0..channels {
                for run in runs {
                    for line in 0..run.count {
                        // SAFETY: by this function's contract.
                        unsafe { store(to, load(source.add(run.from + line * run.step))) };
                        to = to.wrapping_add(LANES);
                    }
                }
                source = source.wrapping_add(channel);
            }
        }
    };
}

pub(super) use tiles;
