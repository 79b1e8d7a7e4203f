//! Every way to run a convolution against four nested loops.

use super::*;
use crate::map_testing::{assert_alike_in_slabs, assert_guarded, guarded_from, isas, random, split_runs};
use crate::{Activation, Isa, Layer};

/// A layer with its input, and what its sums should be.
pub(super) struct Case {
    pub geometry: ConvGeometry,
    pub positions: Vec<u32>,
    pub values: Vec<f32>,
    pub bytes: Vec<i8>,
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// Tight input, and tight residual.
    pub x: Vec<f32>,
    pub added: Vec<f32>,
    /// Sum and sum of absolute values of every output, without bias, with numbers and with bytes.
    sums: [Vec<(f64, f64)>; 2],
}

impl Case {
    /// A layer with about `density` of its weights; unless that is 1, row 1 is empty and input channel 1 is not read.
    pub fn new(geometry: &ConvGeometry, density: f32) -> Self {
        let g = geometry;
        let weights = g.weights().unwrap();
        let taps = g.kernel[0] * g.kernel[1];
        let row = weights / g.out_channels;
        let chance = random(weights, 7);
        let exists = |i: &usize| {
            density >= 1.0 || chance[*i].abs() < density && i / row != 1 && (row / taps == 1 || i % row / taps != 1)
        };
        let positions: Vec<u32> = (0..weights).filter(exists).map(|i| i as u32).collect();
        let noise = |seed| random(positions.len(), seed);
        let mut case = Self {
            geometry: g.clone(),
            values: noise(1),
            bytes: noise(2).iter().map(|v| (v * 128.0) as i8).collect(),
            scales: random(g.out_channels, 3).iter().map(|v| v / 50.0).collect(),
            bias: random(g.out_channels, 4),
            x: random(g.in_len(), 5),
            added: random(g.out_len(), 6),
            sums: [Vec::new(), Vec::new()],
            positions,
        };
        case.sums = [false, true].map(|bytes| case.reference(bytes));
        case
    }

    fn weight(&self, k: usize, bytes: bool) -> f64 {
        let row = self.geometry.weights().unwrap() / self.geometry.out_channels;
        let scaled = || f64::from(self.bytes[k]) * f64::from(self.scales[self.positions[k] as usize / row]);
        if bytes { scaled() } else { f64::from(self.values[k]) }
    }

    fn reference(&self, bytes: bool) -> Vec<(f64, f64)> {
        let g = &self.geometry;
        let [kh, kw] = g.kernel;
        let (oh, ow) = (g.out_height(), g.out_width());
        let group_in = g.in_channels / g.groups;
        let mut y = vec![(0.0, 0.0); g.out_len()];
        for (k, position) in self.positions.iter().enumerate() {
            let position = *position as usize;
            let (output, input, tap) =
                (position / (group_in * kh * kw), position / (kh * kw) % group_in, position % (kh * kw));
            let channel = output / (g.out_channels / g.groups) * group_in + input;
            let w = self.weight(k, bytes);
            for r in 0..oh {
                for c in 0..ow {
                    let ir = (r * g.stride[0] + tap / kw * g.dilation[0]).checked_sub(g.pads[0]);
                    let ic = (c * g.stride[1] + tap % kw * g.dilation[1]).checked_sub(g.pads[1]);
                    let (Some(ir), Some(ic)) = (ir, ic) else { continue };
                    if ir < g.in_height && ic < g.in_width {
                        let product = w * f64::from(self.x[(channel * g.in_height + ir) * g.in_width + ic]);
                        let sum: &mut (f64, f64) = &mut y[(output * oh + r) * ow + c];
                        *sum = (sum.0 + product, sum.1 + product.abs());
                    }
                }
            }
        }
        y
    }
}

/// What lies around the weights of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Planes start on lines.
    pub aligned: bool,
    pub bytes: bool,
    pub biased: bool,
    pub residual: bool,
    pub activation: Activation,
}

