//! Dense convolutions against nested loops in f64.

use super::*;
use crate::conv::ConvGeometry;
use crate::map_testing::{assert_guarded, guarded, isas, random, split_runs};
use crate::{Activation, KernelError, Layer, Map};

/// Sum and sum of absolute values of every output pixel, on maps with gaps.
pub(crate) fn reference(g: &ConvGeometry, input: Map, w: &[f32], bias: &[f32], x: &[f32]) -> Vec<(f64, f64)> {
    let [rows, columns] = g.kernel;
    let (group_inputs, group_outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let mut y = Vec::new();
    for output in 0..g.out_channels {
        for pixel in 0..g.out_height() * g.out_width() {
            let mut sum = (f64::from(bias[output]), f64::from(bias[output]).abs());
            for index in 0..group_inputs * rows * columns {
                let (i, tap) = (index / (rows * columns), [index / columns % rows, index % columns]);
                let at = [pixel / g.out_width(), pixel % g.out_width()];
                let [row, column] =
                    [0, 1].map(|a| (at[a] * g.stride[a] + tap[a] * g.dilation[a]).checked_sub(g.pads[a]));
                let (Some(row), Some(column)) = (row, column) else { continue };
                if row < g.in_height && column < g.in_width {
                    let channel = output / group_outputs * group_inputs + i;
                    let pixel = f64::from(x[channel * input.stride + row * g.in_width + column]);
                    let product = f64::from(w[output * group_inputs * rows * columns + index]) * pixel;
                    sum = (sum.0 + product, sum.1 + product.abs());
                }
            }
            y.push(sum);
        }
    }
    y
}

/// Runs `layer` in every split, with and without a residual, beside the reference.
pub(crate) fn check(layer: &dyn Layer, g: &ConvGeometry, w: &[f32], bias: &[f32], tolerance: f64) {
    let (input, output) = (layer.input(), layer.output());
    let x = guarded(input, 5);
    let residual = guarded(output, 6);
    let expected = reference(g, input, w, bias, &x);
    for added in [None, Some(&residual[..])] {
        let y = split_runs(layer, &x, added);
        assert_guarded(&y, output, layer.kernel());
        for (i, (sum, size)) in expected.iter().enumerate() {
            let at = i / output.pixels() * output.stride + i % output.pixels();
            let added = f64::from(added.map_or(0.0, |added| added[at]));
            let expected = (sum + added).clamp(-0.5, 2.0);
            let error = (f64::from(y[at]) - expected).abs();
            assert!(
                error <= tolerance * (size + 1.0),
                "{} on {g:?}: y[{i}] is {}, not {expected}",
                layer.kernel(),
                y[at]
            );
        }
    }
}

pub(crate) const ACTIVATION: Activation = Activation::Clip { min: -0.5, max: 2.0 };

pub(crate) fn geometries() -> Vec<ConvGeometry> {
    let base = |i: usize, size: [usize; 2], o: usize, k: [usize; 2]| ConvGeometry::new(i, size, o, k);
    vec![
        base(5, [4, 4], 6, [1, 1]),
        base(17, [7, 7], 11, [1, 1]),
        base(3, [13, 5], 2, [1, 1]),
        base(1, [1, 1], 1, [1, 1]),
        base(4, [9, 11], 6, [3, 2]),
        ConvGeometry { pads: [1; 4], ..base(6, [7, 7], 29, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(4, [16, 16], 5, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(2, [1, 1], 5, [3, 3]) },
        ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(3, [15, 17], 7, [3, 3]) },
        ConvGeometry { pads: [3; 4], stride: [2, 2], ..base(3, [23, 40], 8, [7, 7]) },
        ConvGeometry { pads: [0, 0, 1, 1], stride: [2, 2], ..base(3, [10, 12], 16, [3, 3]) },
        ConvGeometry { stride: [2, 2], ..base(4, [14, 14], 4, [1, 1]) },
        ConvGeometry { pads: [2, 0, 1, 3], dilation: [2, 1], ..base(2, [9, 20], 3, [3, 2]) },
        ConvGeometry { pads: [5; 4], ..base(2, [3, 4], 3, [2, 3]) },
        ConvGeometry { pads: [1; 4], groups: 2, ..base(6, [8, 8], 14, [3, 3]) },
        ConvGeometry { stride: [3, 3], ..base(2, [11, 40], 3, [3, 3]) },
        ConvGeometry { stride: [2, 1], dilation: [1, 2], pads: [0, 1, 2, 0], ..base(2, [9, 9], 3, [4, 3]) },
    ]
}

fn prepare(isa: Isa, g: &ConvGeometry, aligned: bool, choice: DenseChoice) -> (DenseConv, Vec<f32>, Vec<f32>) {
    let map = if aligned { Map::aligned } else { Map::tight };
    let input = map(g.in_channels, g.in_height, g.in_width);
    let output = map(g.out_channels, g.out_height(), g.out_width());
    let (w, bias) = (random(g.weights().unwrap(), 1), random(g.out_channels, 2));
    (DenseConv::prepare(isa, g, input, output, &w, Some(&bias), ACTIVATION, choice).unwrap(), w, bias)
}

#[test]
fn every_shape_of_tile_computes_what_nested_loops_compute() {
    for isa in isas() {
        for g in &geometries() {
            for (outputs, vectors) in Kernels::of(isa).shapes {
                for vectors in 1..=*vectors {
                    let choice = DenseChoice { outputs: *outputs, vectors, piece_rows: 3, block_channels: 2 };
                    let (layer, w, bias) = prepare(isa, g, vectors % 2 == 1, choice);
                    check(&layer, g, &w, &bias, 3e-6);
                }
            }
        }
    }
}

#[test]
fn guesses_and_odd_choices_compute_what_nested_loops_compute() {
    for isa in isas() {
        for g in &geometries() {
            let odd =
                [(0, 0, 0, 0), (99, 99, 99, 99), (5, 2, 1, 1)].map(|(outputs, vectors, piece_rows, block_channels)| {
                    DenseChoice { outputs, vectors, piece_rows, block_channels }
                });
            for choice in DenseChoice::candidates(isa, g).into_iter().chain(odd) {
                for aligned in [true, false] {
                    let (layer, w, bias) = prepare(isa, g, aligned, choice);
                    assert_eq!(layer.macs(), g.macs());
                    check(&layer, g, &w, &bias, 3e-6);
                }
            }
        }
    }
}

#[test]
fn wrong_maps_weights_and_biases_are_refused() {
    let g = ConvGeometry::new(2, [4, 4], 3, [1, 1]);
    let (input, output) = (Map::tight(2, 4, 4), Map::tight(3, 4, 4));
    let choice = DenseChoice { outputs: 4, vectors: 1, piece_rows: 1, block_channels: 1 };
    let prepare = |input: Map, output: Map, weights: &[f32], bias: Option<&[f32]>| {
        DenseConv::prepare(Isa::Scalar, &g, input, output, weights, bias, Activation::None, choice)
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(prepare(output, output, &[1.0; 6], None), KernelError::Map { what: "input", .. }));
    assert!(matches!(prepare(input, input, &[1.0; 6], None), KernelError::Map { what: "output", .. }));
    assert_eq!(prepare(input, output, &[1.0; 5], None), KernelError::ValueCount { expected: 6, found: 5 });
    assert_eq!(prepare(input, output, &[1.0; 6], Some(&[1.0])), KernelError::BiasLength { expected: 3, found: 1 });
}
