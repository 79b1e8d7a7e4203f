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
            let (height, width) = (window.input.height, window.input.width);
            for local in 0..(rows - 1) * down + window.span + 1 {
                let padded = first * down + local;
                let row = window.origin + local % down * right * window.phase_len + local / down * window.pitch;
                let inside = padded >= window.top && padded - window.top < height;
                if !inside {
                    // Padding rows of a plane in one piece are never overwritten.
                    if !window.one_band() {
                        for (phase, [from, until]) in window.columns.iter().enumerate() {
                            for column in *from..*until {
                                // SAFETY: a phase has `phase_len` elements, in which the plan gave every row `pitch`.
                                unsafe { to.add(row + phase * window.phase_len + column).write(window.padding) };
                            }
                        }
                    }
                    continue;
                }
                // SAFETY: the row lies inside the plane by the line above; `columns` holds only elements that lie inside
                // of a row of `to` and come from the `width` pixels of a row of the plane, by `Window::plan`.
                unsafe {
                    let pixels = plane.add((padded - window.top) * width);
                    let row = to.add(row);
                    match right {
                        1 => {
                            let [from, until] = window.columns[0];
                            copy_row(pixels, row.add(from), until - from);
                        }
                        2 => {
                            let (phase, left) = (window.left % 2, window.left);
                            let ([_, even], [_, odd]) = (window.columns[phase], window.columns[1 - phase]);
                            let (even_from, odd_from) = (left / 2, left.div_ceil(2));
                            split_row(
                                pixels,
                                row.add(phase * window.phase_len).wrapping_add(even_from),
                                even.saturating_sub(even_from),
                                row.add((1 - phase) * window.phase_len).wrapping_add(odd_from),
                                odd.saturating_sub(odd_from),
                            );
                        }
                        _ => {
                            for (phase, [from, until]) in window.columns.iter().enumerate() {
                                for column in *from..*until {
                                    let pixel = *pixels.add(column * right + phase - window.left);
                                    row.add(phase * window.phase_len + column).write(pixel);
                                }
                            }
                        }
                    }
                }
            }
        }

        /// # Safety
        /// The CPU has the features; `count` elements are readable at `from` and writable at `to`.
        $(#[$features])?
        unsafe fn copy_row(from: *const f32, to: *mut f32, count: usize) {
            // SAFETY: every element touched is below `count`.
            unsafe {
                if count < LANES {
                    if count > 0 {
                        store_tail(to, tail(count), load_tail(from, tail(count)));
                    }
                    return;
                }
                let mut at = 0;
                while at + LANES <= count {
                    store(to.add(at), load(from.add(at)));
                    at += LANES;
                }
                if at < count {
                    let last = count - LANES;
                    store(to.add(last), load(from.add(last)));
                }
            }
        }

        /// Pixels 0, 2, 4, ... to `even`, pixels 1, 3, 5, ... to `odd`.
        ///
        /// # Safety
        /// The CPU has the features; `evens` and `odds` elements are writable at `even` and `odd`, and the pixels that become
        /// them are readable.
        $(#[$features])?
        unsafe fn split_row(from: *const f32, even: *mut f32, evens: usize, odd: *mut f32, odds: usize) {
            let pairs = evens.min(odds);
            let mut at = 0;
            // SAFETY: `at + LANES <= pairs` pairs exist on both sides; the rest goes one by one.
            unsafe {
                while at + LANES <= pairs {
                    let (first, second) = deinterleave(load(from.add(2 * at)), load(from.add(2 * at + LANES)));
                    store(even.add(at), first);
                    store(odd.add(at), second);
                    at += LANES;
                }
                let rest = pairs - at;
                if 2 * rest > LANES {
                    let lanes = tail(2 * rest - LANES);
                    let (first, second) =
                        deinterleave(load(from.add(2 * at)), load_tail(from.add(2 * at + LANES), lanes));
                    store_tail(even.add(at), tail(rest), first);
                    store_tail(odd.add(at), tail(rest), second);
                } else if rest > 0 {
                    let (first, second) = deinterleave(load_tail(from.add(2 * at), tail(2 * rest)), splat(0.0));
                    store_tail(even.add(at), tail(rest), first);
                    store_tail(odd.add(at), tail(rest), second);
                }
                for at in pairs..evens {
                    even.add(at).write(*from.add(2 * at));
                }
                for at in pairs..odds {
                    odd.add(at).write(*from.add(2 * at + 1));
                }
            }
        }
    };
}

pub(super) use window_copy;
