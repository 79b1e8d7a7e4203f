//! One body over all geometries and instruction sets; the reference is a plain loop in f64.

use super::*;
use crate::map_testing::{assert_alike_in_slabs, assert_guarded, guarded, isas, random, split_runs};

fn geometry(channels: usize, size: [usize; 2], kernel: [usize; 2], stride: usize, pads: [usize; 4]) -> ConvGeometry {
    ConvGeometry { stride: [stride; 2], pads, groups: channels, ..ConvGeometry::new(channels, size, channels, kernel) }
}

/// Sum and sum of magnitudes of one output pixel, before the activation.
fn reference(g: &ConvGeometry, weights: &[f32], x: &[f32], plane: usize, pixel: [usize; 2]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for ky in 0..g.kernel[0] {
        for kx in 0..g.kernel[1] {
            let row = (pixel[0] * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.pads[0]);
            let column = (pixel[1] * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.pads[1]);
            if row < g.in_height && column < g.in_width {
                let term = f64::from(weights[ky * g.kernel[1] + kx]) * f64::from(x[plane + row * g.in_width + column]);
                sums = (sums.0 + term, sums.1 + term.abs());
            }
        }
    }
    sums
}

fn check(isa: Isa, g: &ConvGeometry, gaps: [usize; 2], with_residual: bool, activation: Activation) {
    let map = |channels, height, width, gap| Map {
        channels,
        height,
        width,
        stride: height * width + gap,
        slabs: 1,
        edges: 0,
    };
    let input = map(g.in_channels, g.in_height, g.in_width, gaps[0]);
    let output = map(g.in_channels, g.out_height(), g.out_width(), gaps[1]);
    let taps = g.kernel[0] * g.kernel[1];
    let (weights, bias) = (random(g.in_channels * taps, 1), random(g.in_channels, 2));
    let layer = DepthwiseConv::prepare(isa, g, input, output, &weights, Some(&bias), activation).unwrap();
    let x = guarded(input, 3);
    let residual = with_residual.then(|| guarded(output, 4));
    let y = split_runs(&layer, &x, residual.as_deref());
    assert_guarded(&y, output, layer.kernel());
    let times = assert_alike_in_slabs(&layer, &x, residual.as_deref(), &y);
    assert!(times > 0 || g.in_height % 2 + output.height % 2 > 0, "two even maps have halves");
    for channel in 0..g.in_channels {
        for pixel in 0..output.pixels() {
            let at = [pixel / output.width, pixel % output.width];
            let filter = &weights[channel * taps..][..taps];
            let (sum, magnitude) = reference(g, filter, &x, channel * input.stride, at);
            let index = channel * output.stride + pixel;
            let added = f64::from(bias[channel]) + residual.as_ref().map_or(0.0, |r| f64::from(r[index]));
            let (sum, magnitude) = (sum + added, magnitude + 2.0);
            let expected = match activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Clip { min, max } => sum.max(f64::from(min)).min(f64::from(max)),
                Activation::HardSwish => sum * (sum / 6.0 + 0.5).clamp(0.0, 1.0),
            };
            // a sum of `taps + 2` terms; hard-swish has a slope of at most 1.5 and rounds three times more
            let tolerance = (taps + 6) as f64 * 1.5 * f64::from(f32::EPSILON) * magnitude;
            let found = f64::from(y[index]);
            assert!(
                (found - expected).abs() <= tolerance,
                "{} {g:?}: channel {channel} pixel {at:?}: {found}, expected {expected}",
                layer.kernel()
            );
        }
    }
}

const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };

