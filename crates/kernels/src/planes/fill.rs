//! Copying an image into the copies that a convolution reads.

use std::sync::Arc;

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

impl Window {
    /// The vectors of a row of `pitch` columns, of which the first `count` lie `step` image columns apart from column `start` on, as far
    /// as the image of `width` columns reaches; the others are padding.
    pub fn row(pitch: usize, count: usize, start: isize, step: usize, width: usize, lanes: usize) -> Vec<Self> {
        let inside = |j: usize| {
            let at = start + (j * step) as isize;
            j < count && at >= 0 && at < width as isize
        };
        let window = |first: usize| {
            let from = (0..lanes).find(|lane| inside(first + lane)).unwrap_or(lanes);
            let to = (from..lanes).find(|lane| !inside(first + lane)).unwrap_or(lanes);
            Self { column: start + (first * step) as isize, from, to }
        };
        (0..pitch).step_by(lanes).map(window).collect()
    }
}

/// One copy of a piece: rows of zeros, rows of the image, rows of zeros; the same of every channel.
#[derive(Clone, Debug)]
pub(crate) struct RowCopies {
    /// The vectors of a row.
    pub windows: Arc<[Window]>,
    /// First element within the copies of a channel.
    pub to: usize,
    /// Elements of zeros that come first.
    pub above: usize,
    /// Rows from the image.
    pub rows: usize,
    /// Elements of zeros that come last.
    pub below: usize,
    /// First pixel of the first image row.
    pub from: usize,
}

/// What to copy, of every channel.
pub(crate) struct Filling<'a> {
    /// In the order they lie in: what is written past the end of one, the next overwrites.
    pub copies: &'a [RowCopies],
    /// For every channel, a bit per copy; the last bit stands for all further ones.
    pub needed: &'a [u64],
    /// Columns between lanes: the stride of the convolution.
    pub step: usize,
    /// The image, and elements from one of its channels to the next and from one of the copied rows to the next.
    pub from: *const f32,
    pub from_channel: usize,
    pub from_row: usize,
    /// The copies of the first channel; elements from one channel to the next, and from one row to the next (more than
    /// `(windows.len() - 1) * LANES`).
    pub to: *mut f32,
    pub to_channel: usize,
    pub to_row: usize,
}

