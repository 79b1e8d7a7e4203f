//! Every way to run a convolution against four nested loops.

use std::sync::Once;

use super::*;
use crate::{Activation, Isa, LINE, Layer};

struct Case {
    geometry: ConvGeometry,
    positions: Vec<u32>,
    values: Vec<f32>,
    bytes: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

impl Case {
    /// A layer with about `density` of its weights; row 1 is empty where there is one.
    fn new(geometry: &ConvGeometry, density: f32) -> Self {
        let seed = &mut 7;
        let weights = geometry.weights().unwrap();
        let row = weights / geometry.out_channels;
        let exists = |i: &usize, r: f32| density >= 1.0 || (r.abs() < density && i / row != 1);
        let positions: Vec<u32> = (0..weights).filter(|i| exists(i, noise(seed))).map(|i| i as u32).collect();
        let values = positions.iter().map(|_| noise(seed)).collect();
        let bytes = positions.iter().map(|_| (noise(seed) * 127.0) as i8).collect();
        let scales = (0..geometry.out_channels).map(|_| 0.01 + noise(seed).abs() / 100.0).collect();
        let bias = (0..geometry.out_channels).map(|_| noise(seed)).collect();
        Self { geometry: geometry.clone(), positions, values, bytes, scales, bias }
    }

    fn weight(&self, k: usize, bytes: bool) -> f64 {
        let row = self.geometry.weights().unwrap() / self.geometry.out_channels;
        let scaled = || f64::from(self.bytes[k]) * f64::from(self.scales[self.positions[k] as usize / row]);
        if bytes { scaled() } else { f64::from(self.values[k]) }
    }

    /// Sum and sum of absolute values of every output, on tight tensors.
    fn reference(&self, x: &[f32], bytes: bool) -> Vec<(f64, f64)> {
        let g = &self.geometry;
        let [kh, kw] = g.kernel;
        let (oh, ow) = (g.out_height(), g.out_width());
        let group_in = g.in_channels / g.groups;
        let mut y: Vec<(f64, f64)> =
            (0..g.out_len()).map(|i| f64::from(self.bias[i / (oh * ow)])).map(|b| (b, b.abs())).collect();
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
                        let product = w * f64::from(x[(channel * g.in_height + ir) * g.in_width + ic]);
                        let sum = &mut y[(output * oh + r) * ow + c];
                        *sum = (sum.0 + product, sum.1 + product.abs());
                    }
                }
            }
        }
        y
    }
}

/// A tight tensor laid out as `map`, what means nothing being NaN.
fn lay_out(map: Map, tight: &[f32]) -> Vec<f32> {
    let mut x = vec![f32::NAN; map.len()];
    for (plane, from) in x.chunks_exact_mut(map.stride).zip(tight.chunks_exact(map.pixels())) {
        plane[..map.pixels()].copy_from_slice(from);
    }
    x
}

