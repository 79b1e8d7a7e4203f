//! What the sparse and the dense kernel share: the input as a vector of pixels for every weight of an output, and the end of a row.

use super::MOST_PIXELS;
use crate::Activation;

/// Copying the input.
pub(super) struct Pick<'a> {
    /// First plane.
    pub x: *const f32,
    /// Elements from plane to plane.
    pub stride: usize,
    /// Pixels of a plane.
    pub pixels: usize,
    /// Number of planes.
    pub channels: usize,
    /// What is read of each.
    pub index: &'a [[i32; MOST_PIXELS]],
    /// Positions of a block, before each of which stands a position of zeros.
    pub per_block: usize,
    /// Where the first block goes.
    pub to: *mut f32,
}

/// Output rows to be finished.
pub(super) struct Finish<'a> {
    /// `[row][lanes of a position]`, from row 0 on.
    pub sums: *const f32,
    /// One per row, from row 0 on; without scales, sums have started there.
    pub bias: &'a [f32],
    pub scales: Option<&'a [f32]>,
    /// Row 0.
    pub y: *mut f32,
    /// As `y`, or null.
    pub residual: *const f32,
    pub stride: usize,
    /// Pixels of a row.
    pub pixels: usize,
    pub activation: Activation,
}

/// Sixteen numbers on a cache line.
#[repr(C, align(64))]
pub(super) struct Table(pub [f32; MOST_PIXELS]);

/// Defines `pick` and `finish` for the vectors of one file of `crate::isa`, with the numbers of vectors a position may have.
macro_rules! tiny_pixels {
    ($(#[$features:meta])* [$($vectors:literal $rows:literal);*]) => {
        /// Copies the pixels under every tap of every plane.
        ///
        /// # Safety
        /// The CPU has the features. Every plane is readable for its pixels, at most [`MOST_PIXELS`](super::MOST_PIXELS), which
        /// the indices stay below; `to` is writable for all positions of `vectors` vectors, those of zeros included.
        $(#[$features])*
        pub(super) unsafe fn pick(vectors: usize, call: &super::pixels::Pick<'_>) {
            // SAFETY: by this function's contract.
            unsafe {
                match vectors {
                    $($vectors => pick_vectors::<$vectors>(call),)*
                    _ => unreachable!("no kernel for {vectors} vectors a position"),
                }
            }
        }

        /// # Safety
        /// As [`pick`].
        $(#[$features])*
        unsafe fn pick_vectors<const V: usize>(call: &super::pixels::Pick<'_>) {
            let mut table = super::pixels::Table([0.0; super::MOST_PIXELS]);
            let (mut to, mut left) = (call.to, 0);
            for channel in 0..call.channels {
                for first in (0..call.pixels).step_by(LANES) {
                    let lanes = (call.pixels - first).min(LANES);
                    // SAFETY: these pixels of the plane are readable, and the table has whole vectors.
                    unsafe {
                        let at = call.x.add(channel * call.stride + first);
                        let pixels = if lanes == LANES { load(at) } else { load_tail(at, tail(lanes)) };
                        store(table.0.as_mut_ptr().add(first), pixels);
                    }
                }
                for index in call.index {
                    // SAFETY: `to` has room for every position and the zeros of every block; indices are below the pixels.
                    unsafe {
                        if left == 0 {
                            left = call.per_block;
                            for v in 0..V {
                                store(to.add(v * LANES), splat(0.0));
                            }
                            to = to.add(V * LANES);
                        }
                        left -= 1;
                        for v in 0..V {
                            store(to.add(v * LANES), lookup(table.0.as_ptr(), index.as_ptr().add(v * LANES)));
                        }
                        to = to.add(V * LANES);
                    }
                }
            }
        }

        /// Scale and bias, residual and activation of the rows `rows`.
        ///
        /// # Safety
        /// The CPU has the features. From `sums`, every row has `vectors` vectors; in `y` and a residual that is not null, every row
        /// has `pixels` elements, at most those of the vectors; nothing else uses them in `y`.
        $(#[$features])*
        pub(super) unsafe fn finish(vectors: usize, rows: std::ops::Range<usize>, call: &super::pixels::Finish<'_>) {
            for row in rows {
                let scaled = call.scales.map(|scales| (splat(scales[row]), splat(call.bias[row])));
                for first in (0..call.pixels).step_by(LANES) {
                    let (at, lanes) = (row * call.stride + first, (call.pixels - first).min(LANES));
                    // SAFETY: by this function's contract.
                    unsafe {
                        let sum = load(call.sums.add(row * vectors * LANES + first));
                        let mut y = match scaled {
                            Some((scale, bias)) => fma(scale, sum, bias),
                            None => sum,
                        };
                        if !call.residual.is_null() {
                            let residual = call.residual.add(at);
                            y = add(y, if lanes == LANES { load(residual) } else { load_tail(residual, tail(lanes)) });
                        }
                        let (y, to) = (activate(y, call.activation), call.y.add(at));
                        if lanes == LANES { store(to, y) } else { store_tail(to, tail(lanes), y) }
                    }
                }
            }
        }

        /// Adds the products of `call` with `vectors` vectors a position.
        ///
        /// # Safety
        /// As `steps`, for the rows that go with `vectors`.
        $(#[$features])*
        pub(super) unsafe fn pass(vectors: usize, call: &super::sparse::Pass) {
            // SAFETY: by this function's contract.
            unsafe {
                match (vectors, call.bytes) {
                    $(
                        ($vectors, false) => steps::<$vectors, $rows, false>(call),
                        ($vectors, true) => steps::<$vectors, $rows, true>(call),
                    )*
                    _ => unreachable!("no kernel for {vectors} vectors a position"),
                }
            }
        }
    };
}

pub(super) use tiny_pixels;
