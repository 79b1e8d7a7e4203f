//! One body over the whole table; the reference is a plain loop in f64.

use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Once;

const GUARD: f32 = 12345.0;

fn kernels() -> impl Iterator<Item = &'static GemvKernel> {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        for kernel in GEMV_F32 {
            let word = if (kernel.runs_here)() { "ran" } else { "SKIPPED (not on this CPU)" };
            eprintln!("{word}: {}", kernel.name);
        }
    });
    GEMV_F32.iter().filter(|kernel| (kernel.runs_here)())
}

fn check(rows: usize, cols: usize, density: f64, batch: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut nonzeros = vec![];
    for index in 0..(rows * cols) as u32 {
        let empty_row = density < 1.0 && index as usize / cols % 4 == 1;
        if !empty_row && rng.random_bool(density) {
            nonzeros.push((index, rng.random_range(-1.0f32..1.0)));
        }
    }
    let mut random = |len: usize| (0..len).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
    let (bias, x) = (random(rows), random(batch * cols));
    for kernel in kernels() {
        let layer = SparseLinear::prepare_for(kernel, rows, cols, nonzeros.iter().copied(), Some(&bias)).unwrap();
        assert_eq!((layer.nnz(), layer.kernel_name()), (nonzeros.len(), kernel.name));
        let mut y = vec![GUARD; batch * rows + 10];
        layer.run(&x, &mut y[5..5 + batch * rows], Activation::Relu);
        assert!(y[..5].iter().chain(&y[5 + batch * rows..]).all(|v| *v == GUARD), "{}: guard", kernel.name);
        for b in 0..batch {
            for row in 0..rows {
                let mut sum = f64::from(bias[row]);
                let mut magnitude = sum.abs();
                for (index, value) in nonzeros.iter().filter(|(index, _)| *index as usize / cols == row) {
                    let term = f64::from(*value) * f64::from(x[b * cols + *index as usize % cols]);
                    (sum, magnitude) = (sum + term, magnitude + term.abs());
                }
                let rounding_tolerance = (cols + 2) as f64 * f64::from(f32::EPSILON) * magnitude;
                let (found, expected) = (y[5 + b * rows + row], sum.max(0.0));
                let right = (f64::from(found) - expected).abs() <= rounding_tolerance;
                assert!(right, "{}: row {row} of {rows}x{cols}: {found}, expected {expected}", kernel.name);
            }
            let mut alone = vec![0.0; rows];
            layer.run(&x[b * cols..][..cols], &mut alone, Activation::Relu);
            assert_eq!(alone, y[5 + b * rows..][..rows], "{}: sample {b} alone", kernel.name);
        }
    }
}

#[test]
fn every_kernel_matches_the_reference_on_odd_sizes_and_batches() {
    for (k, rows) in [1, 3, 7, 8, 9, 16, 31].into_iter().enumerate() {
        for (j, cols) in [1, 7, 13, 100].into_iter().enumerate() {
            for density in [0.0, 0.1, 0.5, 1.0] {
                check(rows, cols, density, [1, 2, 5][(k + j) % 3], (k * 10 + j) as u64);
            }
        }
    }
}

#[test]
fn an_infinite_input_meets_only_the_weights_that_exist() {
    for kernel in kernels() {
        // row 0 reads column 1, rows 1 to 7 read columns 1 and 2; nobody reads column 0
        let nonzeros = (0..8u32).flat_map(|r| [(r * 3 + 1, 1.0), (r * 3 + 2, 1.0)]).filter(|(i, _)| *i != 2);
        let layer = SparseLinear::prepare_for(kernel, 8, 3, nonzeros, None).unwrap();
        let mut y = [0.0; 8];
        layer.run(&[f32::INFINITY, 2.0, 3.0], &mut y, Activation::None);
        assert_eq!(y, [2.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0], "{}", kernel.name);
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let error =
        |rows, cols, items: &[(u32, f32)]| SparseLinear::prepare(rows, cols, items.iter().copied(), None).unwrap_err();
    assert_eq!(error(0, 3, &[]), KernelError::Zero { what: "rows" });
    assert_eq!(error(2, 3, &[(6, 1.0)]), KernelError::IndexOutside { index: 6, len: 6 });
    assert_eq!(error(usize::MAX, 3, &[]), KernelError::TooLarge { what: "the dense weight matrix" });
}
