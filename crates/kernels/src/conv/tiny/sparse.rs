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
            let (mut offsets, mut values, mut bytes) = (call.offsets, call.values, call.values.cast::<i8>());
            // Bytes of a step become numbers together where vectors are short (2x2, 90 % zeros: 88 us, and 92 with a table), else one
            // by one through a table (4x4: 130 us, and 210 with AVX-512 together: a vector of bytes is longer than a step).
            let together = LANES < R && R.is_multiple_of(LANES);
            for group in call.groups {
                let at = |r: usize, v: usize| call.sums.wrapping_add((group.rows[r] as usize * V + v) * LANES);
                // SAFETY: by this function's contract.
                unsafe {
                    let mut sums: [[Vector; V]; R] =
                        std::array::from_fn(|r| std::array::from_fn(|v| load(at(r, v))));
                    for _ in 0..group.steps {
                        let mut numbers = std::mem::MaybeUninit::<[f32; super::MOST_ROWS]>::uninit();
                        if BYTES && together {
                            for first in (0..R).step_by(LANES) {
                                store(numbers.as_mut_ptr().cast::<f32>().add(first), load_bytes(bytes.add(first)));
                            }
                        }
                        let weights = if BYTES && together { numbers.as_ptr().cast::<f32>() } else { values };
                        for r in 0..R {
                            let x = call.x.add(2 * offsets.add(r).read() as usize);
                            let weight = splat(if BYTES && !together {
                                *$crate::planes::tiles::BYTES.get_unchecked(bytes.add(r).read() as u8 as usize)
                            } else {
                                weights.add(r).read()
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
