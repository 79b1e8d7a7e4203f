//! Weight gradients against plain loops, in f64 and bit for bit in the order of sums.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{SurvivingWeightGradient, WeightGradient};
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes};
use crate::{Isa, KernelError};

fn isas() -> impl Iterator<Item = Isa> {
    Isa::COMPILED.iter().copied().filter(|isa| isa.runs_here() && *isa == isa.or_portable())
}

/// A layer with its input and gradient.
struct Case {
    isa: Isa,
    geometry: ConvGeometry,
    lanes: Lanes,
    x: Vec<f32>,
    gy: Vec<f32>,
}

impl Case {
    /// Random numbers, lanes of images that do not count included where they may be anything.
    fn new(isa: Isa, geometry: ConvGeometry, batch: usize) -> Self {
        let lanes = Lanes::new(isa, batch);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let x = random(lanes.len(geometry.in_channels * geometry.in_plane()));
        let mut gy = random(lanes.len(geometry.out_channels * geometry.out_plane()));
        for (at, value) in gy.iter_mut().enumerate() {
            let block = at / (geometry.out_channels * geometry.out_plane() * lanes.lanes);
            if at % lanes.lanes >= lanes.images(block) {
                *value = 0.0;
            }
        }
        Self { isa, geometry, lanes, x, gy }
    }

    /// Calls `each(gy, x)` with the vectors that a weight multiplies, in their order.
    fn walk(&self, weight: usize, mut each: impl FnMut(&[f32], &[f32])) {
        let g = &self.geometry;
        let [kh, kw] = g.kernel;
        let (output, tap) = (weight / g.patch(), [weight / kw % kh, weight % kw]);
        let channel = output / g.group_out() * g.group_in() + weight % g.patch() / (kh * kw);
        for block in 0..self.lanes.blocks() {
            for pixel in 0..g.out_plane() {
                let at = |axis: usize, out: usize| {
                    let at = (out * g.stride[axis] + tap[axis] * g.dilation[axis]).checked_sub(g.pads[axis])?;
                    (at < g.input[axis]).then_some(at)
                };
                let (Some(row), Some(col)) = (at(0, pixel / g.output[1]), at(1, pixel % g.output[1])) else { continue };
                let gy = ((block * g.out_channels + output) * g.out_plane() + pixel) * self.lanes.lanes;
                let x = ((block * g.in_channels + channel) * g.in_plane() + row * g.input[1] + col) * self.lanes.lanes;
                each(&self.gy[gy..gy + self.lanes.lanes], &self.x[x..x + self.lanes.lanes]);
            }
        }
    }

    /// What the order of sums gives.
    fn emulated(&self, weight: usize) -> f32 {
        let mut sums = vec![0.0f32; self.lanes.lanes];
        self.walk(weight, |gy, x| {
            for ((sum, gy), x) in sums.iter_mut().zip(gy).zip(x) {
                // portable code rounds twice
                *sum = if self.isa == Isa::Scalar { *sum + gy * x } else { gy.mul_add(*x, *sum) };
            }
        });
        while sums.len() > 1 {
            let half = sums.split_off(sums.len() / 2);
            sums.iter_mut().zip(half).for_each(|(sum, half)| *sum += half);
        }
        sums[0]
    }

    /// The sum in f64, and how far from it f32 may be.
    fn exact(&self, weight: usize) -> (f64, f64) {
        let (mut sum, mut size, mut terms) = (0.0, 0.0, 0);
        self.walk(weight, |gy, x| {
            for (gy, x) in gy.iter().zip(x) {
                let term = f64::from(*gy) * f64::from(*x);
                (sum, size, terms) = (sum + term, size + term.abs(), terms + 1);
            }
        });
        (sum, size * f64::from(terms + 1) * f64::from(f32::EPSILON))
    }

    fn dense(&self, threads: usize) -> Vec<f32> {
        let mut gw = vec![f32::NAN; self.geometry.weights()];
        let layer = WeightGradient::new(self.isa, self.geometry, self.lanes).unwrap();
        layer.run(&Team::new(threads, false).unwrap(), &self.x, &self.gy, &mut gw);
        gw
    }

    fn surviving(&self, keep: &[bool], threads: usize) -> Vec<f32> {
        let layer = SurvivingWeightGradient::new(self.isa, self.geometry, self.lanes, keep).unwrap();
        let mut gw = vec![f32::NAN; layer.kept()];
        layer.run(&Team::new(threads, false).unwrap(), &self.x, &self.gy, &mut gw);
        gw
    }

    fn check(&self, density: f64) {
        let bits = |gw: &[f32]| gw.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let name = format!("{} {:?} batch {}", self.isa.name(), self.geometry, self.lanes.batch);
        let expected: Vec<f32> = (0..self.geometry.weights()).map(|weight| self.emulated(weight)).collect();
        let dense = self.dense(1);
        assert_eq!(bits(&dense), bits(&expected), "{name}");
        for (weight, value) in dense.iter().enumerate() {
            let (exact, tolerance) = self.exact(weight);
            assert!((f64::from(*value) - exact).abs() <= tolerance, "{name}: weight {weight}: {value} not {exact}");
        }
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let keep: Vec<bool> = (0..dense.len()).map(|_| rng.random_bool(density)).collect();
        let kept: Vec<f32> = keep.iter().zip(&expected).filter(|(keep, _)| **keep).map(|(_, value)| *value).collect();
        for threads in 1..=3 {
            assert_eq!(bits(&self.dense(threads)), bits(&expected), "{name}, {threads} threads");
            assert_eq!(bits(&self.surviving(&keep, threads)), bits(&kept), "{name}, {density} kept, {threads} threads");
        }
    }
}

