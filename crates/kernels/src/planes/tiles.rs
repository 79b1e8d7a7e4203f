//! The inner loop of every convolution: some vectors of pixels times groups of outputs, sums in registers.

use super::rows::Turn;
use crate::Activation;

/// One pass of a tile: the groups of outputs of one run over one block of input channels.
pub(crate) struct Pass {
    /// The groups in the order they are computed in.
    pub turns: *const Turn,
    /// Number of turns.
    pub groups: usize,
    /// From `x`, one per entry, in units.
    pub offsets: *const u16,
    /// A unit is two to the power of this many bytes.
    pub unit: u32,
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
    /// Where places lead from, in the first output.
    pub y: *mut f32,
    /// Elements from one output to the next in `y`.
    pub stride: usize,
    /// As `y`, or null.
    pub residual: *const f32,
    /// The place of the tile, if its pixels follow each other in the output; otherwise `places` say where they belong.
    pub whole: Option<usize>,
    /// Where the pixels of the tile belong.
    pub places: *const Place,
    /// Number of places.
    pub count: usize,
    /// Room for the sums of two groups that are finished but not in their places yet.
    pub finished: *mut f32,
    /// The sums start here, and not from what an earlier block left.
    pub first: bool,
    /// Residual and activation follow, and then the output.
    pub last: bool,
    /// Applied last.
    pub activation: Activation,
}

/// Where some pixels of a tile belong in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Place {
    /// Element of the output.
    pub element: usize,
    /// First pixel of the tile.
    pub first: u32,
    /// Number of pixels, a vector at most.
    pub count: u32,
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

