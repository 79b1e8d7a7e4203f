//! The loops that every instruction set shares: sums of one tap for a tile of weights, sums of some weights, and their lanes.

/// Distances of one map, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    pub channel: usize,
    pub block: usize,
    pub row: usize,
    pub pixel: usize,
}

/// Output pixels that one tap reaches, and the input pixels that it multiplies them with: a rectangle in each of some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub blocks: usize,
    pub rows: usize,
    pub cols: usize,
    pub gy_steps: Steps,
    pub x_steps: Steps,
    /// First pixel of channel 0, in elements.
    pub gy: usize,
    pub x: usize,
    /// Where the tap's first sum lies, in elements.
    pub sums: usize,
    /// Whether its sums start here, at zero.
    pub fresh: bool,
}

impl Rect {
    /// The same pixels in the same order, in loops as long as can be.
    pub fn simplified(mut self) -> Self {
        let follow = |steps: &Steps, len: usize| steps.row == len * steps.pixel;
        if self.cols == 1 || follow(&self.gy_steps, self.cols) && follow(&self.x_steps, self.cols) {
            if self.cols == 1 {
                (self.gy_steps.pixel, self.x_steps.pixel) = (self.gy_steps.row, self.x_steps.row);
            }
            (self.cols, self.rows) = (self.cols * self.rows, 1);
        }
        if self.rows == 1 {
            (self.gy_steps.row, self.x_steps.row) = (self.gy_steps.block, self.x_steps.block);
            (self.rows, self.blocks) = (self.blocks, 1);
            if self.cols == 1 {
                (self.gy_steps.pixel, self.x_steps.pixel) = (self.gy_steps.row, self.x_steps.row);
                (self.cols, self.rows) = (self.rows, 1);
            }
        }
        self
    }
}

/// Weights of `outputs` output channels times `channels` input channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub outputs: usize,
    pub channels: usize,
    /// From one output channel's sums to the next one's, in elements.
    pub sums_output: usize,
    /// From one input channel's sum to the next one's.
    pub sums_channel: usize,
}

/// Most weights of a bundle whose output channel is the same.
pub(super) const SHARED: usize = 8;
/// Most weights of a bundle with output channels of their own: each takes two pointers.
pub(super) const APART: usize = 6;

