//! One body over every sparse kernel and every dense instruction set; the reference is a plain loop in f64.

use super::*;
use crate::map_testing::{isas, report};
use crate::{Activation, Call, Layer, Shared};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GUARD: f32 = 12345.0;
const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Relu, Activation::Clip { min: -0.5, max: 0.5 }, Activation::HardSwish];

fn kernels() -> impl Iterator<Item = &'static GemvKernel> {
    GEMV.iter().filter(|kernel| kernel.isa.runs_here())
}

/// A layer as plain lists.
struct Case {
    rows: usize,
    cols: usize,
    positions: Vec<u32>,
    floats: Vec<f32>,
    bytes: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    /// Every fourth row is empty unless the density is 1.
    fn random(rows: usize, cols: usize, density: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let positions: Vec<u32> = (0..(rows * cols) as u32)
            .filter(|index| density == 1.0 || *index as usize / cols % 4 != 1 && rng.random_bool(density))
            .collect();
        Self::of(rows, cols, positions, seed)
    }

    fn of(rows: usize, cols: usize, positions: Vec<u32>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            floats: positions.iter().map(|_| rng.random_range(-1.0..1.0)).collect(),
            bytes: positions.iter().map(|_| rng.random_range(-128..=127)).collect(),
            scales: (0..rows).map(|_| rng.random_range(-0.02..0.02)).collect(),
            bias: (0..rows).map(|_| rng.random_range(-1.0..1.0)).collect(),
            rows,
            cols,
            positions,
        }
    }

    fn values(&self, bytes: bool) -> LinearValues<'_> {
        match bytes {
            true => LinearValues::I8 { values: &self.bytes, scales: &self.scales },
            false => LinearValues::F32(&self.floats),
        }
    }

    fn sparse(&self, kernel: &'static GemvKernel, bytes: bool) -> SparseLinear {
        let (positions, bias) = (&self.positions, Some(&self.bias[..]));
        SparseLinear::from_values(kernel, self.rows, self.cols, positions, self.values(bytes), bias).unwrap()
    }

    /// Compares one sample with f64; a sum of `n` products of magnitude `m` is off by at most about `n * EPSILON * m`.
    fn assert_right(
        &self,
        bytes: bool,
        x: &[f32],
        residual: Option<&[f32]>,
        activation: Activation,
        y: &[f32],
        name: &str,
    ) {
        let mut sums: Vec<(f64, f64, usize)> = vec![(0.0, 0.0, 0); self.rows];
        for (at, index) in self.positions.iter().enumerate() {
            let (row, col) = (*index as usize / self.cols, *index as usize % self.cols);
            let weight = match bytes {
                true => f64::from(self.bytes[at]) * f64::from(self.scales[row]),
                false => f64::from(self.floats[at]),
            };
            let term = weight * f64::from(x[col]);
            let sum = &mut sums[row];
            *sum = (sum.0 + term, sum.1 + term.abs(), sum.2 + 1);
        }
        for (row, (sum, magnitude, count)) in sums.into_iter().enumerate() {
            let residual = residual.map_or(0.0, |residual| f64::from(residual[row]));
            let sum = sum + f64::from(self.bias[row]) + residual;
            let magnitude = magnitude + f64::from(self.bias[row]).abs() + residual.abs();
            let expected = match activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Clip { min, max } => sum.max(f64::from(min)).min(f64::from(max)),
                Activation::HardSwish => sum * (sum / 6.0 + 0.5).clamp(0.0, 1.0),
            };
            // hard-swish has a slope of at most 1.5 and rounds three times more
            let rounding_tolerance = (count + 7) as f64 * 1.5 * f64::from(f32::EPSILON) * magnitude;
            let right = (f64::from(y[row]) - expected).abs() <= rounding_tolerance;
            let (rows, cols) = (self.rows, self.cols);
            assert!(right, "{name}: row {row} of {rows}x{cols}: {}, expected {expected}", y[row]);
        }
    }
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

type RunBatch<'a> = dyn Fn(&[f32], &mut [f32], Activation) + 'a;

