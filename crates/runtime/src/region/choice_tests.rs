//! Every candidate of every kind of layer, prepared and run, against loops over the weights.

use std::collections::BTreeSet;

use sentei_kernels::packed::{self, Encoding, Packed};

use super::*;
use crate::region::graph::Shape;

/// How the zeros of a layer lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mask {
    Dense,
    /// This share of zeros, which as many neighbouring outputs have in common.
    Zeros(f64, usize),
    /// Nothing is left.
    Empty,
}

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Weights of `outputs` rows; packed ones are decoded when a kernel is prepared, and bytes have a scale per output.
fn weights(shape: Vec<usize>, mask: Mask, bytes: bool) -> (Weights, Vec<f32>) {
    let (outputs, elements) = (shape[0], shape.iter().product::<usize>());
    let per_output = elements / outputs;
    let chance = noise(elements, 9);
    let kept = |at: &usize| match mask {
        Mask::Dense => true,
        Mask::Empty => false,
        Mask::Zeros(zeros, block) => {
            let (output, position) = (at / per_output, at % per_output);
            let first = output / block * block * per_output + position;
            f64::from(chance[first].abs()) >= zeros
        }
    };
    let positions: Vec<u32> = (0..elements).filter(kept).map(|at| at as u32).collect();
    let bias = Some(noise(outputs, 2));
    let mut full = vec![0.0; elements];
    if bytes {
        let values: Vec<i8> = noise(positions.len(), 3).iter().map(|v| (v * 126.0) as i8 | 1).collect();
        let scales: Vec<f32> = noise(outputs, 4).iter().map(|v| 0.01 + v.abs() / 100.0).collect();
        for (at, value) in positions.iter().zip(&values) {
            full[*at as usize] = f32::from(*value) * scales[*at as usize / per_output];
        }
        let values = packed::Values::I8(values);
        let chunk = Packed::encode(&shape, Encoding::Gap8, &positions, values, Some(scales)).unwrap();
        (Weights::packed(shape, Arc::new(vec![chunk]), bias), full)
    } else {
        let values = noise(positions.len(), 5).into_iter().map(|v| if v == 0.0 { 0.5 } else { v });
        positions.iter().zip(values).for_each(|(at, value)| full[*at as usize] = value);
        (Weights::dense(shape, full.clone(), bias), full)
    }
}

/// Sum and sum of absolute values of every output of a convolution, which a matrix is one of too.
fn reference(g: &ConvGeometry, full: &[f32], x: &[f32]) -> Vec<(f64, f64)> {
    let [kernel_rows, kernel_columns] = g.kernel;
    let (height, width) = (g.out_height(), g.out_width());
    let inputs = g.in_channels / g.groups;
    let mut y = vec![(0.0, 0.0); g.out_len()];
    for (at, weight) in full.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
        let tap = at % (kernel_rows * kernel_columns);
        let (output, input) =
            (at / (kernel_rows * kernel_columns) / inputs, at / (kernel_rows * kernel_columns) % inputs);
        let channel = output / (g.out_channels / g.groups) * inputs + input;
        for pixel in 0..height * width {
            let row = (pixel / width * g.stride[0] + tap / kernel_columns * g.dilation[0]).wrapping_sub(g.pads[0]);
            let column = (pixel % width * g.stride[1] + tap % kernel_columns * g.dilation[1]).wrapping_sub(g.pads[1]);
            if row < g.in_height && column < g.in_width {
                let product = f64::from(*weight) * f64::from(x[(channel * g.in_height + row) * g.in_width + column]);
                let sum: &mut (f64, f64) = &mut y[output * height * width + pixel];
                *sum = (sum.0 + product, sum.1 + product.abs());
            }
        }
    }
    y
}

fn spread(map: Map, tight: &[f32]) -> Vec<f32> {
    let mut x = vec![f32::NAN; map.len()];
    for (plane, pixels) in x.chunks_mut(map.stride).zip(tight.chunks(map.pixels())) {
        plane[..pixels.len()].copy_from_slice(pixels);
    }
    x
}