impl Around {
    /// The `index`-th of many combinations.
    pub fn nth(index: usize) -> Self {
        let clip = Activation::Clip { min: -0.5, max: 2.0 };
        Self {
            aligned: index.is_multiple_of(2),
            bytes: (index / 2).is_multiple_of(2),
            biased: !index.is_multiple_of(3),
            residual: index % 5 < 3,
            activation: [clip, Activation::None, Activation::Relu, Activation::HardSwish][index / 4 % 4],
        }
    }
}

fn check(case: &Case, isa: Isa, choice: ConvChoice, around: Around) {
    let g = &case.geometry;
    let map = if around.aligned { Map::aligned } else { Map::tight };
    let input = map(g.in_channels, g.in_height, g.in_width);
    let output = map(g.out_channels, g.out_height(), g.out_width());
    let values = if around.bytes { Values::I8(case.bytes.clone()) } else { Values::F32(case.values.clone()) };
    let dense = case.positions.len() == g.weights().unwrap();
    let weights = ConvWeights {
        positions: (!dense).then_some(&case.positions[..]),
        values: &values,
        scales: around.bytes.then_some(&case.scales[..]),
        bias: around.biased.then_some(&case.bias[..]),
    };
    let conv = Conv::prepare(isa, g, input, output, weights, around.activation, choice).unwrap();
    assert_eq!(conv.nnz(), case.positions.len());
    assert_right(case, &conv, around, &format!("{choice:?}"));
}

/// Runs a layer of the case, whole and in parts.
pub(super) fn assert_right(case: &Case, conv: &impl Layer, around: Around, how: &str) {
    let (g, output) = (&case.geometry, conv.output());
    assert_eq!(conv.macs(), (case.positions.len() * output.pixels()) as u64);
    let x = guarded_from(conv.input(), &case.x);
    let residual = around.residual.then(|| guarded_from(output, &case.added));
    let y = split_runs(conv, &x, residual.as_deref());
    assert_guarded(&y, output, conv.kernel());
    assert_alike_in_slabs(conv, &x, residual.as_deref(), &y);
    let terms = g.weights().unwrap() / g.out_channels;
    for (i, (sum, size)) in case.sums[usize::from(around.bytes)].iter().enumerate() {
        let bias = if around.biased { f64::from(case.bias[i / output.pixels()]) } else { 0.0 };
        let added = if around.residual { f64::from(case.added[i]) } else { 0.0 };
        let sum = sum + bias + added;
        let expected = match around.activation {
            Activation::None => sum,
            Activation::Relu => sum.max(0.0),
            Activation::Clip { min, max } => sum.max(f64::from(min)).min(f64::from(max)),
            Activation::HardSwish => sum * (sum / 6.0 + 0.5).clamp(0.0, 1.0),
        };
        let found = y[i / output.pixels() * output.stride + i % output.pixels()];
        // hard-swish has a slope of at most 1.5 and rounds three times more
        let tolerance = (terms + 7) as f64 * 1.5 * f64::from(f32::EPSILON) * (size + bias.abs() + added.abs());
        assert!(
            (f64::from(found) - expected).abs() <= tolerance,
            "{g:?} {} {how} {around:?}: y[{i}] is {found}, not {expected}",
            conv.kernel()
        );
    }
}

