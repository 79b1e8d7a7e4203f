//! Samples as the vector axis: eight samples a weight, for instruction sets whose gathers cost more than loads.

use std::mem::MaybeUninit;

use super::slices::SPREAD;

/// Samples computed together.
pub(super) const SAMPLES: usize = 8;
/// Fewest samples for which that is faster than one after another: with AVX2 eight took as long as 2.6 alone, or 2.3 on
/// 2048 -> 1000 (90 % zeros, gathers).
pub(super) const FEWEST: usize = 3;

/// The spread input of one block of columns, eight samples for every position.
#[repr(C, align(64))]
pub(super) struct SpreadSamples(pub [MaybeUninit<[f32; SAMPLES]>; SPREAD]);

/// Defines `run` and `together` for one instruction set with groups of eight rows.
///
/// In scope of the caller: as for `sparse_groups`, which defines `samples`. Every sum adds the same numbers in the same
/// order as there, so a sample's result does not depend on the batch it came in.
macro_rules! sparse_together {
    ($($features:literal)?) => {
        /// Computes `groups` for all samples.
        ///
        /// # Safety
        /// The CPU has the features; `y` and the residual hold as many samples as `x`; nothing else uses these groups' rows
        /// in `y`.
        $(#[target_feature(enable = $features)])?
        pub(in crate::gemv) unsafe fn run<T: Value>(call: &Product<'_, T>, groups: Range<usize>) {
            let count = call.samples();
            let mut first = 0;
            while count - first >= FEWEST {
                let samples = (count - first).min(SAMPLES);
                // SAFETY: by this function's contract; these samples exist.
                unsafe { together(call, first, samples, groups.clone()) }
                first += samples;
            }
            for first in first..count {
                // SAFETY: as above.
                unsafe { samples::<T, 1>(call, first, groups.clone()) }
            }
        }

        /// The weights of one step as numbers; f32 ones stay where they are.
        ///
        /// # Safety
        /// The CPU has the features; `GROUP` values are readable at `at`.
        #[inline]
        $(#[target_feature(enable = $features)])?
        unsafe fn step_numbers<T: Value>(at: *const T) -> [f32; GROUP] {
            // SAFETY: by this function's contract.
            std::array::from_fn(|lane| unsafe { at.add(lane).read() }.number())
        }

        /// Computes `groups` for `count` samples, at most eight, from `first` on.
        ///
        /// # Safety
        /// As `samples`.
        $(#[target_feature(enable = $features)])?
        unsafe fn together<T: Value>(call: &Product<'_, T>, first: usize, count: usize, groups: Range<usize>) {
            const VECTORS: usize = SAMPLES / LANES;
            let slices = call.slices;
            let (rows, cols, blocks) = (slices.rows, slices.cols, slices.blocks());
            let mut spread_input = SpreadSamples([const { MaybeUninit::uninit() }; SPREAD]);
            for block in 0..blocks {
                let columns = block * COLUMNS_PER_BLOCK..cols.min((block + 1) * COLUMNS_PER_BLOCK);
                let width = columns.len();
                for column in 0..width {
                    let at = first * cols + columns.start + column;
                    let samples = std::array::from_fn(|s| if s < count { call.x[at + s * cols] } else { 0.0 });
                    spread_input.0[position(column) as usize].write(samples);
                }
                // the one zero that idle lanes of gather steps point to
                spread_input.0[COLUMNS_PER_CHUNK].write([0.0; SAMPLES]);
                let x: *const f32 = spread_input.0.as_ptr().cast();
                for group in groups.clone() {
                    let row_of_lane = slices.rows_of(group);
                    let at = |lane: usize, s: usize| (first + s) * rows + row_of_lane[lane] as usize;
                    let mut start = [[0.0f32; SAMPLES]; GROUP];
                    if block > 0 {
                        for lane in 0..row_of_lane.len() {
                            for s in 0..count {
                                // SAFETY: row and sample lie in `y` and are this call's own, by this function's contract.
                                start[lane][s] = unsafe { call.y.add(at(lane, s)).read() };
                            }
                        }
                    }
                    let segment = &slices.segments[group * blocks + block];
                    // SAFETY: features by this function's contract. `Slices::build` made the streams as long as the counts
                    // say; positions lead to columns of this block or to its zero, which were all written above, eight
                    // samples each.
                    unsafe {
                        let mut sums: [[Vector; VECTORS]; GROUP] = std::array::from_fn(|lane| {
                            std::array::from_fn(|v| load(start[lane].as_ptr().add(v * LANES)))
                        });
                        let positions = slices.positions[segment.positions..].as_ptr();
                        let values = slices.values[segment.values..].as_ptr();
                        for step in 0..segment.gathers {
                            let weights = step_numbers(values.add(step * GROUP));
                            for lane in 0..GROUP {
                                let x = x.add(positions.add(step * GROUP + lane).read() as usize * SAMPLES);
                                let weight = splat(weights[lane]);
                                for v in 0..VECTORS {
                                    sums[lane][v] = fma(weight, load(x.add(v * LANES)), sums[lane][v]);
                                }
                            }
                        }
                        for lane in 0..GROUP {
                            for v in 0..VECTORS {
                                store(start[lane].as_mut_ptr().add(v * LANES), sums[lane][v]);
                            }
                        }
                        for single in &slices.singles[segment.singles[0]..segment.singles[1]] {
                            for (s, sum) in start[single.lane as usize].iter_mut().enumerate() {
                                *sum += single.value.number() * x.add(single.position as usize * SAMPLES + s).read();
                            }
                        }
                    }
                    for (lane, sums) in start.iter_mut().enumerate().take(row_of_lane.len()) {
                        if block + 1 == blocks {
                            let index = group * GROUP + lane;
                            let mut added = [0.0; SAMPLES];
                            if let Some(residual) = call.residual {
                                (0..count).for_each(|s| added[s] = residual[at(lane, s)]);
                            }
                            let bias = splat(slices.bias[index]);
                            for v in (0..SAMPLES).step_by(LANES) {
                                // SAFETY: features by this function's contract; both arrays hold eight elements.
                                unsafe {
                                    let sum = load(sums.as_ptr().add(v));
                                    let mut y = if T::SCALED {
                                        fma(sum, splat(slices.scales[index]), bias)
                                    } else {
                                        add(sum, bias)
                                    };
                                    if call.residual.is_some() {
                                        y = add(y, load(added.as_ptr().add(v)));
                                    }
                                    store(sums.as_mut_ptr().add(v), activate(y, call.activation));
                                }
                            }
                        }
                        for (s, sum) in sums.iter().enumerate().take(count) {
                            // SAFETY: row and sample lie in `y` and are this call's own, by this function's contract.
                            unsafe { call.y.add(at(lane, s)).write(*sum) }
                        }
                    }
                }
            }
        }
    };
}

pub(super) use sparse_together;
