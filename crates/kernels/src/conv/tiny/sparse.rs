//! Sparse rows, some side by side: a vector of pixels times one weight of each row in turn.

/// Some rows that take as many steps together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Rows of the layer; idle ones lie past its last.
    pub rows: [u16; super::MOST_ROWS],
    pub steps: u32,
}

/// Groups that follow each other in the streams of one block.
pub(super) struct Pass<'a> {
    pub groups: &'a [Group],
    /// One for every row of every step, in units of two elements from `x`.
    pub offsets: *const u16,
    /// As the offsets; `i8` instead if `bytes`.
    pub values: *const f32,
    pub bytes: bool,
    /// The block.
    pub x: *const f32,
    /// `[row][lanes of a position]`, from row 0 on.
    pub sums: *mut f32,
}

/// Defines `steps` for the vectors of one file of `crate::isa`.
macro_rules! tiny_sparse {
    ($(#[$features:meta])*) => {
        /// Adds what the groups hold, `R` rows of `V` vectors side by side: no sum waits for itself, and one branch ends them all.
        ///
        /// # Safety
        /// The CPU has the features. Offsets and values are readable for `R` rows of all steps; every offset leads to a position of
        /// `x`, every row to a sum; nothing else uses these sums.
        $(#[$features])*
        unsafe fn steps<const V: usize, const R: usize, const BYTES: bool>(call: &super::sparse::Pass) {
            let (mut offsets, mut values, mut bytes) = (call.offsets, call.values, call.values.cast::<u8>());
            for group in call.groups {
                let at = |r: usize, v: usize| call.sums.wrapping_add((group.rows[r] as usize * V + v) * LANES);
                // SAFETY: by this function's contract.
                unsafe {
                    let mut sums: [[Vector; V]; R] =
                        std::array::from_fn(|r| std::array::from_fn(|v| load(at(r, v))));
                    for _ in 0..group.steps {
                        for r in 0..R {
                            let x = call.x.add(2 * offsets.add(r).read() as usize);
                            let weight = splat(if BYTES {
                                *$crate::planes::tiles::BYTES.get_unchecked(bytes.add(r).read() as usize)
                            } else {
                                values.add(r).read()
                            });
                            for v in 0..V {
                                sums[r][v] = fma(weight, load(x.add(v * LANES)), sums[r][v]);
                            }
                        }
                        offsets = offsets.add(R);
                        if BYTES {
                            bytes = bytes.add(R);
                        } else {
                            values = values.add(R);
                        }
                    }
                    for r in 0..R {
                        for v in 0..V {
                            store(at(r, v), sums[r][v]);
                        }
                    }
                }
            }
        }
    };
}

pub(super) use tiny_sparse;
