//! Convolutions in bytes against exact integers, against numbers, and one instruction set against the other.

use super::*;
use crate::conv::ConvGeometry;
use crate::dense::tests::reference;
use crate::map_testing::{assert_guarded, guarded, guarded_from, isas, random, report, split_runs};
use crate::{Activation, KernelError, Layer, Map, dense};

/// Which weights are zero.
#[derive(Clone, Copy, Debug)]
enum Zeros {
    None,
    /// Most words of four channels, output by output.
    Ones,
    /// Most words, four outputs at once.
    Fours,
    /// All.
    All,
}

const ZEROS: [(Zeros, &str); 4] =
    [(Zeros::None, "dense"), (Zeros::Ones, "1x4"), (Zeros::Fours, "4x4"), (Zeros::All, "")];

fn weights(g: &ConvGeometry, zeros: Zeros) -> Vec<i8> {
    let (inputs, taps) = (g.in_channels / g.groups, g.kernel[0] * g.kernel[1]);
    let noise = random(g.weights().unwrap(), 3);
    let kept = |output: usize, four: usize, tap: usize| match zeros {
        Zeros::None => true,
        Zeros::Ones => (output * 7 + four * 5 + tap * 3).is_multiple_of(8),
        Zeros::Fours => (output / 4 * 7 + four * 5 + tap * 3).is_multiple_of(8),
        Zeros::All => false,
    };
    let weight = |(at, number): (usize, &f32)| {
        let (output, input, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
        if kept(output, input / 4, tap) { (number * 127.0) as i8 | 1 } else { 0 }
    };
    noise.iter().enumerate().map(weight).collect()
}

/// Those of dense layers as far as four channels lie in one group and a row has two pixels, and what bytes do otherwise.
fn geometries() -> Vec<ConvGeometry> {
    let base = |i: usize, size: [usize; 2], o: usize, k: [usize; 2]| ConvGeometry::new(i, size, o, k);
    let more = [
        base(16, [33, 16], 24, [1, 1]),
        ConvGeometry { pads: [1; 4], ..base(32, [30, 30], 16, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(2, [1, 2], 5, [3, 3]) },
        ConvGeometry { pads: [1; 4], groups: 2, ..base(8, [8, 8], 14, [3, 3]) },
        // more rows than fit into one piece, by memory
        ConvGeometry { pads: [1; 4], ..base(64, [9, 200], 4, [3, 3]) },
    ];
    let fits = |g: &ConvGeometry| g.groups == 1 && g.in_width > 1;
    dense::tests::geometries().into_iter().filter(fits).chain(more).collect()
}

const ACTIVATION: Activation = Activation::Clip { min: -0.5, max: 2.0 };

fn maps(g: &ConvGeometry, aligned: bool) -> (Map, Map) {
    let map = if aligned { Map::aligned } else { Map::tight };
    (map(g.in_channels, g.in_height, g.in_width), map(g.out_channels, g.out_height(), g.out_width()))
}

fn prepare(
    isa: Isa,
    g: &ConvGeometry,
    aligned: bool,
    weights: &[i8],
    scales: &[f32],
    bias: &[f32],
    to: Activation,
) -> Int8Conv {
    let (input, output) = maps(g, aligned);
    Int8Conv::prepare(isa, g, input, output, weights, scales, Some(bias), to).unwrap()
}

fn pixels(map: Map, y: &[f32]) -> Vec<f32> {
    y.chunks(map.stride).take(map.channels).flat_map(|plane| plane[..map.pixels()].to_vec()).collect()
}

#[test]
fn integers_are_summed_exactly_by_every_form_and_instruction_set() {
    for isa in isas() {
        for g in &geometries() {
            for (zeros, form) in ZEROS {
                let weights = weights(g, zeros);
                let scales: Vec<f32> = (0..g.out_channels).map(|o| [0.5, 2.0, 0.125][o % 3]).collect();
                let bias: Vec<f32> = (0..g.out_channels).map(|o| o as f32 - 3.0).collect();
                let layer = prepare(isa, g, true, &weights, &scales, &bias, Activation::None);
                let (input, output) = (layer.input(), layer.output());
                // 253 steps of one in every row, so that a byte is an integer
                let mut x: Vec<f32> =
                    random(input.channels * input.pixels(), 5).iter().map(|x| (x * 100.0).round()).collect();
                for row in x.chunks_exact_mut(g.in_width) {
                    row[..2].copy_from_slice(&[153.0, -100.0]);
                }
                let x = guarded_from(input, &x);
                let numbers: Vec<f32> = weights.iter().map(|w| f32::from(*w)).collect();
                let expected = reference(g, input, &numbers, &vec![0.0; g.out_channels], &x);
                let y = split_runs(&layer, &x, None);
                assert_guarded(&y, output, layer.kernel());
                report(&layer.kernel());
                // of layers with few words a part that is not zero is soon most of it
                let large = g.in_channels * g.out_channels > 64;
                assert!(!large || layer.kernel().contains(form), "{} for {zeros:?} of {g:?}", layer.kernel());
                for (i, (found, (sum, _))) in pixels(output, &y).iter().zip(expected).enumerate() {
                    let o = i / output.pixels();
                    assert_eq!(*found, sum as f32 * scales[o] + bias[o], "{} on {g:?}: y[{i}]", layer.kernel());
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for g in &geometries() {
        for (zeros, _) in ZEROS {
            let (weights, bias) = (weights(g, zeros), random(g.out_channels, 2));
            let scales: Vec<f32> = random(g.out_channels, 4).iter().map(|x| x.abs() / 99.0).collect();
            let mut bits: Vec<Vec<u32>> = Vec::new();
            for isa in isas().chain([Isa::Scalar]) {
                for aligned in [true, false] {
                    let layer = prepare(isa, g, aligned, &weights, &scales, &bias, ACTIVATION);
                    let tight = random(g.in_len() + g.out_len(), 7);
                    let (x, residual) = tight.split_at(g.in_len());
                    let residual = guarded_from(layer.output(), residual);
                    let y = split_runs(&layer, &guarded_from(layer.input(), x), Some(&residual));
                    bits.push(pixels(layer.output(), &y).iter().map(|y| y.to_bits()).collect());
                }
            }
            assert!(bits.iter().all(|found| *found == bits[0]), "{g:?} with {zeros:?}");
        }
    }
}

#[test]
fn results_are_within_half_a_step_per_weight_of_those_in_numbers() {
    for g in &geometries() {
        let (weights, bias) = (weights(g, Zeros::None), random(g.out_channels, 2));
        let scales: Vec<f32> = random(g.out_channels, 4).iter().map(|x| x.abs() / 99.0).collect();
        let layer = prepare(Isa::best(), g, true, &weights, &scales, &bias, Activation::None);
        let x = guarded(layer.input(), 6);
        let per_output = weights.len() / g.out_channels;
        let numbers: Vec<f32> =
            weights.iter().enumerate().map(|(at, w)| f32::from(*w) * scales[at / per_output]).collect();
        let expected = reference(g, layer.input(), &numbers, &bias, &x);
        let y = split_runs(&layer, &x, None);
        // inputs lie in -1..1, so that no piece has longer steps
        let half = 1.0 / 253.0;
        let mut differs = false;
        for (i, (found, (sum, _))) in pixels(layer.output(), &y).iter().zip(expected).enumerate() {
            let o = i / layer.output().pixels();
            let all: f64 = numbers[o * per_output..][..per_output].iter().map(|w| f64::from(w.abs())).sum();
            let error = (f64::from(*found) - sum).abs();
            assert!(error <= half * all * 1.001 + 1e-5, "{g:?}: y[{i}] is {found}, not {sum}");
            differs |= error > 1e-4;
        }
        assert!(differs, "nothing was rounded: {g:?}");
    }
}

#[test]
fn an_input_that_is_not_finite_is_not_hidden() {
    let g = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(4, [16, 8], 5, [3, 3]) };
    for odd in [f32::NAN, f32::INFINITY] {
        for isa in isas() {
            let layer = prepare(isa, &g, false, &weights(&g, Zeros::None), &[0.1; 5], &[0.0; 5], Activation::Relu);
            let mut x = random(g.in_len(), 1);
            x[0] = odd;
            let y = split_runs(&layer, &x, None);
            // of the first piece everything, of the last nothing
            assert!(y[..8].iter().all(|y| y.is_nan()) && y[15 * 8..16 * 8].iter().all(|y| y.is_finite()), "{odd}");
        }
    }
}

#[test]
fn bytes_pay_where_enough_weights_use_an_input() {
    let geometry = |inputs: usize, outputs: usize, kernel: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        ..ConvGeometry::new(inputs, [14, 14], outputs, [kernel; 2])
    };
    let (wide, narrow, square) = (geometry(256, 64, 1), geometry(256, 4, 1), geometry(64, 64, 3));
    let kept = |g: &ConvGeometry, every: usize| -> Vec<i8> {
        let (inputs, taps) = (g.in_channels, g.kernel[0] * g.kernel[1]);
        let word = |at: usize| at / (inputs * taps) * 7 + at / taps % inputs / 4 * 5 + at % taps * 3;
        (0..g.weights().unwrap()).map(|at| i8::from(word(at).is_multiple_of(every))).collect()
    };
    assert!(Int8Conv::pays(&wide, &kept(&wide, 1)) && Int8Conv::pays(&square, &kept(&square, 1)));
    assert!(Int8Conv::pays(&wide, &kept(&wide, 5)) && Int8Conv::pays(&square, &kept(&square, 20)));
    assert!(!Int8Conv::pays(&wide, &kept(&wide, 16)) && !Int8Conv::pays(&narrow, &kept(&narrow, 1)));
    assert!(!Int8Conv::pays(&square, &[]) && !Int8Conv::pays(&square, &vec![0; square.weights().unwrap()]));
}

#[test]
fn what_no_kernel_takes_is_refused() {
    let g = ConvGeometry { groups: 2, ..ConvGeometry::new(6, [4, 4], 2, [1, 1]) };
    let prepare = |g: &ConvGeometry, weights: usize, scales: usize| {
        let (input, output) = maps(g, false);
        Int8Conv::prepare(Isa::Scalar, g, input, output, &vec![1; weights], &vec![1.0; scales], None, Activation::None)
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(prepare(&g, 6, 2), KernelError::NoKernel { .. }));
    let long = ConvGeometry::new(1 << 14, [5, 1], 1, [5, 1]);
    assert!(matches!(prepare(&long, 5 << 14, 1), KernelError::NoKernel { .. }));
    let g = ConvGeometry::new(4, [4, 4], 3, [1, 1]);
    assert_eq!(prepare(&g, 11, 3), KernelError::ValueCount { expected: 12, found: 11 });
    assert_eq!(prepare(&g, 12, 2), KernelError::ScaleCount { expected: 3, found: 2 });
}
