//! The tile loop that every vector kernel shares; an instruction set brings its vector type and nine one-line operations.

/// Defines `run` for one instruction set.
///
/// In scope of the caller: `LANES`, `Vector`, `Tail` and, with the same target features,
/// `splat(f32)`, `load(ptr)`, `store(ptr, v)`, `tail(lanes)`, `load_tail(ptr, tail)`, `store_tail(ptr, tail, v)`,
/// `add(a, b)`, `fma(a, b, sum)`, `activate(v, activation)`. Tail loads and stores touch only the first lanes.
macro_rules! spmm_tiles {
    ($features:literal, [$($vectors:literal)*], $most:literal) => {
        /// Cuts the pixels into tiles of nearly equal width; only the last vector of all may be partial.
        ///
        /// # Safety
        /// The CPU has the features, and `Spmm::check` has passed.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn run(call: &mut $crate::spmm::Spmm<'_>) {
            let vectors = call.pixels.div_ceil(LANES);
            let tiles = vectors.div_ceil($most);
            let partial = call.pixels % LANES;
            let mut done = 0;
            for index in 0..tiles {
                let width = (vectors - done).div_ceil(tiles - index);
                let first = done * LANES;
                done += width;
                let lanes = if done == vectors && partial != 0 { partial } else { LANES };
                match (width, lanes == LANES) {
                    $(
                        // SAFETY: features by this function's contract; the tile ends at or before `pixels`.
                        ($vectors, true) => unsafe { tile::<$vectors, false>(call, first, LANES) },
                        // SAFETY: as above; the last vector touches `lanes` pixels only.
                        ($vectors, false) => unsafe { tile::<$vectors, true>(call, first, lanes) },
                    )*
                    _ => unreachable!("a tile has 1 to {} vectors", $most),
                }
            }
        }

        /// Computes `V` vectors of pixels from `first` for every row; the last has `lanes` lanes if `PARTIAL`.
        ///
        /// # Safety
        /// The CPU has the features, `Spmm::check` has passed and the tile lies within `call.pixels`.
        #[target_feature(enable = $features)]
        unsafe fn tile<const V: usize, const PARTIAL: bool>(
            call: &mut $crate::spmm::Spmm<'_>, first: usize, lanes: usize,
        ) {
            let rows = call.rows;
            let tail = tail(lanes);
            // `get` and `put` take a pointer to the tile's first pixel in a row of x, y or residual.
            let get = |row: *const f32, v: usize| {
                // SAFETY: `Spmm::check` put all `call.pixels` pixels of such a row inside its slice, and the caller
                // of `tile` keeps the tile's `(V - 1) * LANES + lanes` pixels below `call.pixels`.
                unsafe {
                    let at = row.add(v * LANES);
                    if PARTIAL && v + 1 == V { load_tail(at, tail) } else { load(at) }
                }
            };
            let put = |row: *mut f32, v: usize, vector: Vector| {
                // SAFETY: as for `get`; rows of `y` do not overlap, since `pixels <= stride` by `Spmm::check`.
                unsafe {
                    let at = row.add(v * LANES);
                    if PARTIAL && v + 1 == V { store_tail(at, tail, vector) } else { store(at, vector) }
                }
            };
            // A weightless layer may come with an input shorter than `first`, hence the wrapping pointer.
            let x = call.x.as_ptr().wrapping_add(first);
            for block in 0..rows.blocks() {
                let last = block + 1 == rows.blocks();
                for output in 0..rows.outputs() {
                    let start = output * call.stride + first;
                    // SAFETY: `start + pixels - first <= y.len()` by `Spmm::check`.
                    let y = unsafe { call.y.as_mut_ptr().add(start) };
                    let mut sums = [splat(rows.bias()[output]); V];
                    if block > 0 {
                        for v in 0..V {
                            sums[v] = get(y, v);
                        }
                    }
                    for entry in rows.row(block, output) {
                        let weight = splat(entry.value);
                        // SAFETY: `offset + pixels <= x.len()` by `Spmm::check`, for every stored offset.
                        let x = unsafe { x.add(entry.offset as usize) };
                        for v in 0..V {
                            sums[v] = fma(weight, get(x, v), sums[v]);
                        }
                    }
                    if last {
                        if let Some(residual) = call.residual {
                            // SAFETY: the residual is as long as `y` by `Spmm::check`.
                            let residual = unsafe { residual.as_ptr().add(start) };
                            for v in 0..V {
                                sums[v] = add(sums[v], get(residual, v));
                            }
                        }
                        for v in 0..V {
                            sums[v] = activate(sums[v], call.activation);
                        }
                    }
                    for v in 0..V {
                        put(y, v, sums[v]);
                    }
                }
            }
        }
    };
}

pub(super) use spmm_tiles;
