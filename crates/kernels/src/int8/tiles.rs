//! The inner loop: some vectors of pixels times some outputs, all sums in registers.

use crate::Activation;
use crate::dense::places::Place;

/// One group of outputs over one tile of pixels.
pub(super) struct Pass {
    /// Words from `x`, one per entry.
    pub offsets: *const u32,
    pub entries: usize,
    /// Four per entry and output of the group.
    pub weights: *const i8,
    /// First pixel of the tile.
    pub x: *const u32,
    /// Words from one vector to the next in `x`.
    pub x_step: usize,
    /// Added to every sum, one per output of the group that exists: what the zero point has added too much.
    pub corrections: *const i32,
    /// Factor of the zero point in `corrections`.
    pub zero: i32,
    /// Scale of the weights, one per output that exists.
    pub scales: *const f32,
    /// Scale of the input.
    pub scale: f32,
    /// One per output that exists.
    pub bias: *const f32,
    /// Outputs of the group that exist.
    pub outputs: usize,
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
    /// Applied last.
    pub activation: Activation,
}

/// Defines `SHAPES` and `pass` for one instruction set.
///
/// In scope of the caller: the names of one file of `crate::isa`, and `Sum` (integers, one per lane), `Pixels` (words), `Four` (the words of
/// four outputs), `none`, `no_pixels`, `pixels`,
/// `four`, `one`, `dot` (a sum, and the products of every pixel with word `N` of four) and `number` (sum and correction as numbers).
macro_rules! int8_tiles {
    ($(#[$features:meta])* [$($outputs:literal: $($vectors:literal)*;)*]) => {
        /// Outputs of a group and the most vectors per tile, largest group first.
        pub(super) const SHAPES: &[(usize, usize)] = &[$(($outputs, [$($vectors),*].len())),*];

        /// Runs `pass` on a tile of `vectors` vectors with a group of `outputs`.
        ///
        /// # Safety
        /// The CPU has the features. `offsets` is readable for `entries`, `weights` for four bytes times `outputs` times `entries`. From `x`,
        /// every offset leads to `vectors`, `x_step` apart, of `LANES` readable words each. For all outputs that exist, of which there are not more
        /// than `outputs`, `corrections`, `scales` and `bias` are readable, and from `y` (writable) and `residual` (readable), every place leads
        /// to the lanes of the place.
        $(#[$features])*
        pub(super) unsafe fn pass(vectors: usize, outputs: usize, pass: &$crate::int8::Pass) {
            // SAFETY: by this function's contract, which is that of `tile`.
            unsafe {
                // vectors that follow each other are loaded in pairs
                match (outputs, vectors, pass.x_step == LANES) {
                    $($(($outputs, $vectors, true) => tile::<$vectors, $outputs, true>(pass),)*)*
                    $($(($outputs, $vectors, false) => tile::<$vectors, $outputs, false>(pass),)*)*
                    _ => unreachable!("no tile of {vectors} vectors for groups of {outputs}"),
                }
            }
        }

        /// # Safety
        /// As `pass`, for `V` vectors, which follow each other if `NEXT`, and groups of `G` outputs.
        #[inline(never)]
        $(#[$features])*
        unsafe fn tile<const V: usize, const G: usize, const NEXT: bool>(pass: &$crate::int8::Pass) {
            let step = if NEXT { LANES } else { pass.x_step };
            let mut sums = [[none(); V]; G];
            let mut weights = pass.weights;
            for entry in 0..pass.entries {
                // SAFETY: one offset and `G` words per entry; the offset leads to `V` readable vectors.
                unsafe {
                    let x = pass.x.add(pass.offsets.add(entry).read() as usize);
                    let mut read = [no_pixels(); V];
                    for v in 0..V {
                        read[v] = pixels(x.add(v * step));
                    }
                    if G == 1 {
                        let words = one(weights);
                        for v in 0..V {
                            sums[0][v] = dot::<0>(sums[0][v], read[v], words);
                        }
                    } else {
                        for g in (0..G).step_by(4) {
                            let words = four(weights.add(4 * g));
                            for v in 0..V {
                                sums[g][v] = dot::<0>(sums[g][v], read[v], words);
                                sums[g + 1][v] = dot::<1>(sums[g + 1][v], read[v], words);
                                sums[g + 2][v] = dot::<2>(sums[g + 2][v], read[v], words);
                                sums[g + 3][v] = dot::<3>(sums[g + 3][v], read[v], words);
                            }
                        }
                    }
                    weights = weights.add(4 * G);
                }
            }
            // through memory, so that the loops over outputs and places leave the sums themselves in registers
            let mut integers = [[none(); V]; G];
            for g in 0..G {
                for v in 0..V {
                    integers[g][v] = sums[g][v];
                }
            }
            // SAFETY: by this function's contract.
            unsafe { finish::<V, G>(pass, &integers) }
        }

        /// # Safety
        /// As `pass`, with the sums of the group.
        #[inline(never)]
        $(#[$features])*
        unsafe fn finish<const V: usize, const G: usize>(pass: &$crate::int8::Pass, sums: &[[Sum; V]; G]) {
            for (output, sums) in sums.iter().enumerate().take(pass.outputs) {
                // SAFETY: one each per output that exists.
                let (correction, scale, bias) = unsafe {
                    (pass.corrections.add(output).read(), pass.scales.add(output).read(), pass.bias.add(output).read())
                };
                let (correction, scale, bias) = (correction.wrapping_mul(pass.zero), splat(scale * pass.scale), splat(bias));
                for (v, sum) in sums.iter().enumerate() {
                    // two roundings on every processor
                    let sum = add(mul(number(*sum, correction), scale), bias);
                    if let Some([first, step]) = pass.whole {
                        let at = output * pass.stride + first + v * step;
                        // SAFETY: all lanes of all vectors are accessible from `first` on in every output, also in the residual.
                        unsafe {
                            let added = if pass.residual.is_null() { sum } else { add(sum, load(pass.residual.wrapping_add(at))) };
                            store(pass.y.wrapping_add(at), activate(added, pass.activation));
                        }
                        continue;
                    }
                    for segment in 0..pass.segments {
                        // SAFETY: `segments` places per vector.
                        let place = unsafe { pass.places.add(v * pass.segments + segment).read() };
                        let (from, to) = (place.from as usize, place.to as usize);
                        if from == to {
                            continue;
                        }
                        let at = (output * pass.stride).wrapping_add_signed(place.offset as isize);
                        // SAFETY: the place's lanes are accessible in every output that exists.
                        unsafe {
                            let mut added = sum;
                            if !pass.residual.is_null() {
                                added = add(sum, load_window(pass.residual.wrapping_add(at), from, to));
                            }
                            store_window(pass.y.wrapping_add(at), from, to, activate(added, pass.activation));
                        }
                    }
                }
            }
        }
    };
}

pub(super) use int8_tiles;
