//! The tile loop: up to eight output rows, one vector wide, folded in registers.

/// Defines `run` for one instruction set, over the names of `isa` and `copy_band`.
macro_rules! window_fold {
    ($(#[$features:meta])?) => {
        use crate::window::{LARGEST, MOST_ROWS, Parameters, SUM, WEIGHTED};
        use crate::{Activation, Call};

        /// # Safety
        /// The CPU has the features, `window::run` has checked all lengths, and the caller keeps the units apart.
        $(#[$features])?
        pub(super) unsafe fn run<const FOLD: u8>(
            window: &Window,
            parameters: &Parameters,
            units: std::ops::Range<usize>,
            call: &Call<'_>,
            scratch: &mut [f32],
        ) {
            let scratch = &mut crate::layer::from_line(scratch)[..window.together * window.copy_len];
            let (mut padded, taps) = (None, window.order.len());
            for unit in units {
                let (channels, (slab, band_rows)) = (window.unit_channels(unit), window.unit_rows(unit));
                let (first, rows) = (band_rows.start, band_rows.len());
                let above = slab * window.output.slab_height();
                // nothing writes to the padding of a band but another band
                if padded.replace(above + first) != Some(above + first) {
                    scratch.fill(window.padding);
                }
                // SAFETY: the input has `stride` elements per channel, at least its pixels; there is room for `together` copies.
                unsafe {
                    copy_band(window, call.x.as_ptr(), scratch.as_mut_ptr(), channels.clone(), slab, above + first, rows);
                }
                for (channel, copy) in channels.clone().zip(scratch.chunks_exact(window.copy_len)) {
                    let start = slab * window.output.slab_len() + channel * window.output.stride;
                    let (mut weights, mut bias) = (&[][..], 0.0);
                    if FOLD == WEIGHTED {
                        weights = &parameters.weights[channel * taps..][..taps];
                        bias = parameters.bias[channel];
                    }
                    // SAFETY: output and residual have `stride` elements per channel of a slab, at least its pixels; there is a
                    // scale per pixel of the whole plane, if any.
                    let plane = unsafe {
                        Plane {
                            x: copy.as_ptr().add(window.origin),
                            y: call.y.as_mut_ptr().add(start),
                            residual: call.residual.map(|residual| residual.as_ptr().add(start)),
                            scales: parameters.scales.as_ptr().wrapping_add(above * window.output.width),
                            weights,
                            bias,
                            activation: parameters.activation,
                        }
                    };
                    // SAFETY: the band was copied above; lengths by this function's contract.
                    unsafe { band::<FOLD>(window, &plane, first, rows) }
                }
            }
        }

        /// Pointers to the first output pixel of one channel of a slab, except `x`: to element 0 of the first row of the copied band.
        struct Plane<'a> {
            x: *const f32,
            y: *mut f32,
            residual: Option<*const f32>,
            scales: *const f32,
            weights: &'a [f32],
            bias: f32,
            activation: Activation,
        }

        /// Folds the output rows `first..first + rows`, in tiles of nearly equal height.
        ///
        /// # Safety
        /// The CPU has the features, and `plane` points to what the window says.
        $(#[$features])?
        unsafe fn band<const FOLD: u8>(window: &Window, plane: &Plane<'_>, first: usize, rows: usize) {
            let tiles = rows.div_ceil(MOST_ROWS);
            let mut done = 0;
            for index in 0..tiles {
                let height = (rows - done).div_ceil(tiles - index);
                // SAFETY: by this function's contract; the tile lies inside the band.
                unsafe {
                    match height {
                        1 => tile::<FOLD, 1>(window, plane, first, done),
                        2 => tile::<FOLD, 2>(window, plane, first, done),
                        3 => tile::<FOLD, 3>(window, plane, first, done),
                        4 => tile::<FOLD, 4>(window, plane, first, done),
                        5 => tile::<FOLD, 5>(window, plane, first, done),
                        6 => tile::<FOLD, 6>(window, plane, first, done),
                        7 => tile::<FOLD, 7>(window, plane, first, done),
                        8 => tile::<FOLD, 8>(window, plane, first, done),
                        _ => unreachable!("a tile has 1 to {MOST_ROWS} rows"),
                    }
                }
                done += height;
            }
        }

        /// Folds `R` rows from row `local` of the band that starts at output row `first`.
        ///
        /// # Safety
        /// As for `band`.
        $(#[$features])?
        unsafe fn tile<const FOLD: u8, const R: usize>(window: &Window, plane: &Plane<'_>, first: usize, local: usize) {
            let (width, pitch) = (window.output.width, window.pitch);
            let lanes = tail(width.min(LANES));
            // A short row is written as a whole vector: what it spills is written again by the next row, or means nothing behind the
            // plane. Only where another band or plane follows it stops at its end.
            let last = first + window.band >= window.output.slab_height();
            let end = if last { window.output.stride } else { (first + window.band) * width };
            let masked = width < LANES && (first + local + R - 1) * width + LANES > end;
            for start in (0..width).step_by(LANES) {
                // The last vector of a row ends with the row and computes some pixels a second time.
                let column = start.min(width.saturating_sub(LANES));
                // SAFETY: the plan ends the copy one vector behind the last tap of the last output row.
                let x = unsafe { plane.x.add(local * pitch + column) };
                let mut sums = [splat(if FOLD == LARGEST { f32::MIN } else { plane.bias }); R];
                let mut weights = plane.weights.as_ptr();
                for run in &window.runs {
                    // SAFETY: offsets are the plan's, and there is one weight per tap of all runs.
                    unsafe {
                        let x = x.add(run.offset);
                        match run.count {
                            1 => taps::<FOLD, R, 1>(x, pitch, weights, &mut sums),
                            2 => taps::<FOLD, R, 2>(x, pitch, weights, &mut sums),
                            3 => taps::<FOLD, R, 3>(x, pitch, weights, &mut sums),
                            4 => taps::<FOLD, R, 4>(x, pitch, weights, &mut sums),
                            _ => taps::<FOLD, R, 5>(x, pitch, weights, &mut sums),
                        }
                        if FOLD == WEIGHTED {
                            weights = weights.add(run.count);
                        }
                    }
                }
                // Each step asks once for all rows.
                let at = (first + local) * width + column;
                // SAFETY: output pixel `at + row * width` exists, and with it the rest of a vector below `stride`, or `lanes` of a
                // short row; there is a vector more of scales than pixels.
                unsafe {
                    let get = |from: *const f32, row: usize| {
                        let from = from.add(at + row * width);
                        if masked { load_tail(from, lanes) } else { load(from) }
                    };
                    if FOLD == SUM {
                        for (row, sum) in sums.iter_mut().enumerate() {
                            *sum = mul(*sum, get(plane.scales, row));
                        }
                    }
                    if let Some(residual) = plane.residual {
                        for (row, sum) in sums.iter_mut().enumerate() {
                            *sum = add(*sum, get(residual, row));
                        }
                    }
                    match plane.activation {
                        Activation::None => {}
                        Activation::Relu => sums.iter_mut().for_each(|sum| *sum = activate(*sum, Activation::Relu)),
                        other => sums.iter_mut().for_each(|sum| *sum = activate(*sum, other)),
                    }
                    for (row, sum) in sums.into_iter().enumerate() {
                        let to = plane.y.add(at + row * width);
                        if masked { store_tail(to, lanes, sum) } else { store(to, sum) }
                    }
                }
            }
        }

        /// Folds `N` vertically neighbouring taps into `R` rows: each of the `R + N - 1` input rows is loaded once.
        ///
        /// # Safety
        /// The CPU has the features; that many rows of one vector, `pitch` apart, are readable at `x`, and `N` weights
        /// if `FOLD` is `WEIGHTED`.
        #[inline]
        $(#[$features])?
        unsafe fn taps<const FOLD: u8, const R: usize, const N: usize>(
            x: *const f32,
            pitch: usize,
            weights: *const f32,
            sums: &mut [Vector; R],
        ) {
            let mut factors = [splat(0.0); N];
            if FOLD == WEIGHTED {
                for (n, factor) in factors.iter_mut().enumerate() {
                    // SAFETY: by this function's contract.
                    *factor = splat(unsafe { *weights.add(n) });
                }
            }
            for input_row in 0..R + N - 1 {
                // SAFETY: by this function's contract.
                let pixels = unsafe { load(x.add(input_row * pitch)) };
                for (n, factor) in factors.iter().enumerate() {
                    if input_row >= n && input_row - n < R {
                        let sum = &mut sums[input_row - n];
                        *sum = match FOLD {
                            WEIGHTED => fma(*factor, pixels, *sum),
                            LARGEST => max(pixels, *sum),
                            _ => add(pixels, *sum),
                        };
                    }
                }
            }
        }
    };
}

pub(super) use window_fold;