/// A batch between guards, each sample alone, and as a layer: whole, and unit by unit from the last to the first.
fn check(case: &Case, bytes: bool, layer: &dyn Layer, run: &RunBatch<'_>, batch: usize, activation: Activation) {
    let (rows, cols, name) = (case.rows, case.cols, layer.kernel());
    report(&name);
    let x = random(batch * cols, 5);
    let mut y = vec![GUARD; batch * rows + 10];
    run(&x, &mut y[5..5 + batch * rows], activation);
    assert!(y[..5].iter().chain(&y[5 + batch * rows..]).all(|v| *v == GUARD), "{name}: guard");
    for sample in 0..batch {
        let (x, y) = (&x[sample * cols..][..cols], &y[5 + sample * rows..][..rows]);
        case.assert_right(bytes, x, None, activation, y, &name);
        let mut alone = vec![GUARD; rows];
        run(x, &mut alone, activation);
        assert_eq!(bits(&alone), bits(y), "{name}: sample {sample} of {batch} alone");
    }

    assert_eq!((layer.input().len(), layer.output().len()), (cols, rows));
    let residual = random(rows, 6);
    for residual in [None, Some(&residual[..])] {
        let mut whole = vec![GUARD; rows + 3];
        layer.run(&x, &mut whole, residual, &mut []);
        assert_eq!(whole[rows..], [GUARD; 3], "{name}: guard of the layer");
        case.assert_right(bytes, &x[..cols], residual, ACTIVATIONS[1], &whole, &name);
        let mut split = vec![GUARD; rows + 3];
        let call = Call { x: &x, y: Shared::new(&mut split), residual };
        for unit in (0..layer.units()).rev() {
            assert!(layer.unit_cost(unit) > 0);
            // SAFETY: one thread, and nothing reads `split` meanwhile.
            unsafe { layer.run_units(unit..unit + 1, &call, &mut []) }
        }
        assert_eq!(bits(&split), bits(&whole), "{name}: unit by unit");
    }
}

fn check_sparse(case: &Case, batch: usize, activation: Activation) {
    for kernel in kernels() {
        for bytes in [false, true] {
            let layer = case.sparse(kernel, bytes).with_activation(Activation::Relu);
            assert_eq!(layer.nnz(), case.positions.len());
            check(case, bytes, &layer, &|x, y, activation| layer.run(x, y, activation), batch, activation);
        }
    }
}

fn check_dense(case: &Case, batch: usize, activation: Activation) {
    for isa in isas() {
        for bytes in [false, true] {
            let layer = DenseLinear::prepare(isa, case.rows, case.cols, case.values(bytes), Some(&case.bias)).unwrap();
            let layer = layer.with_activation(Activation::Relu);
            check(case, bytes, &layer, &|x, y, activation| layer.run(x, y, activation), batch, activation);
        }
    }
}

#[test]
fn every_kernel_matches_the_reference_on_odd_sizes_and_batches() {
    for (k, rows) in [1, 3, 7, 8, 9, 16, 31, 70].into_iter().enumerate() {
        for (j, cols) in [1, 14, 15, 16, 33, 100, 304].into_iter().enumerate() {
            for density in [0.0, 0.1, 0.5, 1.0] {
                let case = Case::random(rows, cols, density, (k * 10 + j) as u64);
                check_sparse(&case, [1, 2, 5, 11][(k + j) % 4], ACTIVATIONS[(k + 2 * j) % 4]);
            }
        }
    }
}

#[test]
fn more_columns_than_16_bits_can_count_are_cut_into_blocks() {
    for cols in [3839, 3840, 3841, 65_535, 65_537] {
        let case = Case::random(19, cols, 0.05, cols as u64);
        check_sparse(&case, 6, Activation::Relu);
        check_dense(&Case::random(3, cols, 1.0, 1), 2, Activation::Relu);
    }
}

#[test]
fn rows_of_very_different_lengths_are_right_and_do_not_fill_memory() {
    // row 3 is dense, the others have a non-zero each
    let positions: Vec<u32> =
        (0..20u32).flat_map(|row| (0..if row == 3 { 500 } else { 1 }).map(move |k| row * 500 + k)).collect();
    let case = Case::of(20, 500, positions, 3);
    check_sparse(&case, 4, Activation::None);
    for kernel in kernels() {
        assert!(case.sparse(kernel, false).weight_bytes() < 8 * 520 + 1500, "{}", kernel.name);
    }
}

#[test]
fn a_layer_at_90_percent_zeros_takes_six_bytes_a_non_zero_and_three_with_bytes() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let positions: Vec<u32> = (0..300 * 784).filter(|_| rng.random_bool(0.1)).collect();
    let case = Case::of(300, 784, positions, 8);
    for kernel in kernels() {
        for (bytes, most) in [(false, 6.0), (true, 3.0)] {
            let layer = case.sparse(kernel, bytes);
            let by_row = 300usize.next_multiple_of(kernel.lanes) * 12;
            let by_group = 300usize.div_ceil(kernel.lanes) * size_of::<slices::Segment>();
            let found = (layer.weight_bytes() - by_row - by_group) as f64 / layer.nnz() as f64;
            let with_idle_lanes = most * 1.05;
            assert!(found < with_idle_lanes, "{}: {found:.2} bytes a non-zero", layer.kernel_name());
        }
    }
    check_sparse(&case, 9, Activation::Relu);
}