fn check(case: &Case, isa: Isa, choice: ConvChoice, aligned: bool, bytes: bool) {
    let g = &case.geometry;
    let map = if aligned { Map::aligned } else { Map::tight };
    let input = map(g.in_channels, g.in_height, g.in_width);
    let output = map(g.out_channels, g.out_height(), g.out_width());
    let values = if bytes { Values::I8(case.bytes.clone()) } else { Values::F32(case.values.clone()) };
    let dense = case.positions.len() == g.weights().unwrap();
    let weights = ConvWeights {
        positions: (!dense).then_some(&case.positions[..]),
        values: &values,
        scales: bytes.then_some(&case.scales[..]),
        bias: Some(&case.bias),
    };
    let activation = Activation::Clip { min: -0.5, max: 2.0 };
    let conv = Conv::prepare(isa, g, input, output, weights, activation, choice).unwrap();
    assert_eq!((conv.nnz(), conv.macs()), (case.positions.len(), (case.positions.len() * output.pixels()) as u64));
    let seed = &mut 3;
    let tight: Vec<f32> = (0..g.in_len()).map(|_| noise(seed)).collect();
    let added: Vec<f32> = (0..g.out_len()).map(|_| noise(seed)).collect();
    let (x, residual) = (lay_out(input, &tight), lay_out(output, &added));
    let guard = 123.0;
    let mut y = vec![guard; output.len() + LINE];
    let mut scratch = vec![f32::NAN; conv.scratch_len()];
    conv.run(&x, &mut y[..output.len()], Some(&residual), &mut scratch);
    assert!(y[output.len()..].iter().all(|y| *y == guard), "wrote past the output");
    for (i, (sum, size)) in case.reference(&tight, bytes).into_iter().enumerate() {
        let found = y[i / output.pixels() * output.stride + i % output.pixels()];
        let expected = (sum + f64::from(added[i])).clamp(-0.5, 2.0);
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= 3e-6 * (size + 1.0),
            "{g:?} {isa:?} {choice:?} bytes {bytes}: y[{i}] is {found}, not {expected}"
        );
    }
    // every unit alone, from the last to the first, each with fresh scratch memory
    let mut again = vec![guard; output.len()];
    for unit in (0..conv.units()).rev() {
        scratch.fill(f32::NAN);
        let call = crate::Call { x: &x, y: crate::Shared::new(&mut again), residual: Some(&residual) };
        // SAFETY: one thread, and `again` is borrowed for the call.
        unsafe { conv.run_units(unit..unit + 1, &call, &mut scratch) };
        assert!(conv.unit_cost(unit) > 0);
    }
    for (plane, other) in again.chunks_exact(output.stride).zip(y.chunks_exact(output.stride)) {
        assert_eq!(plane[..output.pixels()], other[..output.pixels()], "units alone give other bits");
    }
}

fn geometries() -> Vec<ConvGeometry> {
    let base = |i: usize, size: [usize; 2], o: usize, k: [usize; 2]| ConvGeometry::new(i, size, o, k);
    vec![
        base(5, [4, 4], 6, [1, 1]),
        base(17, [7, 7], 11, [1, 1]),
        base(3, [13, 5], 2, [1, 1]),
        base(1, [1, 1], 1, [1, 1]),
        ConvGeometry { pads: [1; 4], ..base(6, [7, 7], 9, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(4, [16, 16], 5, [3, 3]) },
        ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(3, [15, 17], 7, [3, 3]) },
        ConvGeometry { pads: [3; 4], stride: [2, 2], ..base(3, [23, 40], 8, [7, 7]) },
        ConvGeometry { stride: [2, 2], ..base(4, [14, 14], 4, [1, 1]) },
        ConvGeometry { pads: [2, 0, 1, 3], dilation: [2, 1], ..base(2, [9, 20], 3, [3, 2]) },
        ConvGeometry { pads: [1; 4], groups: 2, ..base(6, [8, 8], 4, [3, 3]) },
        ConvGeometry { stride: [3, 3], ..base(2, [11, 40], 3, [3, 3]) },
    ]
}

/// The instruction sets this CPU runs; the others are reported as skipped.
fn instruction_sets() -> impl Iterator<Item = Isa> {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        for isa in Isa::COMPILED {
            let word = if isa.runs_here() { "ran" } else { "SKIPPED (not on this CPU)" };
            eprintln!("{word}: f32_planes_{name}, i8_planes_{name}", name = isa.name());
        }
    });
    Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here())
}

#[test]
fn every_guess_computes_what_four_loops_compute() {
    for geometry in &geometries() {
        for density in [0.0, 0.1, 0.5, 1.0] {
            let case = Case::new(geometry, density);
            let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
            for isa in instruction_sets() {
                for group in [1, 2, 4, 8] {
                    let choice = ConvChoice::guess(isa, geometry, input, case.positions.len(), group);
                    for aligned in [true, false] {
                        for bytes in [true, false] {
                            check(&case, isa, choice, aligned, bytes);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn odd_choices_give_the_same_result() {
    for geometry in &geometries() {
        let case = Case::new(geometry, 0.4);
        for isa in instruction_sets() {
            for (group, vectors, pitch, piece_rows, block_channels) in
                [(1, 1, 0, 1, 1), (1, 3, 24, 2, 2), (2, 2, 8, 3, 3), (4, 9, 48, 5, 1), (1, 99, 64, 99, 99)]
            {
                let choice = ConvChoice { group, vectors, pitch, piece_rows, block_channels };
                check(&case, isa, choice, true, false);
                check(&case, isa, choice, false, true);
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
