//! The loops over blocks of columns, groups of rows and samples that every sparse kernel shares.

use std::mem::MaybeUninit;

use super::slices::{SPREAD, Slices};
use crate::Activation;

/// One product: `y[s, r] = act(scale[r] * sum_k value[r, k] * x[s, column[r, k]] + bias[r] + residual[s, r])`.
pub(super) struct Product<'a, T> {
    pub slices: &'a Slices<T>,
    /// `[samples, cols]`.
    pub x: &'a [f32],
    /// `[samples, rows]`.
    pub y: *mut f32,
    /// Laid out like `y`.
    pub residual: Option<&'a [f32]>,
    pub activation: Activation,
}

impl<T> Product<'_, T> {
    pub fn samples(&self) -> usize {
        self.x.len() / self.slices.cols
    }
}

/// The spread input of one block of columns for `S` samples.
#[repr(C, align(64))]
pub(super) struct SpreadInput<const S: usize>(pub [[MaybeUninit<f32>; SPREAD]; S]);

/// Defines `samples` for one instruction set: some samples, each with its own vectors.
///
/// In scope of the caller: what `isa` offers, `GROUP` (rows side by side) and
/// `segment::<T, S>(slices, segment, x, &mut [[f32; GROUP]; S])`, which adds what one segment holds.
macro_rules! sparse_groups {
    ($($features:literal)?) => {
        /// Computes `groups` for the `S` samples from `first` on.
        ///
        /// # Safety
        /// The CPU has the features; `first + S` samples lie in `x`, `y` and the residual; nothing else uses the rows of
        /// these groups in `y`.
        $(#[target_feature(enable = $features)])?
        unsafe fn samples<T: Value, const S: usize>(call: &Product<'_, T>, first: usize, groups: Range<usize>) {
            let slices = call.slices;
            let (rows, cols, blocks) = (slices.rows, slices.cols, slices.blocks());
            // Only what `spread` wrote is read, see `segment`.
            let mut spread_input = SpreadInput::<S>([const { [const { MaybeUninit::uninit() }; SPREAD] }; S]);
            for block in 0..blocks {
                let columns = block * COLUMNS_PER_BLOCK..cols.min((block + 1) * COLUMNS_PER_BLOCK);
                for (s, to) in spread_input.0.iter_mut().enumerate() {
                    // SAFETY: features by this function's contract.
                    unsafe { spread(&call.x[(first + s) * cols..][columns.clone()], to) }
                }
                for group in groups.clone() {
                    let row_of_lane = slices.rows_of(group);
                    let mut sums = [Sums([0.0; GROUP]); S];
                    if block > 0 {
                        for (s, sums) in sums.iter_mut().enumerate() {
                            for (sum, row) in sums.0.iter_mut().zip(row_of_lane) {
                                // SAFETY: row and sample lie in `y`, and are this call's own, by this function's contract.
                                *sum = unsafe { call.y.add((first + s) * rows + *row as usize).read() };
                            }
                        }
                    }
                    let segment_here = &slices.segments[group * blocks + block];
                    // SAFETY: features by this function's contract; `spread` has just written this block of all samples.
                    unsafe { segment::<T, S>(slices, segment_here, spread_input.0.as_ptr().cast(), &mut sums) };
                    for (s, sums) in sums.iter_mut().enumerate() {
                        if block + 1 == blocks {
                            let of_sample = |residual: &'_ [f32]| residual[(first + s) * rows..][..rows].as_ptr();
                            let residual = call.residual.map_or(std::ptr::null(), of_sample);
                            // SAFETY: features by this function's contract; the residual of this sample has `rows` elements.
                            unsafe { finish(slices, group, residual, call.activation, sums) };
                        }
                        for (sum, row) in sums.0.iter().zip(row_of_lane) {
                            // SAFETY: row and sample lie in `y`, and are this call's own, by this function's contract.
                            unsafe { call.y.add((first + s) * rows + *row as usize).write(*sum) };
                        }
                    }
                }
            }
        }

        /// Sums of one group, aligned for vectors.
        #[derive(Clone, Copy)]
        #[repr(C, align(64))]
        struct Sums([f32; GROUP]);

        /// Scale, bias, residual (unless null) and activation of one group.
        ///
        /// # Safety
        /// The CPU has the features; the residual has `slices.rows` elements.
        $(#[target_feature(enable = $features)])?
        #[inline]
        unsafe fn finish<T: Value>(
            slices: &Slices<T>, group: usize, residual: *const f32, activation: Activation, sums: &mut Sums,
        ) {
            let mut added = Sums([0.0; GROUP]);
            if !residual.is_null() {
                for (added, row) in added.0.iter_mut().zip(slices.rows_of(group)) {
                    // SAFETY: the row is below `slices.rows`.
                    *added = unsafe { residual.add(*row as usize).read() };
                }
            }
            let bias = &slices.bias[group * GROUP..][..GROUP];
            for at in (0..GROUP).step_by(LANES) {
                // SAFETY: a vector from `at` on ends inside of `GROUP` elements, of which there is one bias and scale each.
                unsafe {
                    let (sum, bias) = (load(sums.0.as_ptr().add(at)), load(bias.as_ptr().add(at)));
                    let mut y = if T::SCALED {
                        fma(sum, load(slices.scales[group * GROUP..][..GROUP].as_ptr().add(at)), bias)
                    } else {
                        add(sum, bias)
                    };
                    if !residual.is_null() {
                        y = add(y, load(added.0.as_ptr().add(at)));
                    }
                    store(sums.0.as_mut_ptr().add(at), activate(y, activation));
                }
            }
        }

        /// Copies inputs into chunks that end with a zero; chunks behind the last input are not written.
        ///
        /// # Safety
        /// The CPU has the features.
        $(#[target_feature(enable = $features)])?
        unsafe fn spread(x: &[f32], to: &mut [MaybeUninit<f32>; SPREAD]) {
            assert!(x.len() <= COLUMNS_PER_BLOCK, "one block of columns");
            let to: *mut f32 = to.as_mut_ptr().cast();
            let whole = x.len() / COLUMNS_PER_CHUNK;
            let last = tail(LANES - 1);
            for chunk in 0..whole {
                // SAFETY: the chunk's columns lie in `x` and its elements in the block, both by the assertion above; the
                // last vector reads one element less than it writes, since the zero is not in `x`.
                unsafe {
                    let (from, to) = (x.as_ptr().add(chunk * COLUMNS_PER_CHUNK), to.add(chunk * CHUNK));
                    for at in (0..CHUNK - LANES).step_by(LANES) {
                        store(to.add(at), load(from.add(at)));
                    }
                    store(to.add(CHUNK - LANES), load_tail(from.add(CHUNK - LANES), last));
                }
            }
            let left = &x[whole * COLUMNS_PER_CHUNK..];
            for at in (0..CHUNK).step_by(LANES).take_while(|_| !left.is_empty()) {
                let lanes = left.len().saturating_sub(at).min(LANES);
                // SAFETY: the chunk lies in the block as above; the first `lanes` elements from `at` on lie in `left`.
                unsafe {
                    let vector = if lanes == 0 { splat(0.0) } else { load_tail(left.as_ptr().add(at), tail(lanes)) };
                    store(to.add(whole * CHUNK + at), vector);
                }
            }
        }
    };
}

pub(super) use sparse_groups;
