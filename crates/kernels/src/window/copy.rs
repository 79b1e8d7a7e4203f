//! The padded, phase-split copy of a band of rows.

/// Defines `copy_band` for one instruction set, over the names of `isa`.
macro_rules! window_copy {
    ($(#[$features:meta])?) => {
        use crate::window::Window;

        /// Copies what the output rows `first..first + rows`, of slab `own`, read of some planes to `to`; padding is left as it is.
        ///
        /// # Safety
        /// The CPU has the features; at `x` lies the window's input map, at `to` are `copy_len` elements per channel, `rows` is 1 to
        /// `band` and the output rows and channels exist.
        $(#[$features])?
        unsafe fn copy_band(
            window: &Window,
            x: *const f32,
            to: *mut f32,
            channels: std::ops::Range<usize>,
            own: usize,
            first: usize,
            rows: usize,
        ) {
            let [down, right] = window.stride;
            let (height, width, pitch) = (window.input.slab_height(), window.input.width, window.pitch);
            let edges = if window.input.slabs == window.output.slabs { window.input.edges } else { 0 };
            for row_phase in 0..down {
                // Row `row` of this phase is the padded row `start + row * down`.
                let start = first * down + row_phase;
                let all = ((rows - 1) * down + window.span + 1).saturating_sub(row_phase).div_ceil(down);
                let from = window.top.saturating_sub(start).div_ceil(down).min(all);
                let until = (window.top + window.input.height).saturating_sub(start).div_ceil(down).clamp(from, all);
                let phase = window.origin + row_phase * right * window.phase_len;
                let mut row = from;
                while row < until {
                    let input_row = start + row * down - window.top;
                    let slab = if window.input.slabs == 1 { 0 } else { input_row / height };
                    let within = input_row - slab * height;
                    // rows of the slab beside are gathered, if so many
                    let (top, bottom) = (slab > own && within < edges, slab < own && within >= height - edges);
                    let (end, at, step) = match top || bottom {
                        true => {
                            let skipped = if top { within } else { within - (height - edges) };
                            let at = window.input.edge(bottom, channels.start) + skipped * width;
                            (if top { edges } else { height }, at, edges * width)
                        }
                        false => {
                            let end = if slab < own { height - edges } else { height };
                            (end, channels.start * window.input.stride + within * width, window.input.stride)
                        }
                    };
                    let rows = (end - within).div_ceil(down).min(until - row);
                    for channel in 0..channels.len() {
                        // SAFETY: rows `from..until` lie inside the planes, and these within the slab or its edge; there are as many
                        // copies as channels, of every phase.
                        unsafe {
                            let pixels = x.add(slab * window.input.slab_len() + at + channel * step);
                            copy_phase(window, pixels, to.add(channel * window.copy_len + phase + row * pitch), rows);
                        }
                    }
                    row += rows;
                }
            }
        }

        /// Copies `rows` rows of one row phase into all its column phases.
        ///
        /// # Safety
        /// The CPU has the features; so many rows of the input, as many apart as the vertical stride, start at `pixels`, and
        /// as many rows of the first column phase at `to`.
        #[inline]
        $(#[$features])?
        unsafe fn copy_phase(window: &Window, pixels: *const f32, to: *mut f32, rows: usize) {
            let step = [window.stride[0] * window.input.width, window.pitch];
            // A short row may spill zeros into the padding behind it: rows and phases are a vector or more apart.
            let spill = window.padding == 0.0;
            // SAFETY: `columns` holds only elements inside of a row of `to` that come from the `width` pixels of a row of the plane,
            // by `Window::plan`.
            unsafe {
                match window.stride[1] {
                    1 => {
                        let [from, until] = window.columns[0];
                        copy_rows(pixels, to.add(from), until - from, rows, step, spill);
                    }
                    2 => {
                        let (phase, left) = (window.left % 2, window.left);
                        let ([_, even_until], [_, odd_until]) = (window.columns[phase], window.columns[1 - phase]);
                        let (even_from, odd_from) = (left / 2, left.div_ceil(2));
                        let even = to.add(phase * window.phase_len).wrapping_add(even_from);
                        let odd = to.add((1 - phase) * window.phase_len).wrapping_add(odd_from);
                        let counts = [even_until.saturating_sub(even_from), odd_until.saturating_sub(odd_from)];
                        split_rows(pixels, [even, odd], counts, rows, step, spill);
                    }
                    _ => {
                        for row in 0..rows {
                            pick_row(window, pixels.add(row * step[0]), to.add(row * step[1]));
                        }
                    }
                }
            }
        }

        /// Any horizontal stride, one pixel at a time.
        ///
        /// # Safety
        /// `row` is row 0 of the first column phase of a row of the copy; `pixels` is a row of the input.
        #[inline(never)]
        $(#[$features])?
        unsafe fn pick_row(window: &Window, pixels: *const f32, row: *mut f32) {
            for (phase, [from, until]) in window.columns.iter().enumerate() {
                for column in *from..*until {
                    // SAFETY: a phase has `phase_len` elements, and its row holds `columns`, which come from pixels of the row.
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
        /// The CPU has the features; all those elements are readable at `from` and writable at `to`. With `spill` a whole
        /// vector is writable in every row of `to`, and what a row spills into the next is written again or zero.
        #[inline(never)]
        $(#[$features])?
        unsafe fn copy_rows(from: *const f32, to: *mut f32, count: usize, rows: usize, step: [usize; 2], spill: bool) {
            // SAFETY: every element touched is below `count` in its row, or may be spilt to.
            unsafe {
                if count < LANES {
                    let lanes = tail(count);
                    for row in 0..if count == 0 { 0 } else { rows } {
                        let (to, pixels) = (to.add(row * step[1]), load_tail(from.add(row * step[0]), lanes));
                        if spill { store(to, pixels) } else { store_tail(to, lanes, pixels) }
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
        /// readable at `from`; `spill` as for `copy_rows`.
        #[inline(never)]
        $(#[$features])?
        unsafe fn split_rows(
            from: *const f32,
            [even, odd]: [*mut f32; 2],
            counts: [usize; 2],
            rows: usize,
            step: [usize; 2],
            spill: bool,
        ) {
            let pairs = counts[0].min(counts[1]);
            let row = |row: usize| {
                let from = from.wrapping_add(row * step[0]);
                (from, even.wrapping_add(row * step[1]), odd.wrapping_add(row * step[1]))
            };
            // SAFETY: pairs below `pairs` exist on both sides, the last vector of pairs ends with the last pair; the rest is
            // below `counts`, or may be spilt to.
            unsafe {
                if pairs >= LANES {
                    let last = pairs - LANES;
                    for (from, even, odd) in (0..rows).map(row) {
                        let mut at = 0;
                        loop {
                            let (low, high) = (load(from.add(2 * at)), load(from.add(2 * at + LANES)));
                            let (first, second) = deinterleave(low, high);
                            store(even.add(at), first);
                            store(odd.add(at), second);
                            if at == last {
                                break;
                            }
                            at = (at + LANES).min(last);
                        }
                    }
                } else if pairs > 0 {
                    let [low_lanes, pair_lanes] = [(2 * pairs).min(LANES), pairs].map(|lanes| tail(lanes));
                    let more = (2 * pairs).saturating_sub(LANES);
                    let high_lanes = tail(more);
                    for (from, even, odd) in (0..rows).map(row) {
                        let low = load_tail(from, low_lanes);
                        let high = if more > 0 { load_tail(from.add(LANES), high_lanes) } else { splat(0.0) };
                        let (first, second) = deinterleave(low, high);
                        if spill {
                            store(even, first);
                            store(odd, second);
                        } else {
                            store_tail(even, pair_lanes, first);
                            store_tail(odd, pair_lanes, second);
                        }
                    }
                }
                // At most one side has one more, unless padding is wider than the row.
                if counts[0] != counts[1] {
                    for (from, even, odd) in (0..rows).map(row) {
                        for at in pairs..counts[0] {
                            even.add(at).write(*from.add(2 * at));
                        }
                        for at in pairs..counts[1] {
                            odd.add(at).write(*from.add(2 * at + 1));
                        }
                    }
                }
            }
        }
    };
}

pub(super) use window_copy;
