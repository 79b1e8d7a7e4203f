//! The inner loop of every convolution: some vectors of pixels times groups of outputs, sums in registers.

use super::rows::Turn;
use crate::Activation;

/// One pass of a tile: the groups of outputs of one run over one block of input channels.
pub(crate) struct Pass {
    /// The groups in the order they are computed in.
    pub turns: *const Turn,
    /// Number of turns.
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
    /// Where the sums of the first output wait between blocks; whole vectors.
    pub sums: *mut f32,
    /// Elements from one output to the next in `sums`.
    pub sums_stride: usize,
    /// Where `places` lead from, in the first output.
    pub y: *mut f32,
    /// Elements from one output to the next in `y`.
    pub stride: usize,
    /// As `y`, or null.
    pub residual: *const f32,
    /// For every vector of the tile, `segments` places.
    pub places: *const Place,
    /// Rows of the output that one vector spans; 0 when all vectors of the tile follow each other from `y` on.
    pub segments: usize,
    /// The sums start here, and not from what an earlier block left.
    pub first: bool,
    /// Residual and activation follow, and then the output.
    pub last: bool,
    /// Applied last.
    pub activation: Activation,
}

/// Where some lanes of a vector of pixels belong in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Element of lane 0, which may lie before the first.
    pub offset: isize,
    /// First lane.
    pub from: usize,
    /// One past the last lane.
    pub to: usize,
}

/// Fewer sums than this do not keep the multipliers busy: each waits four cycles for itself, two begin in each cycle.
pub(crate) const FEW_SUMS: usize = 6;

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

/// Defines `pass` for one instruction set: for each number of outputs per group, the numbers of vectors.
///
/// In scope of the caller: the names of one file of `crate::isa`.
macro_rules! planes_tiles {
    ($(#[$features:meta])* [$($group:literal: $($vectors:literal)*;)*]) => {
        /// Runs `pass` on a tile of `vectors` vectors with `group` outputs per entry.
        ///
        /// # Safety
        /// The CPU has the features. `turns` are readable, `bias` (and `scales`) for all outputs of their groups, `offsets` and `values`
        /// for all entries that the turns add up to. From `x`, every offset leads to `vectors * LANES` readable
        /// elements; from `sums`, unless there is one block only, every output to as many writable ones, which an earlier
        /// block has written unless `first`. From `y` (writable) and `residual` (readable), every output and place leads to the
        /// lanes of the place; without segments, every output to `vectors * LANES` elements.
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
            for turn in 0..pass.groups {
                // SAFETY: `turn` is below the number of turns.
                let turn = unsafe { pass.turns.add(turn).read() };
                let output = turn.group as usize * G;
                // only for outputs and vectors of this tile, and only between blocks
                let at = |g: usize, v: usize| pass.sums.wrapping_add((output + g) * pass.sums_stride + v * LANES);
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
                // SAFETY: one offset and `G` values per entry; the offset leads to `V` readable vectors.
                let mut entry = |sums: &mut [[Vector; V]; G]| unsafe {
                    let x = pass.x.add(offset.read() as usize * $crate::LINE);
                    offset = offset.add(1);
                    let weight = |g: usize| {
                        splat(if BYTES {
                            *$crate::planes::tiles::BYTES.get_unchecked(byte.add(g).read() as usize)
                        } else {
                            value.add(g).read()
                        })
                    };
                    // the fewer of the two stay in registers
                    if G <= V {
                        let mut weights = [splat(0.0); G];
                        for g in 0..G {
                            weights[g] = weight(g);
                        }
                        for v in 0..V {
                            let pixels = load(x.add(v * LANES));
                            for g in 0..G {
                                sums[g][v] = fma(weights[g], pixels, sums[g][v]);
                            }
                        }
                    } else {
                        let mut pixels = [splat(0.0); V];
                        for v in 0..V {
                            pixels[v] = load(x.add(v * LANES));
                        }
                        for g in 0..G {
                            let weight = weight(g);
                            for v in 0..V {
                                sums[g][v] = fma(weight, pixels[v], sums[g][v]);
                            }
                        }
                    }
                    if BYTES {
                        byte = byte.add(G);
                    } else {
                        value = value.add(G);
                    }
                };
                let entries = turn.entries as usize;
                // a few sums would wait for each other: every second entry has sums of its own
                if G * V <= $crate::planes::tiles::FEW_SUMS {
                    let mut others = [[splat(0.0); V]; G];
                    for _ in 0..entries / 2 {
                        entry(&mut sums);
                        entry(&mut others);
                    }
                    if entries % 2 == 1 {
                        entry(&mut sums);
                    }
                    for g in 0..G {
                        for v in 0..V {
                            sums[g][v] = add(sums[g][v], others[g][v]);
                        }
                    }
                } else {
                    for _ in 0..entries {
                        entry(&mut sums);
                    }
                }
                if !pass.last {
                    for g in 0..G {
                        for v in 0..V {
                            // SAFETY: see `at`; another block follows.
                            unsafe { store(at(g, v), sums[g][v]) };
                        }
                    }
                    continue;
                }
                for g in 0..G {
                    if BYTES {
                        // SAFETY: one scale per output.
                        let scale = splat(unsafe { pass.scales.add(output + g).read() });
                        // SAFETY: one bias per output.
                        let bias = splat(unsafe { pass.bias.add(output + g).read() });
                        for v in 0..V {
                            sums[g][v] = fma(scale, sums[g][v], bias);
                        }
                    }
                    let row = (output + g) * pass.stride;
                    if pass.segments == 0 {
                        for v in 0..V {
                            let mut sum = sums[g][v];
                            // SAFETY: the vectors of the tile follow each other in every output.
                            unsafe {
                                if !pass.residual.is_null() {
                                    sum = add(sum, load(pass.residual.add(row + v * LANES)));
                                }
                                store(pass.y.add(row + v * LANES), activate(sum, pass.activation));
                            }
                        }
                        continue;
                    }
                    // a copy, so that the loop below, which is not unrolled, leaves the sums themselves in registers
                    let finished = sums[g];
                    for v in 0..V {
                        for segment in 0..pass.segments {
                            // SAFETY: `segments` places per vector, whose lanes are accessible in every output.
                            unsafe {
                                let place = pass.places.add(v * pass.segments + segment).read();
                                let (from, to) = (place.from, place.to);
                                let y = pass.y.wrapping_add(row).wrapping_offset(place.offset);
                                let residual = pass.residual.wrapping_add(row).wrapping_offset(place.offset);
                                let mut sum = finished[v];
                                // most vectors are whole, which needs no mask
                                let whole = to - from == LANES;
                                if !pass.residual.is_null() {
                                    sum = add(sum, if whole { load(residual) } else { load_window(residual, from, to) });
                                }
                                sum = activate(sum, pass.activation);
                                if whole {
                                    store(y, sum);
                                } else {
                                    store_window(y, from, to, sum);
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}

pub(crate) use planes_tiles;
