//! The loops of [`super::one_pixel`] that every instruction set shares.

/// A block of images whose features are to lie side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// At most a vector; what is missing becomes 0.
    pub features: usize,
    /// From the features of one lane to those of the next one in the order of sums, in elements.
    pub lane: usize,
}

/// Weights of `outputs` output channels times a panel of features.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    pub outputs: usize,
    pub vectors: usize,
    /// Features in the last vector, at least one.
    pub last: usize,
    pub blocks: usize,
    /// From one block's gradient to the next one's, in elements.
    pub gy_block: usize,
    /// From one output channel's weights to the next one's.
    pub gw_output: usize,
}

/// Makes the functions of one instruction set; `tiles` are all pairs of outputs and vectors up to its largest.
macro_rules! panel_kernels {
    ($($features:literal)?, tiles [$(($m:literal, $k:literal))*]) => {
        /// Writes a block's features of lane after lane, in the order in which the lanes' sums are needed.
        ///
        /// # Safety
        /// The CPU has the features. Vectors of all features of the call are readable at `x`, and a vector is writable for every
        /// lane at `to`.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn turn(call: Turn, x: *const f32, to: *mut f32) {
            let mut rows = [splat(0.0); LANES];
            // SAFETY: no more vectors than features, and one per lane, by this function's contract.
            unsafe {
                if call.features >= LANES {
                    for at in 0..LANES {
                        rows[at] = load(x.add(at * LANES));
                    }
                } else {
                    for at in 0..call.features {
                        rows[at] = load(x.add(at * LANES));
                    }
                }
                // each interleaving moves the top bit of a row's number to the bottom of the column's
                for _ in 0..LANES.trailing_zeros() {
                    let old = rows;
                    for at in 0..LANES / 2 {
                        (rows[2 * at], rows[2 * at + 1]) = interleave(old[at], old[at + LANES / 2]);
                    }
                }
                for at in 0..LANES {
                    // halves are added first, so the lane after lane 0 is the one half a vector away, and so on
                    let turn = at.reverse_bits() >> (usize::BITS - LANES.trailing_zeros());
                    store(to.add(turn * call.lane), rows[at]);
                }
            }
        }

        /// Computes the weights of some outputs behind a panel's features.
        ///
        /// * `waiting`: per halving of a vector's lanes, sums that wait for those to add to them.
        ///
        /// # Safety
        /// The CPU has the features. All blocks of the outputs are readable at `gy`, all lanes of as many blocks at `panel`; the
        /// weights at `gw` are writable, and a vector per halving and weight at `waiting`, and both are nobody else's.
        $(#[target_feature(enable = $features)])?
        pub(super) unsafe fn products(
            call: &Products, gy: *const f32, panel: *const f32, waiting: *mut f32, gw: *mut f32,
        ) {
            match (call.outputs, call.vectors) {
                // SAFETY: by this function's contract.
                $(($m, $k) => unsafe { products_of::<$m, $k>(call, gy, panel, waiting, gw) },)*
                _ => unreachable!("no panel of {} x {}", call.outputs, call.vectors),
            }
        }

        /// # Safety
        /// As [`products`].
        $(#[target_feature(enable = $features)])?
        unsafe fn products_of<const M: usize, const K: usize>(
            call: &Products, gy: *const f32, panel: *const f32, waiting: *mut f32, gw: *mut f32,
        ) {
            let mut x = panel;
            for turn in 0..LANES {
                let lane = turn.reverse_bits() >> (usize::BITS - LANES.trailing_zeros());
                let mut sums = [[splat(0.0); K]; M];
                // SAFETY: every pointer that is read or written is to a lane of a block, a sum of a halving, or a weight, by
                // `products`' contract.
                unsafe {
                    let mut gy = gy.wrapping_add(lane);
                    for _ in 0..call.blocks {
                        // The smaller side waits in registers: with both orders at hand no sum has to leave them.
                        if M < K {
                            let mut factors = [splat(0.0); M];
                            for m in 0..M {
                                factors[m] = splat(*gy.add(m * LANES));
                            }
                            for k in 0..K {
                                let factor = load(x.add(k * LANES));
                                for m in 0..M {
                                    sums[m][k] = fma(factors[m], factor, sums[m][k]);
                                }
                            }
                        } else {
                            let mut factors = [splat(0.0); K];
                            for k in 0..K {
                                factors[k] = load(x.add(k * LANES));
                            }
                            for m in 0..M {
                                let factor = splat(*gy.add(m * LANES));
                                for k in 0..K {
                                    sums[m][k] = fma(factor, factors[k], sums[m][k]);
                                }
                            }
                        }
                        x = x.add(K * LANES);
                        gy = gy.wrapping_add(call.gy_block);
                    }
                    let mut waiting = waiting;
                    for _ in 0..turn.trailing_ones() {
                        for m in 0..M {
                            for k in 0..K {
                                sums[m][k] = add(load(waiting.add((m * K + k) * LANES)), sums[m][k]);
                            }
                        }
                        waiting = waiting.add(M * K * LANES);
                    }
                    if turn + 1 < LANES {
                        for m in 0..M {
                            for k in 0..K {
                                store(waiting.add((m * K + k) * LANES), sums[m][k]);
                            }
                        }
                        continue;
                    }
                    for m in 0..M {
                        let gw = gw.add(m * call.gw_output);
                        for k in 0..K {
                            if k + 1 < K || call.last == LANES {
                                store(gw.add(k * LANES), sums[m][k]);
                            } else {
                                store_tail(gw.add(k * LANES), tail(call.last), sums[m][k]);
                            }
                        }
                    }
                }
            }
        }
    };
}

pub(super) use panel_kernels;
