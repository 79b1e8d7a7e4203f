//! Against the plain loops of both directions: in f64 within rounding, and in f32 bit by bit in the promised order.

use proptest::prelude::*;

use super::DenseConv;
use crate::map_testing::random;
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes};
use crate::{Isa, KernelError};

/// One layer with its numbers.
struct Case {
    geometry: ConvGeometry,
    lanes: Lanes,
    x: Vec<f32>,
    gy: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    /// What is in the gradient before.
    before: Vec<f32>,
}

impl Case {
    fn new(isa: Isa, geometry: ConvGeometry, batch: usize) -> Self {
        let lanes = Lanes::new(isa, batch);
        let (input, output) =
            (geometry.in_channels * geometry.in_plane(), geometry.out_channels * geometry.out_plane());
        Self {
            geometry,
            lanes,
            x: random(lanes.len(input), 1),
            gy: random(lanes.len(output), 2),
            w: random(geometry.weights(), 3),
            bias: random(geometry.out_channels, 4),
            before: random(lanes.len(input), 5),
        }
    }

    /// Element of channel `c`, row and column `at`, of a map with `channels` channels of `size`.
    fn at(&self, [channels, height, width]: [usize; 3], block: usize, c: usize, at: [usize; 2], lane: usize) -> usize {
        (((block * channels + c) * height + at[0]) * width + at[1]) * self.lanes.lanes + lane
    }

    /// Calls `each` with the elements of `y`, `x` and `w` of every product, by output channel, input channel, row and column of the
    /// kernel.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let g = &self.geometry;
        let input = [g.in_channels, g.input[0], g.input[1]];
        let output = [g.out_channels, g.output[0], g.output[1]];
        for (block, lane) in (0..self.lanes.blocks()).flat_map(|b| (0..self.lanes.lanes).map(move |l| (b, l))) {
            for (oc, ic) in (0..g.out_channels).flat_map(|o| (0..g.group_in()).map(move |c| (o, c))) {
                let channel = oc / g.group_out() * g.group_in() + ic;
                for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
                    let w = ((oc * g.group_in() + ic) * g.kernel[0] + ky) * g.kernel[1] + kx;
                    for (oy, ox) in (0..g.output[0]).flat_map(|oy| (0..g.output[1]).map(move |ox| (oy, ox))) {
                        let row = (oy * g.stride[0] + ky * g.dilation[0]).checked_sub(g.pads[0]);
                        let column = (ox * g.stride[1] + kx * g.dilation[1]).checked_sub(g.pads[1]);
                        let (Some(row), Some(column)) = (row, column) else { continue };
                        if row < g.input[0] && column < g.input[1] {
                            let y = self.at(output, block, oc, [oy, ox], lane);
                            each(y, self.at(input, block, channel, [row, column], lane), w);
                        }
                    }
                }
            }
        }
    }

    /// Channel of each element of the output.
    fn bias_of(&self, element: usize) -> f32 {
        self.bias[element / (self.geometry.out_plane() * self.lanes.lanes) % self.geometry.out_channels]
    }

    /// Outputs and gradients of the layer: without and with bias, replacing and accumulating. Destinations begin as NaN.
    fn run(&self, conv: &DenseConv, team: &Team) -> [Vec<f32>; 4] {
        let [mut y, mut biased] = [(); 2].map(|()| vec![f32::NAN; self.gy.len()]);
        let (mut gx, mut added) = (vec![f32::NAN; self.x.len()], self.before.clone());
        conv.forward(team, &self.x, &self.w, None, &mut y);
        conv.forward(team, &self.x, &self.w, Some(&self.bias), &mut biased);
        conv.input_gradient(team, &self.gy, &self.w, &mut gx, false);
        conv.input_gradient(team, &self.gy, &self.w, &mut added, true);
        [y, biased, gx, added]
    }

    /// What `run` must give, bit by bit, with the multiply-add of the instruction set.
    fn expected(&self, fma: fn(f32, f32, f32) -> f32) -> [Vec<f32>; 4] {
        let mut y = vec![0.0; self.gy.len()];
        let mut biased: Vec<f32> = (0..y.len()).map(|element| self.bias_of(element)).collect();
        let (mut gx, mut added) = (vec![0.0; self.x.len()], self.before.clone());
        self.products(|to, from, w| {
            y[to] = fma(self.x[from], self.w[w], y[to]);
            biased[to] = fma(self.x[from], self.w[w], biased[to]);
            gx[from] = fma(self.gy[to], self.w[w], gx[from]);
            added[from] = fma(self.gy[to], self.w[w], added[from]);
        });
        [y, biased, gx, added]
    }
}

