//! The loop over one panel that every instruction set shares.

use crate::Activation;

/// Vectors of rows that lie together.
pub(super) const PART: usize = 4;

/// Bytes that weights are asked for ahead of their use: a page, whose address the processor then also looks up in time.
///
/// 2048 -> 1000 in f32, after 64 MB of other memory were written (as in a network): 390 us without, 340 with AVX-512; 510 and 380 with
/// AVX2. Four samples: 570 and 470, 790 and 560. Between 2 and 16 KB it makes little difference.
pub(crate) const AHEAD: usize = 4096;
/// Bytes of a cache line.
pub(crate) const CACHE_LINE: usize = 64;

/// One panel of rows, all samples.
pub(super) struct Panel<'a, T> {
    /// Two parts, the first of four vectors of rows (if there are more), each `[cols][vectors * LANES]`; then what follows.
    pub weights: &'a [T],
    /// One per row of the panel at least, up to whole vectors.
    pub bias: &'a [f32],
    /// As the bias where values are scaled.
    pub scales: &'a [f32],
    /// `[samples, cols]`.
    pub x: &'a [f32],
    pub cols: usize,
    /// The panel's first row of sample 0; samples are `rows` apart.
    pub y: *mut f32,
    /// As `y`, or null.
    pub residual: *const f32,
    pub rows: usize,
    /// Rows of the panel.
    pub count: usize,
    pub activation: Activation,
}

