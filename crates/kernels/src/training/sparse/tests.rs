//! The same bits as one multiply-add after the other, in the order that `training` says.

use proptest::prelude::*;

use super::*;

/// Image `n`, channel, row and column of a map with `[channels, rows, cols]` in layout `lanes`.
fn at(lanes: Lanes, [channels, rows, cols]: [usize; 3], n: usize, channel: usize, row: usize, col: usize) -> usize {
    ((((n / lanes.lanes) * channels + channel) * rows + row) * cols + col) * lanes.lanes + n % lanes.lanes
}

fn multiply_add(isa: Isa, a: f32, b: f32, sum: f32) -> f32 {
    if isa == Isa::Scalar { sum + a * b } else { a.mul_add(b, sum) }
}

fn input_map(g: &ConvGeometry) -> [usize; 3] {
    [g.in_channels, g.input[0], g.input[1]]
}

fn output_map(g: &ConvGeometry) -> [usize; 3] {
    [g.out_channels, g.output[0], g.output[1]]
}

/// Calls `each(output, input, tap, output pixel, input pixel)` for every product of an image, by output channel, input channel, row, column.
fn products(g: &ConvGeometry, mut each: impl FnMut(usize, usize, usize, [usize; 2], [usize; 2])) {
    for o in 0..g.out_channels {
        for c in 0..g.group_in() {
            for ky in 0..g.kernel[0] {
                for kx in 0..g.kernel[1] {
                    for oy in 0..g.output[0] {
                        for ox in 0..g.output[1] {
                            let y = (oy * g.stride[0] + ky * g.dilation[0]).checked_sub(g.pads[0]);
                            let x = (ox * g.stride[1] + kx * g.dilation[1]).checked_sub(g.pads[1]);
                            if let (Some(y), Some(x)) = (y, x)
                                && y < g.input[0]
                                && x < g.input[1]
                            {
                                let tap = ky * g.kernel[1] + kx;
                                each(
                                    o,
                                    o / g.group_out() * g.group_in() + c,
                                    (o * g.group_in() + c) * g.kernel[0] * g.kernel[1] + tap,
                                    [oy, ox],
                                    [y, x],
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Numbers without a pattern, none of them zero.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 + 0.5) / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Compares both directions with the scalar loop, on every instruction set and with 1, 2 and 3 threads.
fn check(g: ConvGeometry, batch: usize, keep: &[bool]) {
    for isa in Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here() && isa.or_portable() == *isa) {
        let lanes = Lanes::new(isa, batch);
        let mut layer = SparseConv::new(isa, g, lanes, keep).expect("a layer");
        assert_eq!(layer.survivors(), keep.iter().filter(|keep| **keep).count());
        let (inputs, outputs) = (g.in_channels * g.in_plane(), g.out_channels * g.out_plane());
        let mut w = numbers(keep.len(), 1);
        // what is not kept must not be used
        w.iter_mut().zip(keep).filter(|(_, keep)| !**keep).for_each(|(w, _)| *w = f32::NAN);
        let (x, gy) = (numbers(lanes.len(inputs), 2), numbers(lanes.len(outputs), 3));
        let (bias, there) = (numbers(g.out_channels, 4), numbers(lanes.len(inputs), 5));

        let (mut plain, mut biased) = (vec![0.0f32; gy.len()], vec![0.0f32; gy.len()]);
        let (mut fresh, mut added) = (vec![0.0f32; x.len()], there.clone());
        let images = lanes.blocks() * lanes.lanes;
        for n in 0..images {
            for o in 0..g.out_channels {
                for pixel in 0..g.out_plane() {
                    biased[at(lanes, output_map(&g), n, o, 0, pixel)] = bias[o];
                }
            }
            products(&g, |o, c, weight, out, from| {
                if keep[weight] {
                    let (to, from) = (
                        at(lanes, output_map(&g), n, o, out[0], out[1]),
                        at(lanes, input_map(&g), n, c, from[0], from[1]),
                    );
                    plain[to] = multiply_add(isa, w[weight], x[from], plain[to]);
                    biased[to] = multiply_add(isa, w[weight], x[from], biased[to]);
                    fresh[from] = multiply_add(isa, w[weight], gy[to], fresh[from]);
                    added[from] = multiply_add(isa, w[weight], gy[to], added[from]);
                }
            });
        }
        for threads in 1..=3 {
            let team = Team::new(threads, false).expect("threads");
            let name = format!("{g:?}, batch {batch}, {}, {threads} threads", isa.name());
            let mut y = vec![7.0; gy.len()];
            layer.forward(&team, &x, &w, None, &mut y);
            assert_eq!(bits(&y), bits(&plain), "forward: {name}");
            layer.forward(&team, &x, &w, Some(&bias), &mut y);
            assert_eq!(bits(&y), bits(&biased), "forward with bias: {name}");
            let mut gx = vec![7.0; x.len()];
            layer.input_gradient(&team, &gy, &w, &mut gx, false);
            assert_eq!(bits(&gx), bits(&fresh), "input gradient: {name}");
            gx.copy_from_slice(&there);
            layer.input_gradient(&team, &gy, &w, &mut gx, true);
            assert_eq!(bits(&gx), bits(&added), "input gradient, added: {name}");
        }
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// A layer whose output is as large as its padding says.
fn geometry(
    groups: usize,
    channels: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
    dilation: [usize; 2],
) -> Option<ConvGeometry> {
    let output = |axis: usize| {
        let extent = (kernel[axis] - 1) * dilation[axis] + 1;
        let padded = input[axis] + pads[axis] + pads[axis + 2];
        Some(padded.checked_sub(extent)? / stride[axis] + 1)
    };
    let (output, pads) = ([output(0)?, output(1)?], [pads[0], pads[1]]);
    let [in_channels, out_channels] = channels.map(|channels| channels * groups);
    Some(ConvGeometry { groups, in_channels, out_channels, input, output, kernel, stride, pads, dilation })
}

fn same(channels: [usize; 2], size: usize, kernel: usize, stride: usize) -> ConvGeometry {
    let pad = kernel / 2;
    geometry(1, channels, [size; 2], [kernel; 2], [stride; 2], [pad; 4], [1; 2]).expect("it fits")
}

fn kept(len: usize, density: f32, seed: u64) -> Vec<bool> {
    numbers(len, seed).iter().map(|number| *number < density * 2.0 - 1.0).collect()
}

#[test]
fn layers_of_usual_networks_have_the_bits_of_a_scalar_loop() {
    let cases = [
        (same([20, 9], 9, 3, 1), 40),
        (same([7, 33], 4, 3, 1), 64),
        (same([40, 40], 2, 3, 1), 33),
        (same([5, 6], 8, 3, 2), 17),
        (same([5, 6], 7, 1, 2), 16),
        (same([70, 30], 1, 1, 1), 128),
        (same([9, 8], 12, 1, 1), 16),
        (same([2, 3], 33, 5, 1), 3),
    ];
    for (g, batch) in cases {
        check(g, batch, &kept(g.weights(), 0.2, 9));
    }
}

#[test]
fn nothing_and_everything_may_survive() {
    let g = same([3, 4], 5, 3, 1);
    check(g, 5, &vec![false; g.weights()]);
    check(g, 5, &vec![true; g.weights()]);
    let mut keep = vec![true; g.weights()];
    keep[g.patch()..2 * g.patch()].fill(false);
    keep.chunks_mut(g.patch()).for_each(|row| row[9..18].fill(false));
    check(g, 5, &keep);
}

#[test]
fn many_channels_go_in_chunks() {
    let g = same([150, 5], 6, 3, 1);
    check(g, 16, &kept(g.weights(), 0.3, 9));
    let layer =
        SparseConv::new(Isa::best(), g, Lanes::new(Isa::best(), 16), &vec![true; g.weights()]).expect("a layer");
    assert!(layer.forward.chunks() > 1, "too few channels for what this test is about");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let g = same([3, 4], 5, 3, 1);
    let (isa, other) = (Isa::Scalar, Lanes { batch: 4, lanes: 3 });
    let lanes = Lanes::new(isa, 4);
    let error = |g, lanes, keep: &[bool]| SparseConv::new(isa, g, lanes, keep).expect_err("it does not fit");
    let wrong = KernelError::ValueCount { expected: g.weights(), found: 1 };
    assert_eq!(error(g, lanes, &[true]), wrong);
    assert!(matches!(error(g, other, &vec![true; g.weights()]), KernelError::Unfit { .. }));
    assert!(matches!(error(ConvGeometry { groups: 2, ..g }, lanes, &[]), KernelError::Groups { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn layers_of_any_shape_have_the_bits_of_a_scalar_loop(
        groups in 1usize..4, channels in [1usize..6, 1usize..6].prop_map(|c| c), input in [1usize..10, 1usize..10],
        kernel in [1usize..6, 1usize..6], stride in [1usize..4, 1usize..4], pads in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
        dilation in [1usize..3, 1usize..3], batch in 1usize..40, density in 0f32..1.0, seed: u64,
    ) {
        if let Some(g) = geometry(groups, channels, input, kernel, stride, pads, dilation) {
            check(g, batch, &kept(g.weights(), density, seed));
        }
    }
}