/// An address in one register. Multiply-adds that add two registers up themselves take two of the processor's slots each:
/// 4 to 9 % of the time of a layer.
#[allow(clippy::pointers_in_nomem_asm_block, reason = "the address is all that matters; nothing is read or written")]
#[inline(always)]
pub(crate) fn in_one_register(address: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut address = address;
        // SAFETY: no instruction at all; the compiler only loses sight of how the address came about.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    address
}

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
        /// pixels of the place, or to `vectors * LANES` elements if the tile is whole. Unless it is, as many elements for two groups of
        /// outputs are writable in `finished`.
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
            for number in 0..pass.groups {
                // SAFETY: `number` is below the number of turns.
                let turn = unsafe { pass.turns.add(number).read() };
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
                let mut entries = turn.entries as usize;
                // four bytes become numbers at once: one by one, bytes would be slower than numbers
                if (BYTES || FOUR_AT_ONCE) && G == 1 && V > $crate::planes::tiles::FEW_SUMS {
                    for _ in 0..entries / 4 {
                        // SAFETY: four entries follow; each offset leads to `V` readable vectors.
                        unsafe {
                            let offsets = offset.cast::<[u16; 4]>().read();
                            let four = if BYTES { four_bytes(byte.cast()) } else { four_numbers(value) };
                            let mut entry = |weight: Vector, offset: u16| {
                                let x = pass.x.wrapping_byte_add((offset as usize) << (pass.unit & 31));
                                let x = $crate::planes::tiles::in_one_register(x);
                                for v in 0..V {
                                    sums[0][v] = fma(weight, load(x.add(v * LANES)), sums[0][v]);
                                }
                            };
                            entry(splat_nth::<0>(four), offsets[0]);
                            entry(splat_nth::<1>(four), offsets[1]);
                            entry(splat_nth::<2>(four), offsets[2]);
                            entry(splat_nth::<3>(four), offsets[3]);
                            offset = offset.add(4);
                            if BYTES {
                                byte = byte.add(4);
                            } else {
                                value = value.add(4);
                            }
                        }
                    }
                    entries %= 4;
                }
                // SAFETY: one offset and `G` values per entry; the offset leads to `V` readable vectors.
                let mut entry = |sums: &mut [[Vector; V]; G]| unsafe {
                    // the mask says that the shift is in range, which would be checked in every entry otherwise
                    let x = pass.x.wrapping_byte_add((offset.read() as usize) << (pass.unit & 31));
                    let x = $crate::planes::tiles::in_one_register(x);
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
                }
                let Some(whole) = pass.whole else {
                    // into their places one turn later, when the stores have reached the cache
                    let slot = pass.finished.wrapping_add(number % 2 * G * V * LANES);
                    for g in 0..G {
                        for v in 0..V {
                            // SAFETY: `finished` has room for the sums of two groups.
                            unsafe { store(slot.add((g * V + v) * LANES), sums[g][v]) };
                        }
                    }
                    if number > 0 {
                        let slot = pass.finished.wrapping_add((number - 1) % 2 * G * V * LANES);
                        // SAFETY: the turn before left its sums there.
                        unsafe { into_places(pass, number - 1, G, slot, V * LANES) };
                    }
                    continue;
                };
                for g in 0..G {
                    let row = (output + g) * pass.stride + whole;
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
                }
            }
            if pass.last && pass.whole.is_none() && pass.groups > 0 {
                let slot = pass.finished.wrapping_add((pass.groups - 1) % 2 * G * V * LANES);
                // SAFETY: the last turn left its sums there.
                unsafe { into_places(pass, pass.groups - 1, G, slot, V * LANES) };
            }
        }

        /// Adds the residual to the sums of the `outputs` outputs of a turn, applies the activation and stores them in their places.
        ///
        /// # Safety
        /// As `pass`; the sums of the outputs lie `pixels` elements apart from `sums` on.
        #[inline(never)]
        $(#[$features])*
        unsafe fn into_places(
            pass: &$crate::planes::tiles::Pass,
            turn: usize,
            outputs: usize,
            sums: *const f32,
            pixels: usize,
        ) {
            // SAFETY: `turn` is below the number of turns.
            let first = unsafe { pass.turns.add(turn).read() }.group as usize * outputs;
            for g in 0..outputs {
                let (row, sums) = ((first + g) * pass.stride, sums.wrapping_add(g * pixels));
                // one loop for each activation, without a choice inside
                // SAFETY: by this function's contract.
                unsafe {
                    match pass.activation {
                        $crate::Activation::None => rows(pass, row, sums, |x| x),
                        $crate::Activation::Relu => rows(pass, row, sums, |x| activate(x, $crate::Activation::Relu)),
                        other => rows(pass, row, sums, |x| activate(x, other)),
                    }
                }
            }
        }

        /// # Safety
        /// As `into_places`, for the output that begins with element `row`.
        $(#[$features])*
        #[inline]
        unsafe fn rows(
            pass: &$crate::planes::tiles::Pass,
            row: usize,
            sums: *const f32,
            activate: impl Fn(Vector) -> Vector,
        ) {
            let (y, residual) = (pass.y.wrapping_add(row), pass.residual.wrapping_add(row));
            // SAFETY: every place leads to readable elements of the residual and writable ones of the output, and its pixels are
            // pixels of the tile.
            unsafe {
                if pass.residual.is_null() {
                    for place in 0..pass.count {
                        let $crate::planes::tiles::Place { element, first, count } = pass.places.add(place).read();
                        let from = sums.add(first as usize);
                        if count as usize == LANES {
                            store(y.add(element), activate(load(from)));
                        } else {
                            let tail = tail(count as usize);
                            store_tail(y.add(element), tail, activate(load_tail(from, tail)));
                        }
                    }
                } else {
                    for place in 0..pass.count {
                        let $crate::planes::tiles::Place { element, first, count } = pass.places.add(place).read();
                        let from = sums.add(first as usize);
                        if count as usize == LANES {
                            store(y.add(element), activate(add(load(from), load(residual.add(element)))));
                        } else {
                            let tail = tail(count as usize);
                            let sum = add(load_tail(from, tail), load_tail(residual.add(element), tail));
                            store_tail(y.add(element), tail, activate(sum));
                        }
                    }
                }
            }
        }
    };
}

pub(crate) use planes_tiles;