/// Defines `panel` for one instruction set.
///
/// In scope of the caller: what `isa` offers and `numbers::<T>(at)`, a vector of weights. Four sums of each of `$together`
/// samples must fit the registers.
macro_rules! dense_panel {
    ($($features:literal)?, $together:literal samples together) => {
        /// Computes one panel for all samples.
        ///
        /// # Safety
        /// The CPU has the features; `weights` holds `cols` columns, bias and scales whole vectors, `y` and a residual that is
        /// not null `count` rows for every sample of `x`; nothing else uses these rows of `y`.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn panel<T: Value>(call: &Panel<'_, T>) {
            let samples = call.x.len() / call.cols;
            let vectors = call.count.div_ceil(LANES);
            if samples == 1 {
                // SAFETY: by this function's contract.
                return unsafe { single(call, 0) };
            }
            for part in (0..vectors).step_by(PART) {
                let mut first = 0;
                while first < samples {
                    // SAFETY: by this function's contract; no more samples than are left.
                    first += unsafe {
                        match samples - first {
                            $together.. => (together::<T, $together>(call, first, part), $together).1,
                            2.. => (together::<T, 2>(call, first, part), 2).1,
                            _ => (together::<T, 1>(call, first, part), 1).1,
                        }
                    };
                }
            }
        }

        /// Computes one sample: all vectors of rows at once.
        ///
        /// # Safety
        /// As [`panel`]; the sample exists.
        $(#[target_feature(enable = $features)])?
        unsafe fn single<T: Value>(call: &Panel<'_, T>, first: usize) {
            // SAFETY: by this function's contract; all vectors of the panel are named.
            unsafe {
                match call.count.div_ceil(LANES) {
                    1 => part::<T, 1, 4, 1>(call, first, 0),
                    2 => part::<T, 2, 4, 1>(call, first, 0),
                    3 => part::<T, 3, 2, 1>(call, first, 0),
                    4 => part::<T, 4, 2, 1>(call, first, 0),
                    5 => part::<T, 5, 1, 1>(call, first, 0),
                    6 => part::<T, 6, 1, 1>(call, first, 0),
                    7 => part::<T, 7, 1, 1>(call, first, 0),
                    8 => part::<T, 8, 1, 1>(call, first, 0),
                    _ => unreachable!("a panel has 1 to 8 vectors"),
                }
            }
        }

        /// Computes one part for `S` samples, with as many sums a row as [`single`], in pieces that leave registers for all.
        ///
        /// # Safety
        /// As [`panel`]; part and samples exist.
        $(#[target_feature(enable = $features)])?
        unsafe fn together<T: Value, const S: usize>(call: &Panel<'_, T>, first: usize, part_from: usize) {
            let vectors = call.count.div_ceil(LANES);
            let mut from = part_from;
            while from < vectors.min(part_from + PART) {
                // SAFETY: by this function's contract; a piece ends with its part.
                from += unsafe {
                    match (vectors, vectors.min(part_from + PART) - from) {
                        (1..=2, _) => (part::<T, 1, 4, S>(call, first, from), 1).1,
                        (3..=4, 1) => (part::<T, 1, 2, S>(call, first, from), 1).1,
                        (3..=4, _) => (part::<T, 2, 2, S>(call, first, from), 2).1,
                        (_, 1) => (part::<T, 1, 1, S>(call, first, from), 1).1,
                        (_, 2) => (part::<T, 2, 1, S>(call, first, from), 2).1,
                        (_, 3) => (part::<T, 3, 1, S>(call, first, from), 3).1,
                        _ => (part::<T, 4, 1, S>(call, first, from), 4).1,
                    }
                };
            }
        }

        /// Computes `V` vectors of rows from vector `from` on for `S` samples, with `P` sums a row.
        ///
        /// # Safety
        /// As [`panel`]; vectors and samples exist.
        $(#[target_feature(enable = $features)])?
        unsafe fn part<T: Value, const V: usize, const P: usize, const S: usize>(
            call: &Panel<'_, T>, first: usize, from: usize,
        ) {
            let vectors = call.count.div_ceil(LANES);
            let start = |vector: usize| vector / PART * PART * LANES * call.cols + vector % PART * LANES;
            let pitch = |vector: usize| (vectors - vector / PART * PART).min(PART) * LANES;
            let pitches = [pitch(from), if V > PART { pitch(from + PART) } else { 0 }];
            // SAFETY: pointers stay within the slices by this function's contract: columns below `cols`, vectors below the
            // panel's, samples below those of `x`. The last vector of rows is stored and added only as far as rows go.
            unsafe {
                let x = call.x.as_ptr().add(first * call.cols);
                let mut sums = [[[splat(0.0); V]; P]; S];
                // vectors of the first part and of the second
                let weights = call.weights.as_ptr();
                let mut streams = [weights.add(start(from)), weights.add(if V > PART { start(from + PART) } else { 0 })];
                let mut col = 0;
                while col + P <= call.cols {
                    for p in 0..P {
                        let inputs: [Vector; S] = std::array::from_fn(|s| splat(x.add(s * call.cols + col + p).read()));
                        for v in 0..V {
                            let at = streams[v / PART].add(v % PART * LANES);
                            if v % (CACHE_LINE / (LANES * size_of::<T>())).max(1) == 0 {
                                prefetch(at.wrapping_byte_add(AHEAD));
                            }
                            let weight = numbers(at);
                            for s in 0..S {
                                sums[s][p][v] = fma(inputs[s], weight, sums[s][p][v]);
                            }
                        }
                        streams = [streams[0].wrapping_add(pitches[0]), streams[1].wrapping_add(pitches[1])];
                    }
                    col += P;
                }
                for col in col..call.cols {
                    for s in 0..S {
                        let input = splat(x.add(s * call.cols + col).read());
                        for v in 0..V {
                            sums[s][0][v] = fma(input, numbers(streams[v / PART].add(v % PART * LANES)), sums[s][0][v]);
                        }
                    }
                    streams = [streams[0].wrapping_add(pitches[0]), streams[1].wrapping_add(pitches[1])];
                }
                for s in 0..S {
                    for v in 0..V {
                        let at = (from + v) * LANES;
                        let mut sum = sums[s][0][v];
                        if P == 2 {
                            sum = add(sum, sums[s][1][v]);
                        } else if P == 4 {
                            sum = add(add(sum, sums[s][1][v]), add(sums[s][2][v], sums[s][3][v]));
                        }
                        let bias = load(call.bias.as_ptr().add(at));
                        let mut y = if T::SCALED { fma(sum, load(call.scales.as_ptr().add(at)), bias) } else { add(sum, bias) };
                        let lanes = (call.count - at).min(LANES);
                        let sample = (first + s) * call.rows + at;
                        if !call.residual.is_null() {
                            let residual = call.residual.add(sample);
                            y = add(y, if lanes == LANES { load(residual) } else { load_tail(residual, tail(lanes)) });
                        }
                        let y = activate(y, call.activation);
                        let to = call.y.add(sample);
                        if lanes == LANES { store(to, y) } else { store_tail(to, tail(lanes), y) }
                    }
                }
            }
        }
    };
}

pub(super) use dense_panel;