fn geometries() -> Vec<ConvGeometry> {
    let base = |i: usize, size: [usize; 2], o: usize, k: [usize; 2]| ConvGeometry::new(i, size, o, k);
    vec![
        base(5, [4, 4], 6, [1, 1]),
        base(17, [7, 7], 11, [1, 1]),
        base(3, [13, 5], 2, [1, 1]),
        base(1, [1, 1], 1, [1, 1]),
        ConvGeometry { pads: [1; 4], ..base(1, [1, 1], 1, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(1, [9, 11], 1, [3, 3]) },
        base(2, [5, 4], 9, [5, 4]),
        ConvGeometry { pads: [0, 1, 2, 0], ..base(3, [4, 5], 3, [1, 1]) },
        ConvGeometry { pads: [1; 4], ..base(6, [7, 7], 9, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(4, [16, 16], 5, [3, 3]) },
        ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(3, [15, 17], 7, [3, 3]) },
        ConvGeometry { pads: [0, 0, 1, 1], stride: [2, 2], ..base(2, [15, 14], 8, [3, 3]) },
        ConvGeometry { pads: [3; 4], stride: [2, 2], ..base(3, [23, 40], 8, [7, 7]) },
        ConvGeometry { stride: [2, 2], ..base(4, [14, 14], 4, [1, 1]) },
        ConvGeometry { pads: [2, 0, 1, 3], dilation: [2, 1], ..base(2, [9, 20], 3, [3, 2]) },
        ConvGeometry { pads: [4; 4], dilation: [2, 4], stride: [1, 2], ..base(2, [12, 13], 3, [3, 3]) },
        ConvGeometry { pads: [1; 4], groups: 2, ..base(6, [8, 8], 4, [3, 3]) },
        ConvGeometry { pads: [1; 4], groups: 3, stride: [2, 1], ..base(3, [9, 9], 6, [3, 3]) },
        ConvGeometry { stride: [3, 3], ..base(2, [11, 40], 3, [3, 3]) },
        // more copies of the input than bits to mark them with
        base(2, [2, 80], 2, [1, 70]),
    ]
}

/// Every instruction set and number of outputs per entry with its candidates, the guess in four surroundings.
fn check_candidates(case: &Case, seed: usize) {
    let g = &case.geometry;
    let input = Map::aligned(g.in_channels, g.in_height, g.in_width);
    for isa in isas() {
        for group in [1, 2, 4, 8] {
            let choices = ConvChoice::candidates(isa, g, input, case.positions.len(), group);
            assert_eq!(choices[0], ConvChoice::guess(isa, g, input, case.positions.len(), group));
            for index in 0..4.max(choices.len()) {
                check(case, isa, choices[index % choices.len()], Around::nth(index + 4 * (seed + group)));
            }
            (0..4).for_each(|index| check(case, isa, choices[0], Around::nth(index + 4 * (seed + group))));
        }
    }
}

#[test]
fn every_candidate_computes_what_four_loops_compute() {
    for (seed, geometry) in geometries().iter().enumerate() {
        for density in [0.0, 0.1, 0.5, 1.0] {
            check_candidates(&Case::new(geometry, density), seed);
        }
    }
}

#[test]
fn every_width_is_right_for_small_and_strided_kernels() {
    for (index, width) in [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 65].into_iter().enumerate() {
        for (kernel, stride, pads) in
            [(1, 1, [0; 4]), (3, 1, [1; 4]), (3, 2, [1; 4]), (3, 2, [0, 0, 1, 1]), (1, 2, [0; 4]), (5, 1, [2; 4])]
        {
            let size = [[1, 3, 6, 9][(index + kernel) % 4], width];
            let base = ConvGeometry::new(1 + index % 3, size, 1 + (index + stride) % 10, [kernel; 2]);
            let geometry = ConvGeometry { stride: [stride; 2], pads, ..base };
            if geometry.validate().is_ok() {
                check_candidates(&Case::new(&geometry, 0.5), index + kernel);
            }
        }
    }
}

/// Layers so large that guesses cut channels into blocks, rows into pieces and outputs into segments.
#[test]
fn layers_of_many_blocks_and_pieces_are_right() {
    let base = |i: usize, size: usize, o: usize, k: usize| ConvGeometry {
        pads: [k / 2; 4],
        ..ConvGeometry::new(i, [size; 2], o, [k; 2])
    };
    let mut most_blocks = 0;
    for (seed, geometry) in [
        base(300, 7, 24, 1),
        base(130, 28, 10, 1),
        base(128, 14, 17, 3),
        base(24, 41, 9, 3),
        ConvGeometry { stride: [2, 2], ..base(64, 31, 9, 3) },
    ]
    .iter()
    .enumerate()
    {
        for density in [0.1, 1.0] {
            let case = Case::new(geometry, density);
            let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
            for isa in isas() {
                let choice = ConvChoice::guess(isa, geometry, input, case.positions.len(), 1);
                most_blocks = most_blocks.max(geometry.in_channels.div_ceil(choice.block_channels));
            }
            check_candidates(&case, seed);
        }
    }
    assert!(most_blocks > 2, "guesses cut channels");
}

/// Only kernels that add up alike are timed against each other when a model is loaded, and few sums are added up otherwise.
#[test]
fn guesses_for_common_sizes_add_up_in_file_order() {
    for size in [14, 15, 16, 17, 20, 26, 28, 32, 38, 40, 56, 64, 75, 76, 80, 112, 150, 190, 224] {
        for (channels, kernel, stride) in
            [(64, 1, 1), (64, 3, 1), (8, 3, 2), (64, 1, 2), (64, 5, 1), (256, 3, 1), (512, 3, 2)]
        {
            let base = ConvGeometry::new(channels, [size; 2], 16, [kernel; 2]);
            let geometry = ConvGeometry { pads: [kernel / 2; 4], stride: [stride; 2], ..base };
            let input = Map::aligned(channels, size, size);
            let output = Map::aligned(16, geometry.out_height(), geometry.out_width());
            for isa in isas().filter(|isa| *isa != Isa::Scalar && output.pixels() >= 12 * isa.lanes()) {
                let choice = ConvChoice::guess(isa, &geometry, input, 1000, 1);
                let values = Values::F32(vec![1.0; 16]);
                let positions: Vec<u32> = (0..16).map(|i| i * (geometry.weights().unwrap() / 16) as u32).collect();
                let weights = ConvWeights { positions: Some(&positions), values: &values, scales: None, bias: None };
                let conv = Conv::prepare(isa, &geometry, input, output, weights, Activation::None, choice).unwrap();
                assert!(conv.sums_in_file_order(), "{geometry:?} {} {choice:?}", conv.kernel());
            }
        }
    }
}

/// Offsets of 16 bits do not reach as far as one copy of a large image, or as many planes.
#[test]
fn guesses_for_large_images_and_many_channels_can_be_prepared() {
    let base = |channels: usize, size: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        ..ConvGeometry::new(channels, [size; 2], 2, [kernel; 2])
    };
    for geometry in [
        base(1, 1024, 7, 2),
        base(1, 2048, 3, 2),
        base(1, 384, 16, 16),
        base(48, 190, 1, 1),
        base(512, 56, 1, 1),
        base(600, 28, 3, 1),
    ] {
        let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
        let output = Map::aligned(2, geometry.out_height(), geometry.out_width());
        let values = Values::F32(vec![1.0; geometry.weights().unwrap()]);
        for isa in isas() {
            for choice in ConvChoice::candidates(isa, &geometry, input, 10, 1) {
                let weights = ConvWeights { positions: None, values: &values, scales: None, bias: None };
                let conv = Conv::prepare(isa, &geometry, input, output, weights, Activation::None, choice);
                assert!(conv.is_ok(), "{geometry:?} {} {choice:?}: {:?}", isa.name(), conv.err());
            }
        }
    }
}