#[test]
fn every_instruction_set_matches_the_reference_for_all_widths_kernels_and_strides() {
    for isa in isas() {
        let mut case = 0;
        for width in [1, 2, 3, 5, 7, 8, 9, 13, 14, 15, 16, 17, 28, 31, 33, 47] {
            for (kernel, pads) in [
                ([3, 3], [1; 4]),
                ([5, 5], [2; 4]),
                ([1, 1], [0; 4]),
                ([3, 3], [0, 1, 2, 0]),
                ([2, 4], [1, 0, 1, 3]),
                ([7, 7], [3; 4]),
            ] {
                for stride in [1, 2, 3] {
                    let height = [1, 7, 10, 19][case % 4];
                    let g = geometry([1, 3, 19][case % 3], [height, width], kernel, stride, pads);
                    let activation = [Activation::None, Activation::Relu, RELU6, Activation::HardSwish][case % 4];
                    case += 1;
                    if g.validate().is_ok() {
                        check(isa, &g, [case % 3 * 5, case % 4 * 3], case % 2 == 0, activation);
                    }
                }
            }
        }
    }
}

#[test]
fn dilation_and_strides_that_differ_by_axis_are_right() {
    for isa in isas() {
        let base = geometry(2, [13, 21], [3, 3], 1, [2; 4]);
        for dilation in [[2, 2], [1, 3], [3, 1]] {
            for stride in [[1, 1], [2, 1], [1, 2], [2, 2], [3, 2], [4, 5]] {
                let g = ConvGeometry { dilation, stride, ..base.clone() };
                check(isa, &g, [0, 0], false, Activation::None);
            }
        }
    }
}

#[test]
fn planes_larger_than_the_cache_are_cut_into_bands_without_a_seam() {
    for isa in isas() {
        for stride in [1, 2] {
            check(isa, &geometry(2, [113, 96], [3, 3], stride, [1; 4]), [16, 16], true, Activation::Relu);
        }
        check(isa, &geometry(1, [40, 230], [5, 5], 1, [2; 4]), [0, 0], false, RELU6);
        check(isa, &geometry(2, [60, 300], [9, 9], 1, [4; 4]), [0, 0], false, Activation::None);
    }
}

#[test]
fn windows_reach_over_several_slabs() {
    for isa in isas() {
        // three slabs of two rows, of which a window reads seven
        check(isa, &geometry(3, [6, 9], [7, 7], 1, [3; 4]), [7, 0], true, Activation::None);
        check(isa, &geometry(3, [12, 9], [7, 7], 2, [3; 4]), [7, 0], false, Activation::Relu);
    }
}

#[test]
fn padding_larger_than_the_plane_is_zero() {
    for isa in isas() {
        for (stride, pads) in [(1, [4, 5, 3, 6]), (2, [4, 5, 3, 6]), (2, [1, 12, 0, 0]), (3, [7, 0, 0, 9])] {
            check(isa, &geometry(3, [2, 3], [3, 3], stride, pads), [1, 1], false, Activation::None);
        }
    }
}

#[test]
fn weights_and_bias_of_another_length_are_refused() {
    let g = geometry(2, [3, 3], [3, 3], 1, [1; 4]);
    let map = Map::tight(2, 3, 3);
    let prepare = |weights: &[f32], bias: &[f32]| {
        DepthwiseConv::prepare(Isa::Scalar, &g, map, map, weights, Some(bias), Activation::None).map(|_| ())
    };
    assert_eq!(prepare(&[0.0; 17], &[0.0; 2]), Err(KernelError::ValueCount { expected: 18, found: 17 }));
    assert_eq!(prepare(&[0.0; 18], &[0.0; 1]), Err(KernelError::BiasLength { expected: 2, found: 1 }));
}

#[test]
fn the_name_says_kernel_and_instruction_set() {
    let map = Map::tight(2, 3, 3);
    let g = geometry(2, [3, 3], [3, 3], 1, [1; 4]);
    let layer = DepthwiseConv::prepare(Isa::Scalar, &g, map, map, &[0.0; 18], None, Activation::None).unwrap();
    assert_eq!((layer.kernel(), layer.macs(), layer.weight_bytes()), ("f32_depthwise_3x3_scalar".into(), 162, 80));
}
