//! Every layer on maps of odd sizes and strides, against what its doc says element by element.

use super::*;
use crate::map_testing::{GUARD, assert_guarded, guarded, isas, split_runs};

const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };
const SIZES: [[usize; 3]; 9] =
    [[1, 1, 1], [40, 1, 1], [3, 1, 5], [1, 7, 7], [64, 7, 7], [5, 8, 16], [2, 13, 31], [3, 70, 65], [900, 2, 3]];

fn with_gap([channels, height, width]: [usize; 3], gap: usize) -> Map {
    Map { channels, height, width, stride: height * width + gap, slabs: 1, edges: 0 }
}

fn pixels(y: &[f32], map: Map) -> impl Iterator<Item = f32> + '_ {
    (0..map.channels).flat_map(move |channel| y[channel * map.stride..][..map.pixels()].iter().copied())
}

#[test]
fn sums_activations_and_copies_match_for_all_sizes_and_strides() {
    for isa in isas() {
        for (case, size) in SIZES.into_iter().enumerate() {
            for gaps in [[0, 0], [0, 3], [5, 0], [4, 4], [15, 16]] {
                let (input, output) = (with_gap(size, gaps[0]), with_gap(size, gaps[1]));
                let (x, other) = (guarded(input, 1), guarded(output, 2));
                let activation = [Activation::None, Activation::Relu, RELU6, Activation::HardSwish][case % 4];
                let compare = |layer: Elementwise, residual: Option<&[f32]>, expected: &dyn Fn(f32, f32) -> f32| {
                    let y = split_runs(&layer, &x, residual);
                    assert_guarded(&y, output, layer.kernel());
                    let inputs = pixels(&x, input).zip(pixels(&other, output));
                    for (found, (x, other)) in pixels(&y, output).zip(inputs) {
                        let expected = expected(x, other);
                        // one rounding less in hard-swish
                        let tolerance = 2.0 * f32::EPSILON * expected.abs().max(1.0);
                        assert!((found - expected).abs() <= tolerance, "{} {size:?} {gaps:?}", layer.kernel());
                    }
                };
                let add = Elementwise::add(isa, input, output, activation).unwrap();
                compare(add, Some(&other), &|x, other| activation.apply(x + other));
                let activate = Elementwise::activate(isa, input, output, activation).unwrap();
                compare(activate, None, &|x, _| activation.apply(x));
                compare(Elementwise::copy(isa, input, output).unwrap(), None, &|x, _| x);
            }
        }
    }
}

#[test]
fn gaps_of_the_output_stay_untouched_where_strides_differ() {
    for isa in isas() {
        let (input, output) = (with_gap([3, 5, 5], 2), with_gap([3, 5, 5], 7));
        let y = split_runs(&Elementwise::copy(isa, input, output).unwrap(), &guarded(input, 1), None);
        for plane in y.chunks(output.stride) {
            assert!(plane[output.pixels()..].iter().all(|v| *v == GUARD));
        }
    }
}

#[test]
fn shortcuts_keep_every_stride_th_pixel_between_zero_channels() {
    for isa in isas() {
        for size in SIZES {
            for (stride, before, after) in [(1, 2, 0), (2, 8, 8), (2, 0, 0), (2, 0, 3), (3, 1, 1)] {
                for gaps in [[0, 0], [9, 3]] {
                    let input = with_gap(size, gaps[0]);
                    let [channels, height, width] = size;
                    let half = [before + channels + after, height.div_ceil(stride), width.div_ceil(stride)];
                    let output = with_gap(half, gaps[1]);
                    let layer = Shortcut::prepare(isa, input, output, stride, before, after).unwrap();
                    let x = guarded(input, 3);
                    let y = split_runs(&layer, &x, None);
                    for (channel, plane) in y.chunks(output.stride).enumerate() {
                        for (pixel, found) in plane[..output.pixels()].iter().enumerate() {
                            let (row, column) = (pixel / output.width * stride, pixel % output.width * stride);
                            let inside = channel >= before && channel < before + channels;
                            let at = || (channel - before) * input.stride + row * width + column;
                            let expected = if inside { x[at()] } else { 0.0 };
                            assert_eq!(*found, expected, "{} {size:?} by {stride}", layer.kernel());
                        }
                        assert!(plane[output.pixels()..].iter().all(|v| *v == GUARD));
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "a sum needs a residual")]
fn a_sum_of_one_is_refused() {
    let map = Map::tight(1, 1, 1);
    let layer = Elementwise::add(Isa::Scalar, map, map, Activation::None).unwrap();
    layer.run(&[1.0], &mut [0.0], None, &mut []);
}

#[test]
fn maps_of_other_sizes_are_refused() {
    let (a, b) = (Map::tight(2, 3, 3), Map::tight(2, 3, 4));
    let refused = Elementwise::copy(Isa::Scalar, a, b).unwrap_err();
    assert_eq!(refused, KernelError::Map { what: "output", expected: a, found: b });
    let shortcut = |stride, before| Shortcut::prepare(Isa::Scalar, a, b, stride, before, 1).map(|_| ());
    assert_eq!(shortcut(0, 1), Err(KernelError::Zero { what: "stride" }));
    assert_eq!(shortcut(1, usize::MAX), Err(KernelError::TooLarge { what: "the output" }));
    let expected = Map::tight(4, 2, 2);
    assert_eq!(shortcut(2, 1), Err(KernelError::Map { what: "output", expected, found: b }));
}
