//! The padded, phase-split copy of a band of rows.

/// Defines `copy_band` for one instruction set, over the names of `isa`.
macro_rules! window_copy {
    ($(#[$features:meta])?) => {
        use crate::window::Window;

        /// Copies what the output rows `first..first + rows` read of one plane into `to`; rows above and below the plane become
        /// padding, the padding at the left and right is left as it is.
        ///
        /// # Safety
        /// The CPU has the features; `plane` has the window's input pixels, `to` is `copy_len` long, `rows` is 1 to
        /// `band` and the output rows exist.
        $(#[$features])?
        unsafe fn copy_band(window: &Window, plane: *const f32, to: *mut f32, first: usize, rows: usize) {
            let [down, right] = window.stride;
            let (width, pitch) = (window.input.width, window.pitch);
            let by_stride = |rows: usize| if down == 1 { rows } else { rows.div_ceil(down) };
            for row_phase in 0..down {
                // Row `row` of this phase is the padded row `start + row * down`.
                let start = first * down + row_phase;
                let all = by_stride(((rows - 1) * down + window.span + 1).saturating_sub(row_phase));
                let from = by_stride(window.top.saturating_sub(start)).min(all);
                let until = by_stride((window.top + window.input.height).saturating_sub(start)).clamp(from, all);
                let phase = window.origin + row_phase * right * window.phase_len;
                // Padding rows of a plane in one piece are never overwritten.
                if !window.one_band() {
                    for row in (0..from).chain(until..all) {
                        // SAFETY: the plan gives every row of every phase `pitch` elements.
                        unsafe { pad_row(window, to.add(phase + row * pitch)) }
                    }
                }
                if from == until {
                    continue;
                }
                // SAFETY: rows `from..until` lie inside the plane; `columns` holds only elements inside of a row of `to` that
                // come from the `width` pixels of a row of the plane, by `Window::plan`.
                unsafe {
                    let pixels = plane.add((start + from * down - window.top) * width);
                    let to = to.add(phase + from * pitch);
                    let (rows, step) = (until - from, [down * width, pitch]);
                    match right {
                        1 => {
                            let [from, until] = window.columns[0];
                            copy_rows(pixels, to.add(from), until - from, rows, step);
                        }
                        2 => {
                            let (phase, left) = (window.left % 2, window.left);
                            let ([_, even_until], [_, odd_until]) = (window.columns[phase], window.columns[1 - phase]);
                            let (even_from, odd_from) = (left / 2, left.div_ceil(2));
                            let even = to.add(phase * window.phase_len).wrapping_add(even_from);
                            let odd = to.add((1 - phase) * window.phase_len).wrapping_add(odd_from);
                            let counts = [even_until.saturating_sub(even_from), odd_until.saturating_sub(odd_from)];
                            split_rows(pixels, [even, odd], counts, rows, step);
                        }
                        _ => {
                            for row in 0..rows {
                                pick_row(window, pixels.add(row * step[0]), to.add(row * step[1]));
                            }
                        }
                    }
                }
            }
        }

        /// # Safety
        /// `row` is row 0 of the first column phase of a row of the copy.
        $(#[$features])?
        unsafe fn pad_row(window: &Window, row: *mut f32) {
            for (phase, [from, until]) in window.columns.iter().enumerate() {
                for column in *from..*until {
                    // SAFETY: a phase has `phase_len` elements, and its row holds `columns`.
                    unsafe { row.add(phase * window.phase_len + column).write(window.padding) };
                }
            }
        }

        /// Any horizontal stride, one pixel at a time.
        ///
        /// # Safety
        /// As for `pad_row`; `pixels` is a row of the input.
        $(#[$features])?
        unsafe fn pick_row(window: &Window, pixels: *const f32, row: *mut f32) {
            for (phase, [from, until]) in window.columns.iter().enumerate() {
                for column in *from..*until {
                    // SAFETY: as for `pad_row`; `columns` come from pixels of the row.
                    unsafe {
                        let pixel = *pixels.add(column * window.stride[1] + phase - window.left);
                        row.add(phase * window.phase_len + column).write(pixel);
                    }
                }
            }
        }

        /// `count` elements of `rows` rows, which lie `step[0]` apart at `from` and `step[1]` apart at `to`.
        ///
        /// # Safety
        /// The CPU has the features; all those elements are readable at `from` and writable at `to`.
        $(#[$features])?
        unsafe fn copy_rows(from: *const f32, to: *mut f32, count: usize, rows: usize, step: [usize; 2]) {
            // SAFETY: every element touched is below `count` in its row.
            unsafe {
                if count < LANES {
                    let lanes = tail(count);
                    for row in 0..if count == 0 { 0 } else { rows } {
                        store_tail(to.add(row * step[1]), lanes, load_tail(from.add(row * step[0]), lanes));
                    }
                } else if count <= 2 * LANES {
                    let last = count - LANES;
                    for row in 0..rows {
                        let (from, to) = (from.add(row * step[0]), to.add(row * step[1]));
                        store(to, load(from));
                        store(to.add(last), load(from.add(last)));
                    }
                } else {
                    let last = count - LANES;
                    for row in 0..rows {
                        let (from, to) = (from.add(row * step[0]), to.add(row * step[1]));
                        for at in (0..last).step_by(LANES) {
                            store(to.add(at), load(from.add(at)));
                        }
                        store(to.add(last), load(from.add(last)));
                    }
                }
            }
        }

        /// Pixels 0, 2, 4, ... of every row to `to[0]`, pixels 1, 3, 5, ... to `to[1]`; steps as for `copy_rows`.
        ///
        /// # Safety
        /// The CPU has the features; `counts` elements are writable in every row of `to`, and the pixels that become them are
        /// readable at `from`.
        $(#[$features])?
        unsafe fn split_rows(
            from: *const f32,
            [even, odd]: [*mut f32; 2],
            counts: [usize; 2],
            rows: usize,
            step: [usize; 2],
        ) {
            let pairs = counts[0].min(counts[1]);
            // Of a row shorter than a vector of pairs: its first and second vector of pixels.
            let (low, high) = ((2 * pairs).min(LANES), (2 * pairs).saturating_sub(LANES).min(LANES));
            let (low_lanes, high_lanes, pair_lanes) = (tail(low), tail(high), tail(pairs.min(LANES)));
            for row in 0..rows {
                let from = from.wrapping_add(row * step[0]);
                let (even, odd) = (even.wrapping_add(row * step[1]), odd.wrapping_add(row * step[1]));
                // SAFETY: pairs below `pairs` exist on both sides; the last vector of pairs ends with the last pair.
                unsafe {
                    if pairs >= LANES {
                        let last = pairs - LANES;
                        for at in (0..last).step_by(LANES).chain([last]) {
                            let (first, second) =
                                deinterleave(load(from.add(2 * at)), load(from.add(2 * at + LANES)));
                            store(even.add(at), first);
                            store(odd.add(at), second);
                        }
                    } else if pairs > 0 {
                        let high = if high > 0 { load_tail(from.add(LANES), high_lanes) } else { splat(0.0) };
                        let (first, second) = deinterleave(load_tail(from, low_lanes), high);
                        store_tail(even, pair_lanes, first);
                        store_tail(odd, pair_lanes, second);
                    }
                    // At most one side has one more, unless padding is wider than the row.
                    for at in pairs..counts[0] {
                        even.add(at).write(*from.add(2 * at));
                    }
                    for at in pairs..counts[1] {
                        odd.add(at).write(*from.add(2 * at + 1));
                    }
                }
            }
        }
    };
}

pub(super) use window_copy;