#[test]
fn dense_layers_match_the_reference_for_every_width_of_a_panel() {
    for rows in [1, 4, 5, 16, 17, 33, 40, 64, 65, 90, 128, 129, 200] {
        for (cols, batch) in [(1, 1), (3, 2), (7, 7), (50, 13)] {
            check_dense(&Case::random(rows, cols, 1.0, rows as u64), batch, ACTIVATIONS[(rows + cols) % 4]);
        }
    }
}

#[test]
fn an_infinite_input_meets_only_the_weights_that_exist() {
    for kernel in kernels() {
        // rows read column 1, and all but row 0 column 2 too; nobody reads column 0 or a column from 20 on
        let positions: Vec<u32> =
            (0..40u32).flat_map(|r| [r * 50 + 1, r * 50 + 2]).filter(|index| *index != 2).collect();
        let items = positions.iter().map(|index| (*index, 1.0));
        let layer = SparseLinear::prepare_for(kernel, 40, 50, items, None).unwrap();
        let mut x = vec![f32::INFINITY; 50 * 9];
        x.chunks_mut(50).for_each(|x| x[1..3].copy_from_slice(&[2.0, 3.0]));
        x[60] = f32::NAN;
        let mut y = vec![0.0; 40 * 9];
        layer.run(&x, &mut y, Activation::None);
        for y in y.chunks(40) {
            assert_eq!(y[0], 2.0, "{}", kernel.name);
            assert!(y[1..].iter().all(|y| *y == 5.0), "{}", kernel.name);
        }
        x[1] = f32::NAN;
        layer.run(&x[..50], &mut y[..40], Activation::Relu);
        assert!(y[..40].iter().all(|y| y.is_nan()), "{}", kernel.name);
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let error =
        |rows, cols, items: &[(u32, f32)]| SparseLinear::prepare(rows, cols, items.iter().copied(), None).unwrap_err();
    assert_eq!(error(0, 3, &[]), KernelError::Zero { what: "rows" });
    assert_eq!(error(2, 3, &[(6, 1.0)]), KernelError::IndexOutside { index: 6, len: 6 });
    assert_eq!(error(usize::MAX, 3, &[]), KernelError::TooLarge { what: "the dense weight matrix" });
    let sparse = |values| SparseLinear::from_values(best(), 2, 2, &[0, 3], values, None).unwrap_err();
    assert_eq!(sparse(LinearValues::F32(&[1.0])), KernelError::ValueCount { expected: 2, found: 1 });
    let no_scales = LinearValues::I8 { values: &[1, 2], scales: &[] };
    assert_eq!(sparse(no_scales), KernelError::ScaleCount { expected: 2, found: 0 });
    let dense = |values, bias| DenseLinear::prepare(Isa::Scalar, 1, 2, values, bias).unwrap_err();
    assert_eq!(dense(LinearValues::F32(&[1.0]), None), KernelError::ValueCount { expected: 2, found: 1 });
    assert_eq!(dense(no_scales, None), KernelError::ScaleCount { expected: 1, found: 0 });
    let no_bias = KernelError::BiasLength { expected: 1, found: 0 };
    assert_eq!(dense(LinearValues::F32(&[1.0, 2.0]), Some(&[])), no_bias);
}

#[test]
fn slices_of_the_wrong_length_are_caught_before_the_unsafe_body() {
    let case = Case::random(5, 4, 1.0, 1);
    for kernel in kernels() {
        let sparse = case.sparse(kernel, false);
        let dense = DenseLinear::prepare(kernel.isa, 5, 4, case.values(false), None).unwrap();
        for (x_len, y_len) in [(3, 5), (4, 4), (8, 5), (5, 5)] {
            let caught = |run: &dyn Fn(&[f32], &mut [f32])| {
                let run = || run(&vec![0.0; x_len], &mut vec![0.0; y_len]);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
            };
            assert!(caught(&|x, y| sparse.run(x, y, Activation::None)), "{}", kernel.name);
            assert!(caught(&|x, y| dense.run(x, y, Activation::None)), "{}", kernel.name);
            if x_len < 4 || y_len < 5 {
                assert!(caught(&|x, y| Layer::run(&sparse, x, y, None, &mut [])), "{}", kernel.name);
                assert!(caught(&|x, y| Layer::run(&dense, x, y, None, &mut [])), "{}", kernel.name);
            }
        }
    }
}
