//! One body over the whole table; the reference is a plain loop in f64.

use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Once;

const GUARD: f32 = 12345.0;

/// Kernels this CPU runs; the others are reported as skipped.
fn kernels() -> impl Iterator<Item = &'static SpmmKernel> {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        for kernel in SPMM_F32 {
            let word = if (kernel.runs_here)() { "ran" } else { "SKIPPED (not on this CPU)" };
            eprintln!("{word}: {}", kernel.name);
        }
    });
    SPMM_F32.iter().filter(|kernel| (kernel.runs_here)())
}

struct Case {
    rows: Rows,
    x: Vec<f32>,
    residual: Vec<f32>,
    pixels: usize,
    stride: usize,
}

/// `planes` input planes of `pixels + 3` elements, taps at shifts 0 to 3, `density` of them kept, every third row empty.
fn case(outputs: usize, planes: usize, pixels: usize, density: f64, blocks: usize, seed: u64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut items = vec![];
    for output in 0..outputs as u32 {
        for plane in 0..planes {
            for shift in 0..4 {
                if (density == 1.0 || output % 3 != 2) && rng.random_bool(density) {
                    let entry =
                        Entry { offset: (plane * (pixels + 3) + shift) as u32, value: rng.random_range(-1.0..1.0) };
                    items.push((output, (plane * blocks / planes) as u32, entry));
                }
            }
        }
    }
    let bias = (0..outputs).map(|_| rng.random_range(-1.0..1.0)).collect();
    let rows = Rows::build(bias, blocks, &items).unwrap();
    let stride = pixels + 5;
    let mut random = |len: usize| (0..len).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let x = random(planes * (pixels + 3));
    let residual = random((outputs - 1) * stride + pixels);
    Case { rows, x, residual, pixels, stride }
}

fn run(kernel: &SpmmKernel, case: &Case, with_residual: bool, activation: Activation) -> Vec<f32> {
    let mut y = vec![GUARD; case.stride * case.rows.outputs() + 7];
    kernel.run(Spmm {
        rows: &case.rows,
        x: &case.x,
        y: &mut y[7..],
        stride: case.stride,
        pixels: case.pixels,
        residual: with_residual.then_some(&case.residual[..]),
        activation,
    });
    y.drain(..7).for_each(|guard| assert_eq!(guard, GUARD, "before the output"));
    y
}

/// Compares with f64; the error of a sum of `n` products of magnitude `m` is at most about `n * EPSILON * m`.
fn assert_right(kernel: &SpmmKernel, case: &Case, with_residual: bool, activation: Activation) {
    let y = run(kernel, case, with_residual, activation);
    for output in 0..case.rows.outputs() {
        let entries: Vec<_> = (0..case.rows.blocks()).flat_map(|block| case.rows.row(block, output)).collect();
        for at in 0..case.stride {
            let found = y[output * case.stride + at];
            if at >= case.pixels {
                assert_eq!(found, GUARD, "{}: written past row {output}", kernel.name);
                continue;
            }
            let mut sum = f64::from(case.rows.bias()[output]);
            let mut magnitude = sum.abs();
            for entry in &entries {
                let term = f64::from(entry.value) * f64::from(case.x[entry.offset as usize + at]);
                (sum, magnitude) = (sum + term, magnitude + term.abs());
            }
            if with_residual {
                let residual = f64::from(case.residual[output * case.stride + at]);
                (sum, magnitude) = (sum + residual, magnitude + residual.abs());
            }
            let expected = match activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Clip { min, max } => sum.max(f64::from(min)).min(f64::from(max)),
                Activation::HardSwish => sum * (sum / 6.0 + 0.5).clamp(0.0, 1.0),
            };
            // hard-swish has a slope of at most 1.5 and rounds three times more
            let rounding_tolerance = (entries.len() + 6) as f64 * 1.5 * f64::from(f32::EPSILON) * magnitude;
            let error = (f64::from(found) - expected).abs();
            assert!(
                error <= rounding_tolerance,
                "{}: row {output} pixel {at} of {}: {found}, expected {expected}",
                kernel.name,
                case.pixels
            );
        }
    }
}

const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };

