//! The inner loop: some vectors of pixels times some outputs, all sums in registers.

use super::places::Place;
use crate::Activation;

/// One pass of a tile: consecutive groups of outputs over one block of input channels.
pub(crate) struct Pass {
    /// Elements from `x`, one per entry.
    pub offsets: *const u32,
    /// Entries of every group.
    pub entries: usize,
    /// Number of groups.
    pub groups: usize,
    /// One per entry and output of the group, group after group.
    pub weights: *const f32,
    /// One per output.
    pub bias: *const f32,
    /// First pixel of the tile in the block.
    pub x: *const f32,
    /// Elements from one vector to the next in `x`.
    pub x_step: usize,
    /// Where the sums of the first output wait between blocks; whole vectors, one after another.
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
    /// Rows of the output that one vector spans, at most.
    pub segments: usize,
    /// Where the first vector belongs, and how far from it the next, if all lanes of all vectors belong together.
    pub whole: Option<[usize; 2]>,
    /// The sums start here, and not from what an earlier block left.
    pub first: bool,
    /// Residual and activation follow, and then the output.
    pub last: bool,
    /// Applied last.
    pub activation: Activation,
}

/// Bytes of weights that are asked for before they are needed: a page, which processors do not look beyond by themselves.
pub(crate) const AHEAD: usize = 4096;

/// Defines `SHAPES` and `pass` for one instruction set: for each number of outputs per group, the numbers of vectors.
///
/// In scope of the caller: the names of one file of `crate::isa`.
macro_rules! dense_tiles {
    ($(#[$features:meta])* [$($outputs:literal: $($vectors:literal)*;)*]) => {
        /// Outputs of a group and the most vectors per tile, largest group first.
        pub(crate) const SHAPES: &[(usize, usize)] = &[$(($outputs, [$($vectors),*].len())),*];

        /// Runs `pass` on a tile of `vectors` vectors with groups of `outputs`.
        ///
        /// # Safety
        /// The CPU has the features. `bias` is readable for all outputs, `offsets` for `entries`, `weights` for all outputs times
        /// `entries`. From `x`, every offset leads to `vectors`, `x_step` apart, of `LANES` readable elements each; from `sums`, unless there is one block
        /// only, every output to as many writable ones, which an earlier block has written unless
        /// `first`. From `y` (writable) and `residual` (readable), every output and place leads to the lanes of the place.
        $(#[$features])*
        pub(crate) unsafe fn pass(vectors: usize, outputs: usize, pass: &$crate::dense::tiles::Pass) {
            // SAFETY: by this function's contract, which is that of `tile`.
            unsafe {
                match (outputs, vectors) {
                    $($(($outputs, $vectors) => tile::<$vectors, $outputs>(pass),)*)*
                    _ => unreachable!("no tile of {vectors} vectors for groups of {outputs}"),
                }
            }
        }

        /// # Safety
        /// As `pass`, for `V` vectors and `G` outputs per group.
        #[inline(never)]
        $(#[$features])*
        unsafe fn tile<const V: usize, const G: usize>(pass: &$crate::dense::tiles::Pass) {
            let mut weights = pass.weights;
            for group in 0..pass.groups {
                let output = group * G;
                // only between blocks
                let at = |g: usize, v: usize| pass.sums.wrapping_add((output + g) * pass.sums_stride + v * LANES);
                let mut sums = [[splat(0.0); V]; G];
                for g in 0..G {
                    if pass.first {
                        // SAFETY: one bias per output.
                        sums[g] = [splat(unsafe { pass.bias.add(output + g).read() }); V];
                    } else {
                        for v in 0..V {
                            // SAFETY: an earlier block wrote these elements.
                            sums[g][v] = unsafe { load(at(g, v)) };
                        }
                    }
                }
                for entry in 0..pass.entries {
                    prefetch(weights.wrapping_byte_add($crate::dense::tiles::AHEAD));
                    // SAFETY: one offset and `G` weights per entry; the offset leads to `V` readable vectors.
                    unsafe {
                        let x = pass.x.add(pass.offsets.add(entry).read() as usize);
                        // the fewer of the two stay in registers
                        if G < V {
                            let mut factors = [splat(0.0); G];
                            for g in 0..G {
                                factors[g] = splat(weights.add(g).read());
                            }
                            for v in 0..V {
                                let pixels = load(x.add(v * pass.x_step));
                                for g in 0..G {
                                    sums[g][v] = fma(factors[g], pixels, sums[g][v]);
                                }
                            }
                        } else {
                            let mut pixels = [splat(0.0); V];
                            for v in 0..V {
                                pixels[v] = load(x.add(v * pass.x_step));
                            }
                            for g in 0..G {
                                let factor = splat(weights.add(g).read());
                                for v in 0..V {
                                    sums[g][v] = fma(factor, pixels[v], sums[g][v]);
                                }
                            }
                        }
                        weights = weights.add(G);
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
                let start = |g: usize| (output + g) * pass.stride;
                match (pass.whole, pass.activation.bounds()) {
                    (Some([first, step]), Some((min, max))) if pass.residual.is_null() => {
                        for g in 0..G {
                            for v in 0..V {
                                let sum = activate(sums[g][v], $crate::Activation::Clip { min, max });
                                // SAFETY: all lanes of all vectors are accessible from `first` on in every output.
                                unsafe { store(pass.y.wrapping_add(start(g) + first + v * step), sum) };
                            }
                        }
                    }
                    (Some([first, step]), Some((min, max))) => {
                        for g in 0..G {
                            for v in 0..V {
                                // SAFETY: as above, also in the residual.
                                unsafe {
                                    let sum = add(sums[g][v], load(pass.residual.wrapping_add(start(g) + first + v * step)));
                                    let sum = activate(sum, $crate::Activation::Clip { min, max });
                                    store(pass.y.wrapping_add(start(g) + first + v * step), sum);
                                }
                            }
                        }
                    }
                    _ => {
                        // through memory, so that the loops over places leave the sums themselves in registers
                        let mut finished = [[splat(0.0); V]; G];
                        for g in 0..G {
                            for v in 0..V {
                                finished[g][v] = sums[g][v];
                            }
                        }
                        // SAFETY: by this function's contract.
                        unsafe { finish::<V, G>(pass, output, &finished) }
                    }
                }
            }
        }

        /// # Safety
        /// As `pass`, for the group of outputs from `output` on.
        #[inline(never)]
        $(#[$features])*
        unsafe fn finish<const V: usize, const G: usize>(
            pass: &$crate::dense::tiles::Pass, output: usize, sums: &[[Vector; V]; G],
        ) {
            for v in 0..V {
                for segment in 0..pass.segments {
                    // SAFETY: `segments` places per vector.
                    let place = unsafe { pass.places.add(v * pass.segments + segment).read() };
                    let (from, to) = (place.from as usize, place.to as usize);
                    if from == to {
                        continue;
                    }
                    for g in 0..G {
                        let at = ((output + g) * pass.stride).wrapping_add_signed(place.offset as isize);
                        // SAFETY: the place's lanes are accessible in every output.
                        unsafe {
                            let mut sum = sums[g][v];
                            if !pass.residual.is_null() {
                                sum = add(sum, load_window(pass.residual.wrapping_add(at), from, to));
                            }
                            store_window(pass.y.wrapping_add(at), from, to, activate(sum, pass.activation));
                        }
                    }
                }
            }
        }
    };
}

pub(crate) use dense_tiles;
