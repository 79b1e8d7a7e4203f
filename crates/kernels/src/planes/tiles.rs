//! The inner loop of every convolution: some vectors of pixels times groups of outputs, sums in registers.

use crate::Activation;

/// One pass of a tile: consecutive groups of outputs over one block of input channels.
pub(crate) struct Pass {
    /// Entries of each group.
    pub counts: *const u16,
    /// Number of groups.
    pub groups: usize,
    /// Lines from `x`, one per entry.
    pub offsets: *const u16,
    /// One per entry and output of the group; `i8` instead if `scales` is set.
    pub values: *const f32,
    /// One per output.
    pub bias: *const f32,
    /// One per output, or null.
    pub scales: *const f32,
    /// First pixel of the tile, plus the base of the block.
    pub x: *const f32,
    /// First pixel of the tile in the first output.
    pub y: *mut f32,
    /// Elements from one output to the next.
    pub stride: usize,
    /// As `y`, or null.
    pub residual: *const f32,
    /// The sums start here, and not from what an earlier block left in `y`.
    pub first: bool,
    /// Residual and activation follow.
    pub last: bool,
    /// Applied last.
    pub activation: Activation,
}

/// Every signed byte as a number, so that a byte becomes a broadcast from the first-level cache.
pub(crate) static BYTES: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte as u8 as i8 as f32;
        byte += 1;
    }
    table
};

/// Defines `pass` and `finish` for one instruction set: for each number of outputs per group, the numbers of vectors.
///
/// In scope of the caller: the names of one file of `crate::isa`.
macro_rules! planes_tiles {
    ($(#[$features:meta])* [$($group:literal: $($vectors:literal)*;)*]) => {
        /// Runs `pass` on a tile of `vectors` vectors with `group` outputs per entry.
        ///
        /// # Safety
        /// The CPU has the features. `counts` and `bias` (and `scales`) are readable for all groups and outputs, `offsets` and
        /// `values` for all entries that the counts add up to. From `x`, every offset leads to `vectors * LANES` readable
        /// elements; from `y` (writable and readable) and `residual` (readable) so does every output.
        $(#[$features])*
        pub(crate) unsafe fn pass(vectors: usize, group: usize, pass: &$crate::planes::tiles::Pass) {
            // SAFETY: by this function's contract, which is that of `tile`.
            unsafe {
                match (group, vectors, pass.scales.is_null()) {
                    $($(
                        ($group, $vectors, true) => tile::<$vectors, $group, false>(pass),
                        ($group, $vectors, false) => tile::<$vectors, $group, true>(pass),
                    )*)*
                    _ => unreachable!("no tile of {vectors} vectors for groups of {group}"),
                }
            }
        }

        /// # Safety
        /// As `pass`, for `V` vectors, `G` outputs per group and signed bytes if `BYTES`.
        $(#[$features])*
        unsafe fn tile<const V: usize, const G: usize, const BYTES: bool>(pass: &$crate::planes::tiles::Pass) {
            let mut offset = pass.offsets;
            let mut value = pass.values;
            let mut byte = pass.values.cast::<u8>();
            for group in 0..pass.groups {
                // SAFETY: `group` is below the groups whose counts are readable.
                let count = unsafe { pass.counts.add(group).read() } as usize;
                if count == 0 && !pass.first && !pass.last {
                    continue;
                }
                let output = group * G;
                // SAFETY: output `output + g` exists, since every group has `G` outputs; its `V` vectors are writable.
                let at = |g: usize, v: usize| unsafe { pass.y.add((output + g) * pass.stride + v * LANES) };
                let mut sums = [[splat(0.0); V]; G];
                for g in 0..G {
                    if !pass.first {
                        for v in 0..V {
                            // SAFETY: see `at`; an earlier block wrote these elements.
                            sums[g][v] = unsafe { load(at(g, v)) };
                        }
                    } else if !BYTES {
                        // SAFETY: one bias per output.
                        sums[g] = [splat(unsafe { pass.bias.add(output + g).read() }); V];
                    }
                }
                for _ in 0..count {
                    // SAFETY: one offset and `G` values per entry; the offset leads to `V` readable vectors.
                    unsafe {
                        let x = pass.x.add(offset.read() as usize * $crate::LINE);
                        offset = offset.add(1);
                        let mut weights = [splat(0.0); G];
                        for g in 0..G {
                            weights[g] = splat(if BYTES {
                                *$crate::planes::tiles::BYTES.get_unchecked(byte.add(g).read() as usize)
                            } else {
                                value.add(g).read()
                            });
                        }
                        if BYTES {
                            byte = byte.add(G);
                        } else {
                            value = value.add(G);
                        }
                        for v in 0..V {
                            let pixels = load(x.add(v * LANES));
                            for g in 0..G {
                                sums[g][v] = fma(weights[g], pixels, sums[g][v]);
                            }
                        }
                    }
                }
                if pass.last {
                    for g in 0..G {
                        if BYTES {
                            // SAFETY: one bias and one scale per output.
                            let (scale, bias) = unsafe {
                                (pass.scales.add(output + g).read(), pass.bias.add(output + g).read())
                            };
                            for v in 0..V {
                                sums[g][v] = fma(splat(scale), sums[g][v], splat(bias));
                            }
                        }
                        if !pass.residual.is_null() {
                            for v in 0..V {
                                let residual = (output + g) * pass.stride + v * LANES;
                                // SAFETY: the residual is laid out like `y`.
                                sums[g][v] = add(sums[g][v], unsafe { load(pass.residual.add(residual)) });
                            }
                        }
                        for v in 0..V {
                            sums[g][v] = activate(sums[g][v], pass.activation);
                        }
                    }
                }
                for g in 0..G {
                    for v in 0..V {
                        // SAFETY: see `at`.
                        unsafe { store(at(g, v), sums[g][v]) };
                    }
                }
            }
        }

        /// `y = act(x [+ residual])` for `rows` rows of `width` elements, `pitch` apart in `x` and `width` in `y`.
        ///
        /// # Safety
        /// The CPU has the features; `x` is readable for `(rows - 1) * pitch + width` elements, `y` writable and `residual`
        /// (or null) readable for `rows * width`.
        $(#[$features])*
        pub(crate) unsafe fn finish(
            x: *const f32, pitch: usize, y: *mut f32, residual: *const f32,
            rows: usize, width: usize, activation: $crate::Activation,
        ) {
            let full = width / LANES;
            let rest = width % LANES;
            let tail = tail(rest);
            for row in 0..rows {
                // SAFETY: row and column stay below `rows` and `width`, for which this function's contract holds.
                unsafe {
                    let x = x.add(row * pitch);
                    let y = y.add(row * width);
                    let residual = if residual.is_null() { residual } else { residual.add(row * width) };
                    for v in 0..full {
                        let mut sum = load(x.add(v * LANES));
                        if !residual.is_null() {
                            sum = add(sum, load(residual.add(v * LANES)));
                        }
                        store(y.add(v * LANES), activate(sum, activation));
                    }
                    if rest > 0 {
                        let mut sum = load_tail(x.add(full * LANES), tail);
                        if !residual.is_null() {
                            sum = add(sum, load_tail(residual.add(full * LANES), tail));
                        }
                        store_tail(y.add(full * LANES), tail, activate(sum, activation));
                    }
                }
            }
        }
    };
}

pub(crate) use planes_tiles;