#[test]
fn odd_choices_give_the_same_result() {
    for (seed, geometry) in geometries().iter().enumerate() {
        let case = Case::new(geometry, 0.4);
        for isa in isas() {
            for (index, (group, vectors, pitch, piece_rows, block_channels)) in [
                (1, 1, 0, 1, 1),
                (1, 3, 24, 2, 2),
                (1, 3, 0, 2, 2),
                (2, 2, 8, 3, 3),
                (4, 9, 48, 5, 1),
                (1, 99, 64, 99, 99),
            ]
            .into_iter()
            .enumerate()
            {
                let choice = ConvChoice { group, vectors, pitch, piece_rows, block_channels };
                check(&case, isa, choice, Around { aligned: true, ..Around::nth(seed + index) });
                check(&case, isa, choice, Around { aligned: false, ..Around::nth(seed + 2 * index + 5) });
            }
        }
    }
}

/// Tiles that a guess never asks for, since it prefers tiles of equal width.
#[test]
fn every_number_of_vectors_is_right_for_every_number_of_outputs() {
    let geometry = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(3, [15, 16], 11, [3, 3]) };
    let direct = ConvGeometry::new(5, [15, 17], 11, [1, 1]);
    for (seed, case) in [Case::new(&geometry, 0.4), Case::new(&direct, 0.6)].iter().enumerate() {
        for isa in isas() {
            for group in [1, 2, 4, 8] {
                for vectors in 1..=16 {
                    for block_channels in [2, 5] {
                        let choice = ConvChoice { group, vectors, pitch: 16, piece_rows: 15, block_channels };
                        check(case, isa, choice, Around::nth(seed + vectors + 3 * block_channels));
                    }
                }
            }
        }
    }
}