/// A layer whose output is as large as pads of `pads` above and left, and `after` below and right, make it.
fn geometry(
    groups: usize,
    [group_in, group_out]: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    [stride, dilation]: [[usize; 2]; 2],
    [pads, after]: [[usize; 2]; 2],
) -> Option<ConvGeometry> {
    let length = |axis: usize| {
        let room = input[axis] + pads[axis] + after[axis];
        Some(room.checked_sub((kernel[axis] - 1) * dilation[axis] + 1)? / stride[axis] + 1)
    };
    let output = [length(0)?, length(1)?];
    let (in_channels, out_channels) = (groups * group_in, groups * group_out);
    Some(ConvGeometry { groups, in_channels, out_channels, input, output, kernel, stride, pads, dilation })
}

fn same(channels: [usize; 2], size: usize, kernel: usize) -> ConvGeometry {
    let pad = [kernel / 2; 2];
    geometry(1, channels, [size; 2], [kernel; 2], [[1, 1]; 2], [pad, pad]).unwrap()
}

#[test]
fn layers_of_networks_have_the_bits_of_the_order_of_sums() {
    for isa in isas() {
        let layers = [
            (same([16, 16], 9, 3), 33),
            (same([3, 17], 12, 3), 16),
            (same([70, 6], 4, 3), 40),
            (same([37, 9], 2, 3), 64),
            (same([64, 5], 1, 3), 20),
            (same([131, 23], 1, 1), 100),
            (same([97, 300], 1, 1), 17),
            (same([5, 40], 1, 1), 3),
            (same([32, 1], 1, 1), 48),
            (same([30, 11], 11, 1), 20),
            (same([1, 6], 14, 5), 17),
        ];
        for (geometry, batch) in layers {
            Case::new(isa, geometry, batch).check(0.1);
        }
    }
}

#[test]
fn rows_longer_than_a_band_are_added_in_their_order() {
    for isa in isas() {
        let wide = geometry(1, [2, 3], [3, 300], [3, 3], [[1, 1]; 2], [[1, 1]; 2]).unwrap();
        Case::new(isa, wide, 5).check(0.5);
        let strided = geometry(1, [2, 3], [5, 700], [3, 3], [[2, 2], [1, 1]], [[1, 1]; 2]).unwrap();
        Case::new(isa, strided, 5).check(0.5);
    }
}

#[test]
fn taps_that_reach_nothing_have_no_gradient() {
    for isa in isas() {
        // of the 5 x 5 taps only the centre meets the one pixel
        let case = Case::new(isa, same([2, 2], 1, 5), 3);
        case.check(1.0);
        let gw = case.dense(1);
        assert!((0..100).all(|at| (gw[at] != 0.0) == (at % 25 == 12)), "{gw:?}");
    }
}

#[test]
fn without_images_gradients_are_zero() {
    for isa in isas() {
        let case = Case::new(isa, same([2, 3], 4, 3), 0);
        assert_eq!(case.dense(1), [0.0; 54]);
        assert_eq!(case.surviving(&[true; 54], 1), [0.0; 54]);
        assert_eq!(Case::new(isa, same([20, 3], 1, 1), 0).dense(2), [0.0; 60]);
    }
}

#[test]
fn one_image_checked_by_hand() {
    for isa in isas() {
        let mut case = Case::new(isa, same([1, 1], 2, 1), 1);
        let lanes = case.lanes.lanes;
        for (pixel, (x, gy)) in [(1.0, 2.0), (3.0, 5.0), (7.0, -1.0), (2.0, 4.0)].into_iter().enumerate() {
            (case.x[pixel * lanes], case.gy[pixel * lanes]) = (x, gy);
        }
        assert_eq!(case.dense(1), [18.0]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let isa = Isa::Scalar;
    let (geometry, lanes) = (same([2, 3], 4, 3), Lanes::new(isa, 5));
    let other = Lanes { lanes: lanes.lanes + 1, ..lanes };
    assert!(matches!(WeightGradient::new(isa, geometry, other), Err(KernelError::Unfit { .. })));
    let none = ConvGeometry { stride: [0, 1], ..geometry };
    assert_eq!(WeightGradient::new(isa, none, lanes).unwrap_err(), KernelError::Zero { what: "stride" });
    let short = SurvivingWeightGradient::new(isa, geometry, lanes, &[true; 53]).unwrap_err();
    assert_eq!(short, KernelError::ValueCount { expected: 54, found: 53 });
}

fn pair(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_layer_has_the_bits_of_the_order_of_sums(
        groups in 1usize..4, channels in pair(1..10), input in pair(1..12), kernel in pair(1..6), stride in pair(1..4),
        dilation in pair(1..3), pads in pair(0..4), after in pair(0..4), batch in 1usize..40, density in 0.05f64..1.0,
    ) {
        let geometry = geometry(groups, channels, input, kernel, [stride, dilation], [pads, after]);
        prop_assume!(geometry.is_some());
        for isa in isas() {
            Case::new(isa, geometry.unwrap(), batch).check(density);
        }
    }
}