/// Defines `tile`, `bundle` and `lanes` for one instruction set, for what `isa` offers.
macro_rules! weight_gradient_kernels {
    ($($features:literal)?, halvings [$($half:literal)*], tiles [$(($m:literal, $k:literal))*]) => {
        /// Adds rectangles, each of one tap, to the sums of a tile.
        ///
        /// * `gy`, `x`: the tile's first channels.
        ///
        /// # Safety
        /// The CPU has the features. All pixels of the rectangles are readable for all channels, in `gy` as in `x`; the sums are
        /// writable, and nobody else's.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn tile(call: &Tile, rects: &[Rect], gy: *const f32, x: *const f32, sums: *mut f32) {
            match (call.outputs, call.channels) {
                // SAFETY: by this function's contract.
                $(($m, $k) => unsafe { tile_of::<$m, $k>(call, rects, gy, x, sums) },)*
                _ => unreachable!("no tile of {} x {}", call.outputs, call.channels),
            }
        }

        /// # Safety
        /// As [`tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn tile_of<const M: usize, const K: usize>(
            call: &Tile, rects: &[Rect], gy: *const f32, x: *const f32, to: *mut f32,
        ) {
            for rect in rects {
                // SAFETY: every pointer is to a pixel of a rectangle, or a sum of the tile, by `tile`'s contract.
                unsafe {
                    let (gy, x, to) = (gy.add(rect.gy), x.add(rect.x), to.add(rect.sums));
                    let (gy_steps, x_steps) = (rect.gy_steps, rect.x_steps);
                    let mut sums = [[splat(0.0); K]; M];
                    if !rect.fresh {
                        for m in 0..M {
                            for k in 0..K {
                                sums[m][k] = load(to.add(m * call.sums_output + k * call.sums_channel));
                            }
                        }
                    }
                    for block in 0..rect.blocks {
                        for row in 0..rect.rows {
                            let mut gy = gy.add(block * gy_steps.block + row * gy_steps.row);
                            let mut x = x.add(block * x_steps.block + row * x_steps.row);
                            for _ in 0..rect.cols {
                                if M <= K {
                                    let mut factors = [splat(0.0); M];
                                    for m in 0..M {
                                        factors[m] = load(gy.add(m * gy_steps.channel));
                                    }
                                    for k in 0..K {
                                        let factor = load(x.add(k * x_steps.channel));
                                        for m in 0..M {
                                            sums[m][k] = fma(factors[m], factor, sums[m][k]);
                                        }
                                    }
                                } else {
                                    let mut factors = [splat(0.0); K];
                                    for k in 0..K {
                                        factors[k] = load(x.add(k * x_steps.channel));
                                    }
                                    for m in 0..M {
                                        let factor = load(gy.add(m * gy_steps.channel));
                                        for k in 0..K {
                                            sums[m][k] = fma(factor, factors[k], sums[m][k]);
                                        }
                                    }
                                }
                                gy = gy.wrapping_add(gy_steps.pixel);
                                x = x.wrapping_add(x_steps.pixel);
                            }
                        }
                    }
                    for m in 0..M {
                        for k in 0..K {
                            store(to.add(m * call.sums_output + k * call.sums_channel), sums[m][k]);
                        }
                    }
                }
            }
        }

        /// Adds one rectangle to the sums of some weights whose taps reach it.
        ///
        /// * `gy_at`: per weight the start of its output channel; one if it is the same for all.
        /// * `x_at`: per weight the start of its input channel, with the offset of its tap.
        ///
        /// # Safety
        /// The CPU has the features. All pixels of the rectangle are readable for every weight, in `gy` as in `x`; the sums are
        /// writable, and nobody else's.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn bundle(
            rect: &Rect, gy: *const f32, x: *const f32, gy_at: &[u32], x_at: &[i32], sums: *mut f32,
        ) {
            // SAFETY: by this function's contract; as many weights as there are.
            unsafe {
                match (gy_at.len() == 1, x_at.len()) {
                    (true, 8) => bundle_of::<8, true>(rect, gy, x, gy_at, x_at, sums),
                    (false, 6) => bundle_of::<6, false>(rect, gy, x, gy_at, x_at, sums),
                    (true, 1) => bundle_of::<1, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 2) => bundle_of::<2, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 3) => bundle_of::<3, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 4) => bundle_of::<4, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 5) => bundle_of::<5, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 6) => bundle_of::<6, true>(rect, gy, x, gy_at, x_at, sums),
                    (true, 7) => bundle_of::<7, true>(rect, gy, x, gy_at, x_at, sums),
                    (false, 2) => bundle_of::<2, false>(rect, gy, x, gy_at, x_at, sums),
                    (false, 3) => bundle_of::<3, false>(rect, gy, x, gy_at, x_at, sums),
                    (false, 4) => bundle_of::<4, false>(rect, gy, x, gy_at, x_at, sums),
                    (false, 5) => bundle_of::<5, false>(rect, gy, x, gy_at, x_at, sums),
                    (_, count) => unreachable!("no bundle of {count} weights"),
                }
            }
        }

        /// # Safety
        /// As [`bundle`], for `K` weights.
        $(#[target_feature(enable = $features)])?
        unsafe fn bundle_of<const K: usize, const SHARED: bool>(
            rect: &Rect, gy: *const f32, x: *const f32, gy_at: &[u32], x_at: &[i32], to: *mut f32,
        ) {
            // SAFETY: every pointer that is read or written is to a pixel of the rectangle, or a sum, by `bundle`'s contract.
            unsafe {
                let (gy, x, gy_steps, x_steps) = (gy.wrapping_add(rect.gy), x.wrapping_add(rect.x), rect.gy_steps, rect.x_steps);
                let mut sums = [splat(0.0); K];
                let (mut gys, mut xs) = ([gy; K], [x; K]);
                for k in 0..K {
                    gys[k] = gy.wrapping_add(*gy_at.get_unchecked(if SHARED { 0 } else { k }) as usize);
                    xs[k] = x.wrapping_offset(*x_at.get_unchecked(k) as isize);
                    if !rect.fresh {
                        sums[k] = load(to.add(k * LANES));
                    }
                }
                for block in 0..rect.blocks {
                    for row in 0..rect.rows {
                        let mut gy = block * gy_steps.block + row * gy_steps.row;
                        let mut x = block * x_steps.block + row * x_steps.row;
                        for _ in 0..rect.cols {
                            let shared = load(gys[0].wrapping_add(gy));
                            for k in 0..K {
                                let factor = if SHARED || k == 0 { shared } else { load(gys[k].wrapping_add(gy)) };
                                sums[k] = fma(factor, load(xs[k].wrapping_add(x)), sums[k]);
                            }
                            gy += gy_steps.pixel;
                            x += x_steps.pixel;
                        }
                    }
                }
                for k in 0..K {
                    store(to.add(k * LANES), sums[k]);
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
                        // beyond the last one it does not matter what is there
                        vectors[at] = load(sums.add((first + at.min(here - 1)) * LANES));
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
