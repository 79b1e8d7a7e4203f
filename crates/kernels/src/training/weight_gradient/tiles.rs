//! The loops that every instruction set shares: sums of one tap for a tile of weights, sums of some weights, and their lanes.

/// Weights of `outputs` output channels times `channels` input channels at one tap, over one rectangle of pixels of some blocks.
pub(super) struct Tile {
    /// First pixel of the rectangle, of the first output channel.
    pub gy: *const f32,
    /// The input pixel that the tap multiplies it with, of the first input channel.
    pub x: *const f32,
    pub outputs: usize,
    pub channels: usize,
    /// Distances, in elements: from channel to channel, row to row, block to block.
    pub gy_steps: Steps,
    pub x_steps: Steps,
    /// From one output's input pixel to the next one's.
    pub x_pixel: usize,
    pub blocks: usize,
    pub rows: usize,
    pub cols: usize,
    /// A vector of sums for every weight; the first output channel's for the first input channel.
    pub sums: *mut f32,
    /// From one output channel's sums to the next one's.
    pub sums_output: usize,
    /// From one input channel's sum to the next one's.
    pub sums_channel: usize,
    /// Whether the sums start here, at zero.
    pub fresh: bool,
}

/// Distances in elements.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub channel: usize,
    pub row: usize,
    pub block: usize,
}

/// Some weights whose taps share a rectangle of output pixels.
pub(super) struct Bundle<'a> {
    /// First pixel of the rectangle, of output channel 0.
    pub gy: *const f32,
    /// Where that pixel's input would lie for a tap without an offset, of input channel 0. May lie outside the map.
    pub x: *const f32,
    /// Per weight the start of its output channel. All the same where `shared`.
    pub gy_at: &'a [usize],
    /// Per weight the start of its input channel and the offset of its tap.
    pub x_at: &'a [isize],
    pub shared: bool,
    pub gy_steps: Steps,
    pub x_steps: Steps,
    pub x_pixel: usize,
    pub blocks: usize,
    pub rows: usize,
    pub cols: usize,
    /// A vector of sums per weight.
    pub sums: *mut f32,
    pub fresh: bool,
}

/// Most weights of a bundle whose output channel is the same.
pub(super) const SHARED: usize = 8;
/// Most weights of a bundle with output channels of their own: each takes two pointers.
pub(super) const APART: usize = 6;