#[test]
fn wrong_maps_values_and_scales_are_refused() {
    let geometry = ConvGeometry::new(2, [4, 4], 3, [1, 1]);
    let (input, output) = (Map::tight(2, 4, 4), Map::tight(3, 4, 4));
    let choice = ConvChoice::guess(Isa::Scalar, &geometry, input, 6, 1);
    let prepare = |input: Map, output: Map, positions: Option<&[u32]>, values: &Values, scales: Option<&[f32]>| {
        let weights = ConvWeights { positions, values, scales, bias: None };
        Conv::prepare(Isa::Scalar, &geometry, input, output, weights, Activation::None, choice).map(|_| ()).unwrap_err()
    };
    let (six, two) = (Values::F32(vec![1.0; 6]), Values::F32(vec![1.0; 2]));
    let narrow = Map { stride: 15, ..output };
    assert!(matches!(prepare(output, output, None, &six, None), KernelError::Map { what: "input", .. }));
    assert!(matches!(prepare(input, narrow, None, &six, None), KernelError::Map { what: "output", .. }));
    assert_eq!(prepare(input, output, None, &two, None), KernelError::ValueCount { expected: 6, found: 2 });
    assert_eq!(prepare(input, output, None, &six, Some(&[1.0; 3])), KernelError::ScaleCount { expected: 0, found: 3 });
    let bytes = Values::I8(vec![1; 6]);
    assert_eq!(prepare(input, output, None, &bytes, None), KernelError::ScaleCount { expected: 3, found: 0 });
    let order = KernelError::IndexOrder { previous: 3, index: 3 };
    assert_eq!(prepare(input, output, Some(&[3, 3]), &two, None), order);
    assert_eq!(prepare(input, output, Some(&[0, 6]), &two, None), KernelError::IndexOutside { index: 6, len: 6 });
}

#[test]
fn the_map_is_read_in_slabs_whatever_the_tiles() {
    for isa in isas() {
        for (size, group) in [([14, 14], 1), ([16, 16], 1), ([28, 28], 2), ([56, 24], 1), ([36, 40], 4)] {
            let g = ConvGeometry::new(128, size, 12, [1, 1]);
            let case = Case::new(&g, 0.2);
            let [input, output] = [128, 12].map(|channels| Map::aligned(channels, size[0], size[1]));
            let choices = ConvChoice::candidates(isa, &g, input, case.positions.len(), group);
            for (choice, bytes) in choices.into_iter().flat_map(|choice| [(choice, false), (choice, true)]) {
                let values = if bytes { Values::I8(case.bytes.clone()) } else { Values::F32(case.values.clone()) };
                let scales = bytes.then_some(&case.scales[..]);
                let weights =
                    ConvWeights { positions: Some(&case.positions), values: &values, scales, bias: Some(&case.bias) };
                let conv = Conv::prepare(isa, &g, input, output, weights, Activation::Relu, choice).unwrap();
                let x = guarded_from(input, &case.x);
                let y = split_runs(&conv, &x, None);
                let times = assert_alike_in_slabs(&conv, &x, None, &y);
                // portable tiles are all so narrow that each sum is cut in two
                assert_eq!(times > 0, isa != Isa::Scalar, "{} {choice:?}", conv.kernel());
                assert_eq!(conv.sums_in_file_order(), isa != Isa::Scalar && !bytes, "{} {choice:?}", conv.kernel());
            }
        }
    }
}
