//! Copying an image into the aligned copies that a convolution reads.

/// One vector of a copy's rows: which lanes come from the image, and from which column lane 0 would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Image column of lane 0; negative inside the padding.
    pub column: isize,
    /// First lane inside the image.
    pub from: usize,
    /// One past the last lane inside the image.
    pub to: usize,
}

/// Rows to fill, all of them inside the image.
pub(crate) struct RowCopies<'a> {
    pub windows: &'a [Window],
    /// Columns between lanes: the stride of the convolution.
    pub step: usize,
    /// Number of rows.
    pub rows: usize,
    /// First pixel of the first image row.
    pub from: *const f32,
    /// Elements from one image row to the next one copied.
    pub from_stride: usize,
    /// First element of the first copied row.
    pub to: *mut f32,
    /// Elements from one copied row to the next, more than `(windows.len() - 1) * LANES`.
    pub to_stride: usize,
}

/// Defines `fill_rows` for one instruction set.
macro_rules! planes_fill {
    ($(#[$features:meta])*) => {
        /// Stores `vector(first pixel)` as vector `v` of every row.
        ///
        /// # Safety
        /// As `fill_rows`; `vector` may be called for every row of the image from `image` on.
        $(#[$features])*
        #[inline]
        unsafe fn each(
            copies: &$crate::planes::fill::RowCopies<'_>, v: usize, image: *const f32, vector: impl Fn(*const f32) -> Vector,
        ) {
            for row in 0..copies.rows {
                let vector = vector(image.wrapping_add(row * copies.from_stride));
                // SAFETY: every row of `to` is writable for all windows.
                unsafe { store(copies.to.add(row * copies.to_stride + v * LANES), vector) };
            }
        }

        /// Fills rows, whole vectors at a time.
        ///
        /// # Safety
        /// The CPU has the features; every row of `to` is writable for `windows.len() * LANES` elements, and in every image row
        /// the columns `column + lane * step` of every lane in `from..to` of every window are readable.
        $(#[$features])*
        pub(crate) unsafe fn fill_rows(copies: &$crate::planes::fill::RowCopies<'_>) {
            // from the last vector to the first: what one writes past the end of its row, the first of the next row overwrites
            for (v, window) in copies.windows.iter().enumerate().rev() {
                let (from, to) = (window.from, window.to);
                // lanes outside of the window are not read, so the pointer may lie outside of the image
                let image = copies.from.wrapping_offset(window.column);
                if from >= to {
                    // SAFETY: nothing is read.
                    unsafe { each(copies, v, image, |_| splat(0.0)) };
                } else if copies.step == 1 && from == 0 && to == LANES {
                    // SAFETY: all lanes are readable by this function's contract.
                    unsafe { each(copies, v, image, |at| load(at)) };
                } else if copies.step == 1 {
                    // SAFETY: the lanes `from..to` are readable by this function's contract.
                    unsafe { each(copies, v, image, |at| load_window(at, from, to)) };
                } else if copies.step == 2 {
                    // elements `2 * from ..= 2 * (to - 1)` of two vectors, of which every second is kept
                    let part = |first: usize| {
                        let begin = (2 * from).clamp(first, first + LANES) - first;
                        let end = (2 * to - 1).clamp(first, first + LANES) - first;
                        (begin.min(end), end)
                    };
                    let (low, high) = (part(0), part(LANES));
                    // SAFETY: these elements lie between the first and the last readable column.
                    unsafe {
                        each(copies, v, image, |at| {
                            evens(load_window(at, low.0, low.1), load_window(at.wrapping_add(LANES), high.0, high.1))
                        })
                    };
                } else {
                    // SAFETY: only lanes in `from..to` are read; the array has `LANES` elements.
                    unsafe {
                        each(copies, v, image, |at| {
                            let mut lanes = [0.0; LANES];
                            for (lane, value) in lanes.iter_mut().enumerate().take(to).skip(from) {
                                *value = at.wrapping_add(lane * copies.step).read();
                            }
                            load(lanes.as_ptr())
                        })
                    };
                }
            }
        }
    };
}

pub(crate) use planes_fill;