/// Defines `fill` for one instruction set.
///
/// In scope of the caller: the names of one file of `crate::isa`. `each` says how the loop over the rows is compiled: with few
/// general registers it is a function of its own, as its addresses would wait in memory otherwise.
macro_rules! planes_fill {
    ($(#[$features:meta])*) => {
        $crate::planes::fill::planes_fill!($(#[$features])*; each #[inline]);
    };
    ($(#[$features:meta])*; each #[$each:meta]) => {
        /// Makes all copies of all channels.
        ///
        /// # Safety
        /// The CPU has the features; a vector past the end of the last copy is writable; in every image row copied, the columns
        /// `column + lane * step` of every lane in `from..to` of every window are readable.
        $(#[$features])*
        pub(crate) unsafe fn fill(filling: &$crate::planes::fill::Filling<'_>) {
            for (channel, needed) in filling.needed.iter().enumerate() {
                let from = filling.from.wrapping_add(channel * filling.from_channel);
                let to = filling.to.wrapping_add(channel * filling.to_channel);
                for (index, copy) in filling.copies.iter().enumerate() {
                    if needed & (1 << index.min(63)) == 0 {
                        continue;
                    }
                    let (from, to) = (from.wrapping_add(copy.from), to.wrapping_add(copy.to));
                    let rows = to.wrapping_add(copy.above);
                    // SAFETY: by this function's contract.
                    unsafe {
                        zeros(to, copy.above);
                        fill_rows(filling, copy, from, rows);
                        zeros(rows.wrapping_add(copy.rows * filling.to_row), copy.below);
                    }
                }
            }
        }

        /// Writes at least `len` zeros, whole vectors at a time.
        ///
        /// # Safety
        /// They are writable.
        $(#[$features])*
        #[inline]
        unsafe fn zeros(to: *mut f32, len: usize) {
            for at in (0..len).step_by(LANES) {
                // SAFETY: by this function's contract.
                unsafe { store(to.add(at), splat(0.0)) };
            }
        }

        /// Stores `vector(first pixel)` as vector `v` of every row.
        ///
        /// # Safety
        /// As `fill_rows`; `vector` may be called for every row of the image from `image` on.
        $(#[$features])*
        #[$each]
        unsafe fn each(
            filling: &$crate::planes::fill::Filling<'_>,
            rows: usize,
            image: *const f32,
            to: *mut f32,
            vector: impl Fn(*const f32) -> Vector,
        ) {
            let mut done = 0;
            if ROWS_AT_ONCE > 1 {
                for first in (0..rows / ROWS_AT_ONCE).map(|several| several * ROWS_AT_ONCE) {
                    let vectors: [Vector; ROWS_AT_ONCE] =
                        std::array::from_fn(|row| vector(image.wrapping_add((first + row) * filling.from_row)));
                    for (row, vector) in vectors.into_iter().enumerate() {
                        // SAFETY: as below.
                        unsafe { store(to.add((first + row) * filling.to_row), vector) };
                    }
                }
                done = rows / ROWS_AT_ONCE * ROWS_AT_ONCE;
            }
            for row in done..rows {
                let vector = vector(image.wrapping_add(row * filling.from_row));
                // SAFETY: every row of `to` is writable for all windows.
                unsafe { store(to.add(row * filling.to_row), vector) };
            }
        }

        /// Fills the rows of one copy that lie in the image, whole vectors at a time.
        ///
        /// # Safety
        /// As `fill`, with the first row of the image and of the copy.
        $(#[$features])*
        #[inline]
        unsafe fn fill_rows(
            filling: &$crate::planes::fill::Filling<'_>,
            copy: &$crate::planes::fill::RowCopies,
            from: *const f32,
            to: *mut f32,
        ) {
            let (image, rows, step) = (from, copy.rows, filling.step);
            // from the last vector to the first: what one writes past the end of its row, the first of the next row overwrites
            for (v, window) in copy.windows.iter().enumerate().rev() {
                let to_vector = to.wrapping_add(v * LANES);
                let (from, to) = (window.from, window.to);
                // lanes outside of the window are not read, so the pointer may lie outside of the image
                let image = image.wrapping_offset(window.column);
                if from >= to {
                    // SAFETY: nothing is read.
                    unsafe { each(filling, rows, image, to_vector, |_| splat(0.0)) };
                } else if step == 1 && from == 0 && to == LANES {
                    // SAFETY: all lanes are readable by this function's contract.
                    unsafe { each(filling, rows, image, to_vector, |at| load(at)) };
                } else if step == 1 {
                    // SAFETY: the lanes `from..to` are readable by this function's contract.
                    unsafe { each(filling, rows, image, to_vector, |at| load_window(at, from, to)) };
                } else if step == 2 {
                    // elements `2 * from ..= 2 * (to - 1)` of two vectors, of which every second is kept
                    let part = |first: usize| {
                        let begin = (2 * from).clamp(first, first + LANES) - first;
                        let end = (2 * to - 1).clamp(first, first + LANES) - first;
                        (begin.min(end), end)
                    };
                    let (low, high) = (part(0), part(LANES));
                    // SAFETY: these elements lie between the first and the last readable column.
                    unsafe {
                        each(filling, rows, image, to_vector, |at| {
                            evens(load_window(at, low.0, low.1), load_window(at.wrapping_add(LANES), high.0, high.1))
                        })
                    };
                } else if step == 4 {
                    // the same of four vectors
                    let part = |first: usize| {
                        let begin = (4 * from).clamp(first, first + LANES) - first;
                        let end = (4 * to - 3).clamp(first, first + LANES) - first;
                        (begin.min(end), end)
                    };
                    let parts = [part(0), part(LANES), part(2 * LANES), part(3 * LANES)];
                    // SAFETY: these elements lie between the first and the last readable column.
                    unsafe {
                        each(filling, rows, image, to_vector, |at| {
                            let read = |i: usize| load_window(at.wrapping_add(i * LANES), parts[i].0, parts[i].1);
                            evens(evens(read(0), read(1)), evens(read(2), read(3)))
                        })
                    };
                } else {
                    // SAFETY: only lanes in `from..to` are read; the array has `LANES` elements.
                    unsafe {
                        each(filling, rows, image, to_vector, |at| {
                            let mut lanes = [0.0; LANES];
                            for (lane, value) in lanes.iter_mut().enumerate().take(to).skip(from) {
                                *value = at.wrapping_add(lane * step).read();
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
