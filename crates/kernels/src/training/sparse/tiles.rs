//! The inner loop: vectors of one output channel, whose sums stay in registers, and the surviving weights that add to them.

/// Pieces of a tile, at most.
pub(super) const PIECES: usize = 8;

/// The survivors of one output channel within a chunk of source channels.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Turn {
    pub output: u32,
    pub entries: u32,
}

/// One tile and one chunk: what some output channels add to their sums.
pub(super) struct Pass<'a> {
    pub turns: &'a [Turn],
    /// As many as the turns say, one turn after the other: vectors from the tile's start in the source, shifted up by `bits`; below
    /// that the number of the tap.
    pub codes: *const u32,
    /// As many weights.
    pub values: *const f32,
    pub bits: u32,
    /// First vector of the tile at the first channel of the chunk.
    pub x: *const f32,
    /// Elements from there to each piece; within a piece vectors follow each other.
    pub x_pieces: &'a [usize; PIECES],
    /// First vector of the tile in output channel 0.
    pub y: *mut f32,
    /// Elements from there to each piece.
    pub y_pieces: &'a [usize; PIECES],
    /// Elements from one vector of a piece to the next.
    pub y_step: usize,
    /// Elements from one output channel to the next.
    pub y_channel: usize,
    /// Sums go on from what is there.
    pub load: bool,
    /// Where sums start otherwise, one per output channel; 0 if null.
    pub bias: *const f32,
}

/// Defines `WIDTHS` and `pass` for one instruction set: for each number of pieces, the numbers of vectors in a piece.
///
/// In scope of the caller: the names of one file of `crate::isa`.
macro_rules! sparse_tiles {
    ($(#[$features:meta])* [$($pieces:literal: $($width:literal)*;)*]) => {
        /// Vectors of a piece, at most, for 1, 2, 3, ... pieces.
        pub(super) const WIDTHS: &[usize] = &[$([$($width),*].len()),*];

        /// Runs `pass` on a tile of `pieces` pieces of `width` vectors.
        ///
        /// # Safety
        /// The CPU has the features. `codes` and `values` are readable as the turns count them. From `x`, every piece and code leads to `width` vectors that
        /// can be read; from `y`, every output of a turn and piece to as many, `y_step` apart, that nobody else uses. A
        /// bias that is not null has a number for every output of a turn.
        $(#[$features])*
        pub(super) unsafe fn pass(pieces: usize, width: usize, pass: &$crate::training::sparse::tiles::Pass<'_>) {
            // SAFETY: by this function's contract, which is that of `tile`.
            unsafe {
                match (pieces, width) {
                    $($(($pieces, $width) => tile::<$pieces, $width>(pass),)*)*
                    _ => unreachable!("no tile of {pieces} pieces of {width} vectors"),
                }
            }
        }

        /// # Safety
        /// As `pass`, for `A` pieces of `B` vectors.
        #[inline(never)]
        $(#[$features])*
        unsafe fn tile<const A: usize, const B: usize>(pass: &$crate::training::sparse::tiles::Pass<'_>) {
            let (mut codes, mut values) = (pass.codes, pass.values);
            let (start, y_step, bits) = (pass.x, pass.y_step, pass.bits & 31);
            let mut pieces = [0; A];
            for a in 0..A {
                pieces[a] = pass.x_pieces[a];
            }
            for turn in pass.turns {
                let y = pass.y.wrapping_add(turn.output as usize * pass.y_channel);
                let at = |a: usize, b: usize| y.wrapping_add(pass.y_pieces[a] + b * y_step);
                let mut sums = [[splat(0.0); B]; A];
                if pass.load {
                    for a in 0..A {
                        for b in 0..B {
                            // SAFETY: a vector of an output, by this function's contract.
                            sums[a][b] = unsafe { load(at(a, b)) };
                        }
                    }
                } else if !pass.bias.is_null() {
                    // SAFETY: one number for every output.
                    sums = [[splat(unsafe { pass.bias.add(turn.output as usize).read() }); B]; A];
                }
                for entry in 0..turn.entries as usize {
                    // SAFETY: codes and values are readable as the turns count them, and lead to vectors that are.
                    unsafe {
                        let (code, value) = (codes.add(entry).read(), values.add(entry).read());
                        let x = start.wrapping_byte_add((code >> bits) as usize * (LANES * size_of::<f32>()));
                        let weight = splat(value);
                        for a in 0..A {
                            let x = $crate::planes::tiles::in_one_register(x.wrapping_add(pieces[a]));
                            for b in 0..B {
                                sums[a][b] = fma(weight, load(x.add(b * LANES)), sums[a][b]);
                            }
                        }
                    }
                }
                // SAFETY: the end of what this turn read.
                (codes, values) = unsafe { (codes.add(turn.entries as usize), values.add(turn.entries as usize)) };
                for a in 0..A {
                    for b in 0..B {
                        // SAFETY: a vector of an output, by this function's contract.
                        unsafe { store(at(a, b), sums[a][b]) };
                    }
                }
            }
        }
    };
}

pub(super) use sparse_tiles;