#[test]
fn every_kernel_matches_the_reference_below_at_and_above_its_tile() {
    for kernel in kernels() {
        let t = kernel.tile;
        let mut sizes: Vec<usize> = (1..=35).collect();
        sizes.extend([49, 63, t / 2 + 1, t - 1, t, t + 1, t + 3, t + 17, 2 * t - 1, 2 * t + 13]);
        for (k, pixels) in sizes.into_iter().enumerate() {
            let activation = [Activation::None, Activation::Relu, RELU6, Activation::HardSwish][k % 4];
            let case = case([1, 3, 7, 13][k % 4], [7, 1, 13, 3][k % 4], pixels, 0.3, 1, k as u64);
            assert_right(kernel, &case, k % 2 == 0, activation);
        }
    }
}

#[test]
fn input_blocks_add_up_to_the_same_bits_as_one_block() {
    for kernel in kernels() {
        for pixels in [1, 7, 40, kernel.tile + 5] {
            for blocks in [2, 3, 5] {
                let blocked = case(7, 10, pixels, 0.4, blocks, 5);
                assert_right(kernel, &blocked, true, Activation::Relu);
                let whole = case(7, 10, pixels, 0.4, 1, 5);
                let bits = |case| run(kernel, case, true, RELU6).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&blocked), bits(&whole), "{}", kernel.name);
            }
        }
    }
}

#[test]
fn all_zero_and_all_dense_weights_are_right() {
    for kernel in kernels() {
        for pixels in [1, 13, kernel.tile + 1] {
            let dense = case(5, 6, pixels, 1.0, 1, 1);
            assert_eq!(dense.rows.nnz(), 5 * 6 * 4);
            assert_right(kernel, &dense, true, Activation::None);
            let mut zero = case(5, 6, pixels, 0.0, 1, 2);
            assert_right(kernel, &zero, true, Activation::Relu);
            zero.x.clear();
            assert_right(kernel, &zero, false, Activation::None);
        }
    }
}

#[test]
fn cutting_the_pixels_changes_no_bit() {
    for kernel in kernels() {
        let case = case(5, 9, 2 * kernel.tile + 11, 0.5, 2, 3);
        let whole = run(kernel, &case, true, Activation::HardSwish);
        for cut in [1, 3, kernel.tile / 2, kernel.tile + 9] {
            let mut y = vec![GUARD; whole.len()];
            for (first, pixels) in [(0, cut), (cut, case.pixels - cut)] {
                kernel.run(Spmm {
                    rows: &case.rows,
                    x: &case.x[first..],
                    y: &mut y[first..],
                    stride: case.stride,
                    pixels,
                    residual: Some(&case.residual[first..]),
                    activation: Activation::HardSwish,
                });
            }
            assert!(y.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{} cut at {cut}", kernel.name);
        }
    }
}

#[test]
fn nan_and_infinity_pass_through_and_do_not_spread() {
    for kernel in kernels() {
        let entry = Entry { offset: 0, value: 2.0 };
        let rows = Rows::build(vec![0.0, 1.0], 1, &[(0, 0, entry)]).unwrap();
        let mut x = vec![1.0; 21];
        (x[4], x[20]) = (f32::NAN, f32::INFINITY);
        let mut y = vec![0.0; 42];
        let (stride, pixels, activation) = (21, 21, Activation::Relu);
        kernel.run(Spmm { rows: &rows, x: &x, y: &mut y, stride, pixels, residual: None, activation });
        assert!(y[4].is_nan() && y[20] == f32::INFINITY, "{}", kernel.name);
        assert!(y[..20].iter().enumerate().all(|(p, v)| p == 4 || *v == 2.0), "{}", kernel.name);
        assert!(y[21..].iter().all(|v| *v == 1.0), "{}", kernel.name);
    }
}

#[test]
fn short_slices_are_caught_before_the_unsafe_body() {
    let case = case(3, 4, 10, 1.0, 1, 9);
    for kernel in kernels() {
        for (x_cut, y_len, stride) in [(1, 40, 12), (0, 33, 12), (0, 40, 9)] {
            let x = &case.x[..case.x.len() - x_cut];
            let attempt = std::panic::catch_unwind(|| {
                let mut y = vec![0.0; y_len];
                let (rows, residual, activation) = (&case.rows, None, Activation::None);
                kernel.run(Spmm { rows, x, y: &mut y, stride, pixels: 10, residual, activation });
            });
            assert!(attempt.is_err(), "{}", kernel.name);
        }
    }
}