fn multiply_add(isa: Isa) -> fn(f32, f32, f32) -> f32 {
    if isa.or_portable() == Isa::Scalar { |a, b, sum| sum + a * b } else { f32::mul_add }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here() && *isa == isa.or_portable())
}

fn bits(all: &[Vec<f32>; 4]) -> Vec<Vec<u32>> {
    all.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Runs a layer with every instruction set and team and compares all bits.
fn check(geometry: ConvGeometry, batch: usize) {
    for isa in isas() {
        let case = Case::new(isa, geometry, batch);
        let conv = DenseConv::new(isa, geometry, case.lanes).unwrap();
        let expected = bits(&case.expected(multiply_add(isa)));
        for threads in [1, 2, 3] {
            let team = Team::new(threads, false).unwrap();
            let found = bits(&case.run(&conv, &team));
            let same = found.iter().zip(&expected).map(|(found, expected)| found == expected).collect::<Vec<_>>();
            assert_eq!(same, [true; 4], "{geometry:?}, batch {batch}, {}, {threads} threads", isa.name());
        }
    }
}

/// Square maps, kernels and steps; the output follows, with `pads` before and `after` behind.
fn square(channels: [usize; 3], input: usize, kernel: usize, stride: usize, pads: [usize; 2]) -> ConvGeometry {
    let output = (input + pads[0] + pads[1] - kernel) / stride + 1;
    ConvGeometry {
        groups: channels[0],
        in_channels: channels[1],
        out_channels: channels[2],
        input: [input; 2],
        output: [output; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        pads: [pads[0]; 2],
        dilation: [1; 2],
    }
}

#[test]
fn both_directions_add_in_the_promised_order_for_layers_of_many_chunks_and_tiles() {
    // sums of more channels than the cache holds, at columns, rows and blocks, copied and in place
    check(square([1, 70, 50], 7, 3, 1, [1, 1]), 20);
    check(square([1, 90, 33], 2, 3, 1, [1, 1]), 50);
    check(square([1, 300, 29], 1, 1, 1, [0, 0]), 128);
    check(square([1, 130, 27], 5, 1, 1, [0, 0]), 17);
    check(square([1, 33, 26], 9, 3, 2, [1, 1]), 33);
    check(square([1, 26, 40], 8, 1, 2, [0, 0]), 3);
    check(square([1, 3, 25], 16, 7, 2, [3, 3]), 2);
}

#[test]
fn groups_see_their_own_channels_only() {
    check(square([2, 10, 64], 6, 3, 1, [1, 1]), 9);
    check(square([12, 12, 12], 9, 3, 2, [0, 1]), 17);
    check(square([5, 5, 15], 4, 5, 1, [2, 2]), 1);
}

#[test]
fn a_kernel_too_large_to_copy_is_read_in_place() {
    check(square([1, 1, 24], 22, 21, 1, [10, 10]), 1);
    check(square([1, 1, 24], 25, 21, 2, [0, 0]), 1);
}

#[test]
fn outputs_that_no_tap_reaches_are_the_bias_and_such_gradients_are_zero() {
    let isa = Isa::best();
    let geometry = square([1, 1, 1], 1, 1, 2, [1, 1]);
    assert_eq!(geometry.output, [2, 2]);
    let geometry = ConvGeometry { in_channels: 2, input: [3, 1], output: [4, 2], ..geometry };
    let case = Case::new(isa, geometry, 1);
    let conv = DenseConv::new(isa, geometry, case.lanes).unwrap();
    let [y, biased, gx, added] = case.run(&conv, &Team::new(1, false).unwrap());
    // column 0 lies in the padding, column 1 reads input column 1, which is not there; inputs are even, outputs read odd ones
    assert!(y.iter().all(|value| *value == 0.0) && biased.iter().all(|value| *value == case.bias[0]));
    assert!(gx.iter().all(|value| *value == 0.0) && added == case.before);
}

#[test]
fn a_layer_agrees_with_sums_in_f64() {
    let odd = [
        square([1, 5, 7], 1, 1, 1, [0, 0]),
        square([1, 31, 34], 4, 3, 1, [1, 1]),
        square([2, 6, 4], 7, 4, 3, [2, 0]),
        ConvGeometry { dilation: [2, 2], ..square([1, 25, 25], 9, 5, 2, [4, 4]) },
        ConvGeometry { output: [5, 5], dilation: [2, 2], ..square([3, 3, 6], 7, 3, 1, [1, 1]) },
    ];
    for (isa, geometry) in isas().flat_map(|isa| odd.map(|geometry| (isa, geometry))) {
        let case = Case::new(isa, geometry, 7);
        let conv = DenseConv::new(isa, geometry, case.lanes).unwrap();
        let [y, _, gx, _] = case.run(&conv, &Team::new(2, false).unwrap());
        let (mut forward, mut gradient) = (vec![[0.0f64; 3]; y.len()], vec![[0.0f64; 3]; gx.len()]);
        let add = |[sum, size, terms]: &mut [f64; 3], a: f32, b: f32| {
            let product = f64::from(a) * f64::from(b);
            (*sum, *size, *terms) = (*sum + product, *size + product.abs(), *terms + 1.0);
        };
        case.products(|to, from, w| {
            add(&mut forward[to], case.x[from], case.w[w]);
            add(&mut gradient[from], case.gy[to], case.w[w]);
        });
        for (found, [sum, size, terms]) in y.iter().zip(&forward).chain(gx.iter().zip(&gradient)) {
            let tolerance = (terms + 1.0) * f64::from(f32::EPSILON) * size;
            assert!((f64::from(*found) - sum).abs() <= tolerance, "{geometry:?}: {found} for {sum}");
        }
    }
}

#[test]
fn a_batch_laid_out_for_other_vectors_is_refused() {
    let lanes = Lanes { batch: 4, lanes: Isa::Scalar.lanes() + 1 };
    let error = DenseConv::new(Isa::Scalar, square([1, 1, 1], 1, 1, 1, [0, 0]), lanes).unwrap_err();
    assert!(matches!(error, KernelError::Unfit { .. }));
}

#[test]
#[should_panic(expected = "another number of weights")]
fn a_slice_of_another_length_is_refused() {
    let geometry = square([1, 1, 1], 1, 1, 1, [0, 0]);
    let mut case = Case::new(Isa::Scalar, geometry, 1);
    let conv = DenseConv::new(Isa::Scalar, geometry, case.lanes).unwrap();
    case.w.push(0.0);
    case.run(&conv, &Team::new(1, false).unwrap());
}

#[test]
fn an_empty_batch_computes_nothing() {
    let geometry = square([1, 2, 3], 4, 3, 1, [1, 1]);
    let case = Case::new(Isa::Scalar, geometry, 0);
    let conv = DenseConv::new(Isa::Scalar, geometry, case.lanes).unwrap();
    assert!(case.run(&conv, &Team::new(2, false).unwrap()).iter().all(Vec::is_empty));
}

/// Lengths along one axis: input, output, kernel, stride, padding, dilation.
fn axis() -> impl Strategy<Value = [usize; 6]> {
    (1usize..14, 1usize..6, 1usize..4, 0usize..4, 0usize..4, 1usize..3).prop_filter_map(
        "the kernel has to fit",
        |(input, kernel, stride, before, after, dilation)| {
            let room = (input + before + after).checked_sub((kernel - 1) * dilation + 1)?;
            Some([input, room / stride + 1, kernel, stride, before, dilation])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_layer_adds_in_the_promised_order(
        groups in 1usize..4, channels in (1usize..20, 1usize..30), rows in axis(), columns in axis(), batch in 1usize..40,
    ) {
        let pair = |at: usize| [rows[at], columns[at]];
        let geometry = ConvGeometry {
            groups,
            in_channels: groups * channels.0,
            out_channels: groups * channels.1,
            input: pair(0),
            output: pair(1),
            kernel: pair(2),
            stride: pair(3),
            pads: pair(4),
            dilation: pair(5),
        };
        check(geometry, batch);
    }
}