/// Runs every candidate; gives a word for each, for example `sparse 4`.
fn check(kind: Kind, g: &ConvGeometry, full: &[f32], bias: &[f32]) -> BTreeSet<String> {
    let activation = Activation::Clip { min: -0.75, max: 3.0 };
    let (name, op) = ("layer".to_owned(), "Conv+Add".to_owned());
    let layer = Layer { name, op, kind, x: 0, residual: Some(1), y: 2, activation };
    let aligned = |Shape { channels, height, width }| Map::aligned(channels, height, width);
    let (input, output) = (aligned(layer.input()), aligned(layer.output()));
    let (x, added) = (noise(g.in_len(), 6), noise(g.out_len(), 7));
    let sums = reference(g, full, &x);
    let (x, residual) = (spread(input, &x), spread(output, &added));
    let terms = full.len() / g.out_channels;
    let mut seen = BTreeSet::new();
    for isa in Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here()) {
        for choice in candidates(&layer, input, isa) {
            let ready =
                prepare(&layer, input, output, choice, isa).unwrap_or_else(|error| panic!("{choice:?}: {error}"));
            let mut y = vec![f32::NAN; output.len()];
            ready.run(&x, &mut y, Some(&residual), &mut vec![f32::NAN; ready.scratch_len()]);
            for (at, (sum, size)) in sums.iter().enumerate() {
                let (channel, pixel) = (at / output.pixels(), at % output.pixels());
                let more = f64::from(bias[channel]) + f64::from(added[at]);
                let expected = (sum + more).clamp(-0.75, 3.0);
                let found = f64::from(y[channel * output.stride + pixel]);
                // transforms add and subtract numbers larger than the result
                let rounding = if matches!(choice, Choice::Winograd(..)) { 16 } else { 1 };
                let tolerance = (rounding * (terms + 4)) as f64 * f64::from(f32::EPSILON) * (size + 2.0);
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{g:?} {choice:?} {isa:?} {}: y[{at}] is {found}, not {expected}",
                    ready.kernel()
                );
            }
            seen.insert(match choice {
                Choice::SparseConv(tile) => format!("sparse {}", tile.group),
                Choice::DenseConv(_) => "dense".into(),
                Choice::Winograd(size, _) => format!("winograd {size}"),
                other => format!("{other:?}"),
            });
        }
    }
    seen
}

/// Shapes of the networks that are measured, most of them with fewer channels; and the edges of what a file may hold.
fn geometries() -> Vec<ConvGeometry> {
    let conv = |inputs: usize, size: usize, outputs: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2])
    };
    vec![
        conv(3, 35, 8, 7, 2),
        conv(16, 29, 16, 3, 1),
        conv(16, 41, 24, 1, 1),
        conv(24, 28, 8, 3, 2),
        conv(64, 28, 32, 1, 2),
        conv(96, 14, 8, 3, 1),
        conv(128, 14, 32, 1, 1),
        conv(128, 7, 16, 3, 1),
        conv(300, 7, 40, 1, 1),
        conv(16, 32, 8, 3, 1),
        conv(64, 8, 32, 3, 1),
        conv(130, 2, 16, 3, 1),
        conv(64, 1, 24, 1, 1),
        conv(1, 1, 1, 1, 1),
        conv(1, 9, 1, 3, 1),
        conv(5, 13, 7, 3, 2),
        ConvGeometry { groups: 4, ..conv(16, 11, 32, 3, 1) },
        ConvGeometry { groups: 24, ..conv(24, 15, 24, 3, 2) },
        ConvGeometry { pads: [0, 1, 2, 0], dilation: [2, 1], ..conv(6, 12, 9, 3, 1) },
    ]
}

#[test]
fn every_candidate_of_a_convolution_computes_its_sums() {
    let mut seen = BTreeSet::new();
    for g in geometries() {
        let masks = [1, 2, 4, 8].map(|block| Mask::Zeros(0.85, block));
        for mask in [Mask::Dense, Mask::Empty, Mask::Zeros(0.5, 1)].into_iter().chain(masks) {
            // bytes have the same candidates, so half of the masks are enough
            for bytes in [false, true].into_iter().take(1 + usize::from(matches!(mask, Mask::Zeros(_, 1 | 4)))) {
                let shape = vec![g.out_channels, g.in_channels / g.groups, g.kernel[0], g.kernel[1]];
                let (weights, full) = weights(shape, mask, bytes);
                let bias = weights.bias.clone().unwrap();
                let kind = Kind::Conv { geometry: g.clone(), weights: Arc::new(weights) };
                seen.extend(check(kind, &g, &full, &bias));
            }
        }
    }
    let sparse = ["sparse 1", "sparse 2", "sparse 4", "sparse 8", "SparseTiny"];
    let dense = ["dense", "winograd 2", "winograd 4", "Depthwise", "DenseTiny"];
    let missing: Vec<_> = sparse.into_iter().chain(dense).filter(|word| !seen.contains(*word)).collect();
    assert!(missing.is_empty(), "never a candidate: {missing:?} of {seen:?}");
}

#[test]
fn every_candidate_of_a_matrix_computes_its_sums() {
    let mut seen = BTreeSet::new();
    for (rows, cols) in [(1, 1), (10, 100), (33, 784), (100, 300), (17, 1)] {
        let g = ConvGeometry::new(cols, [1, 1], rows, [1, 1]);
        for mask in [Mask::Dense, Mask::Empty, Mask::Zeros(0.5, 1), Mask::Zeros(0.9, 1)] {
            for bytes in [false, true] {
                let (weights, full) = weights(vec![rows, cols], mask, bytes);
                let bias = weights.bias.clone().unwrap();
                seen.extend(check(Kind::Linear { rows, cols, weights: Arc::new(weights) }, &g, &full, &bias));
            }
        }
    }
    assert_eq!(seen, ["DenseLinear", "SparseLinear"].map(str::to_owned).into());
}
