//! Copying an image into the aligned copies that a convolution reads.

/// One vector of a copy's row: which lanes come from the image, and from which column lane 0 would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Image column of lane 0; negative inside the padding.
    pub column: isize,
    /// First lane inside the image.
    pub from: usize,
    /// One past the last lane inside the image.
    pub to: usize,
}

/// One row to fill: the image row, or null for padding.
pub(crate) struct RowCopy<'a> {
    pub windows: &'a [Window],
    /// Columns between lanes: the stride of the convolution.
    pub step: usize,
    /// First pixel of the image row, or null.
    pub from: *const f32,
    /// `windows.len() * LANES` elements.
    pub to: *mut f32,
}

/// Defines `fill_row` for one instruction set.
macro_rules! planes_fill {
    ($(#[$features:meta])*) => {
        /// Fills one row.
        ///
        /// # Safety
        /// The CPU has the features; `to` is writable for all windows, and from `from` (unless null) the columns
        /// `column + lane * step` of every lane in `from..to` of every window are readable.
        $(#[$features])*
        pub(crate) unsafe fn fill_row(row: &$crate::planes::fill::RowCopy<'_>) {
            for (v, window) in row.windows.iter().enumerate() {
                let (from, to) = (window.from, window.to);
                // lanes outside of the window are not read, so the pointer may lie outside of the image
                let at = row.from.wrapping_offset(window.column);
                let vector = if row.from.is_null() || from >= to {
                    splat(0.0)
                } else if row.step == 1 {
                    // SAFETY: the lanes `from..to` are readable by this function's contract.
                    unsafe { if from == 0 && to == LANES { load(at) } else { load_window(at, from, to) } }
                } else if row.step == 2 {
                    let part = |first: usize| {
                        let begin = (2 * from).clamp(first, first + LANES) - first;
                        let end = (2 * to - 1).clamp(first, first + LANES) - first;
                        // SAFETY: elements `2 * from ..= 2 * (to - 1)` lie between the first and the last readable column.
                        if begin < end { unsafe { load_window(at.wrapping_add(first), begin, end) } } else { splat(0.0) }
                    };
                    evens(part(0), part(LANES))
                } else {
                    let mut lanes = [0.0; LANES];
                    for (lane, value) in lanes.iter_mut().enumerate().take(to).skip(from) {
                        // SAFETY: `lane` lies in `from..to`.
                        *value = unsafe { at.wrapping_add(lane * row.step).read() };
                    }
                    // SAFETY: the array has `LANES` elements.
                    unsafe { load(lanes.as_ptr()) }
                };
                // SAFETY: `to` is writable for all windows.
                unsafe { store(row.to.add(v * LANES), vector) };
            }
        }
    };
}

pub(crate) use planes_fill;