/// Defines `tile`, `bundle` and `lanes` for one instruction set, for what `isa` offers.
macro_rules! weight_gradient_kernels {
    ($($features:literal)?, halvings [$($half:literal)*], tiles [$(($m:literal, $k:literal))*]) => {
        /// Adds one rectangle to the sums of a tile.
        ///
        /// # Safety
        /// The CPU has the features. All pixels of the rectangle are readable for all channels, in `gy` as in `x`; the sums are
        /// writable, and nobody else's.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn tile(call: &Tile) {
            match (call.outputs, call.channels) {
                // SAFETY: by this function's contract.
                $(($m, $k) => unsafe { tile_of::<$m, $k>(call) },)*
                _ => unreachable!("no tile of {} x {}", call.outputs, call.channels),
            }
        }

        /// # Safety
        /// As [`tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn tile_of<const M: usize, const K: usize>(call: &Tile) {
            // SAFETY: every pointer is to a pixel of the rectangle, or a sum of the tile, by `tile`'s contract.
            unsafe {
                let mut sums = [[splat(0.0); K]; M];
                if !call.fresh {
                    for m in 0..M {
                        for k in 0..K {
                            sums[m][k] = load(call.sums.add(m * call.sums_output + k * call.sums_channel));
                        }
                    }
                }
                for block in 0..call.blocks {
                    for row in 0..call.rows {
                        let mut gy = call.gy.add(block * call.gy_steps.block + row * call.gy_steps.row);
                        let mut x = call.x.add(block * call.x_steps.block + row * call.x_steps.row);
                        for _ in 0..call.cols {
                            if M <= K {
                                let mut factors = [splat(0.0); M];
                                for m in 0..M {
                                    factors[m] = load(gy.add(m * call.gy_steps.channel));
                                }
                                for k in 0..K {
                                    let factor = load(x.add(k * call.x_steps.channel));
                                    for m in 0..M {
                                        sums[m][k] = fma(factors[m], factor, sums[m][k]);
                                    }
                                }
                            } else {
                                let mut factors = [splat(0.0); K];
                                for k in 0..K {
                                    factors[k] = load(x.add(k * call.x_steps.channel));
                                }
                                for m in 0..M {
                                    let factor = load(gy.add(m * call.gy_steps.channel));
                                    for k in 0..K {
                                        sums[m][k] = fma(factor, factors[k], sums[m][k]);
                                    }
                                }
                            }
                            gy = gy.wrapping_add(LANES);
                            x = x.wrapping_add(call.x_pixel);
                        }
                    }
                }
                for m in 0..M {
                    for k in 0..K {
                        store(call.sums.add(m * call.sums_output + k * call.sums_channel), sums[m][k]);
                    }
                }
            }
        }

        /// Adds one rectangle to the sums of a bundle.
        ///
        /// # Safety
        /// The CPU has the features. All pixels of the rectangle are readable for every weight, in `gy` as in `x`; the sums are
        /// writable, and nobody else's.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn bundle(call: &Bundle<'_>) {
            // SAFETY: by this function's contract; as many weights as there are.
            unsafe {
                match (call.shared, call.x_at.len()) {
                    (_, 1) => bundle_of::<1, true>(call),
                    (true, 2) => bundle_of::<2, true>(call),
                    (true, 3) => bundle_of::<3, true>(call),
                    (true, 4) => bundle_of::<4, true>(call),
                    (true, 5) => bundle_of::<5, true>(call),
                    (true, 6) => bundle_of::<6, true>(call),
                    (true, 7) => bundle_of::<7, true>(call),
                    (true, 8) => bundle_of::<8, true>(call),
                    (false, 2) => bundle_of::<2, false>(call),
                    (false, 3) => bundle_of::<3, false>(call),
                    (false, 4) => bundle_of::<4, false>(call),
                    (false, 5) => bundle_of::<5, false>(call),
                    (false, 6) => bundle_of::<6, false>(call),
                    (_, count) => unreachable!("no bundle of {count} weights"),
                }
            }
        }

        /// # Safety
        /// As [`bundle`], for `K` weights.
        $(#[target_feature(enable = $features)])?
        unsafe fn bundle_of<const K: usize, const SHARED: bool>(call: &Bundle<'_>) {
            // SAFETY: every pointer that is read or written is to a pixel of the rectangle, or a sum, by `bundle`'s contract.
            unsafe {
                let mut sums = [splat(0.0); K];
                let (mut gys, mut xs) = ([call.gy; K], [call.x; K]);
                for k in 0..K {
                    gys[k] = call.gy.wrapping_add(call.gy_at[k]);
                    xs[k] = call.x.wrapping_offset(call.x_at[k]);
                    if !call.fresh {
                        sums[k] = load(call.sums.add(k * LANES));
                    }
                }
                for block in 0..call.blocks {
                    for row in 0..call.rows {
                        let mut gy = block * call.gy_steps.block + row * call.gy_steps.row;
                        let mut x = block * call.x_steps.block + row * call.x_steps.row;
                        let end = gy + call.cols * LANES;
                        while gy < end {
                            let shared = load(gys[0].wrapping_add(gy));
                            for k in 0..K {
                                let factor = if SHARED || k == 0 { shared } else { load(gys[k].wrapping_add(gy)) };
                                sums[k] = fma(factor, load(xs[k].wrapping_add(x)), sums[k]);
                            }
                            gy += LANES;
                            x += call.x_pixel;
                        }
                    }
                }
                for k in 0..K {
                    store(call.sums.add(k * LANES), sums[k]);
                }
            }
        }

        /// Adds the lanes of `count` vectors by halves: lane `i` and lane `i + LANES / 2`, and so on.
        ///
        /// As many vectors as there are lanes go through it together, from half to half packed into half as many.
        ///
        /// # Safety
        /// The CPU has the features; `count` vectors are readable at `sums` and as many numbers writable at `to`.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn lanes(sums: *const f32, count: usize, to: *mut f32) {
            for first in (0..count).step_by(LANES) {
                let here = (count - first).min(LANES);
                let mut vectors = [splat(0.0); LANES];
                // SAFETY: no more vectors and numbers than there are, by this function's contract.
                unsafe {
                    for at in 0..LANES {
                        if at < here {
                            vectors[at] = load(sums.add((first + at) * LANES));
                        }
                    }
                    $(halve::<$half>(&mut vectors);)*
                    if here == LANES {
                        store(to.add(first), vectors[0]);
                    } else {
                        store_tail(to.add(first), tail(here), vectors[0]);
                    }
                }
            }
        }

        /// Adds the halves of what `2 H` vectors hold, and packs vectors `i` and `i + H` into one.
        #[inline]
        $(#[target_feature(enable = $features)])?
        fn halve<const H: usize>(vectors: &mut [Vector; LANES]) {
            for at in 0..H {
                let (low, high) = interleave(vectors[at], vectors[at + H]);
                vectors[at] = add(low, high);
            }
        }
    };
}

pub(super) use weight_gradient_kernels;
