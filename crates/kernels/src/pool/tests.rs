//! One body over kinds, geometries and instruction sets; the references are plain loops.

use super::*;
use crate::map_testing::{assert_alike_in_slabs, assert_guarded, guarded, isas, split_runs};

const EXCLUDED: PoolKind = PoolKind::Average { counted_pads: [0; 4] };

fn geometry(channels: usize, size: [usize; 2], kernel: [usize; 2], stride: usize, pads: [usize; 4]) -> ConvGeometry {
    ConvGeometry { stride: [stride; 2], pads, groups: channels, ..ConvGeometry::new(channels, size, channels, kernel) }
}

fn map(g: &ConvGeometry, gap: usize) -> (Map, Map) {
    let map = |height, width| Map {
        channels: g.in_channels,
        height,
        width,
        stride: height * width + gap,
        slabs: 1,
        edges: 0,
    };
    (map(g.in_height, g.in_width), map(g.out_height(), g.out_width()))
}

/// The pixel that the window of output pixel `at` sees through each tap: `None` on padding that does not count,
/// `Some(None)` on padding that does.
fn seen<'a>(
    g: &'a ConvGeometry,
    counted_pads: [usize; 4],
    at: [usize; 2],
) -> impl Iterator<Item = Option<Option<usize>>> + 'a {
    let taps = (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| [ky, kx]));
    taps.map(move |tap| {
        let size = [g.in_height as isize, g.in_width as isize];
        let place = [0, 1].map(|a| (at[a] * g.stride[a] + tap[a] * g.dilation[a]) as isize - g.pads[a] as isize);
        let within = |a: usize, before: usize, after: usize| {
            place[a] >= -(before as isize) && place[a] < size[a] + after as isize
        };
        if within(0, 0, 0) && within(1, 0, 0) {
            return Some(Some((place[0] * size[1] + place[1]) as usize));
        }
        let [top, left, bottom, right] = counted_pads;
        (within(0, top, bottom) && within(1, left, right)).then_some(None)
    })
}

fn check(isa: Isa, kind: PoolKind, g: &ConvGeometry, gap: usize) {
    let (input, output) = map(g, gap);
    let layer = Pool::prepare(isa, kind, g, input, output).unwrap();
    let x = guarded(input, 5);
    let y = split_runs(&layer, &x, None);
    assert_guarded(&y, output, layer.kernel());
    let times = assert_alike_in_slabs(&layer, &x, None, &y);
    assert!(times > 0 || g.in_height % 2 + output.height % 2 > 0, "two even maps have halves");
    for channel in 0..g.in_channels {
        let plane = &x[channel * input.stride..][..input.pixels()];
        for pixel in 0..output.pixels() {
            let at = [pixel / output.width, pixel % output.width];
            let found = y[channel * output.stride + pixel];
            match kind {
                PoolKind::Max => {
                    let pixels = seen(g, [0; 4], at).flatten().flatten().map(|i| plane[i]);
                    assert_eq!(found, pixels.fold(f32::MIN, f32::max), "{} {g:?} {at:?}", layer.kernel());
                }
                PoolKind::Average { counted_pads } => {
                    let positions: Vec<_> = seen(g, counted_pads, at).flatten().collect();
                    let sum: f64 = positions.iter().flatten().map(|i| f64::from(plane[*i])).sum();
                    let expected = sum / positions.len() as f64;
                    // each of `count` additions of values below 1 rounds, and so do the reciprocal and the product
                    let tolerance = (positions.len() + 3) as f64 * f64::from(f32::EPSILON);
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= tolerance, "{} {g:?} {at:?}: {found}, expected {expected}", layer.kernel());
                }
            }
        }
    }
}

#[test]
fn every_kind_matches_the_reference_for_all_widths_kernels_and_strides() {
    for isa in isas() {
        for (case, width) in [1, 2, 3, 5, 7, 8, 14, 15, 16, 17, 31, 33, 48].into_iter().enumerate() {
            for (kernel, pads) in
                [([2, 2], [0; 4]), ([3, 3], [1; 4]), ([3, 3], [0, 0, 1, 1]), ([2, 3], [1, 2, 0, 0]), ([5, 5], [2; 4])]
            {
                for stride in [1, 2, 3] {
                    let g = geometry([1, 5, 18][case % 3], [[4, 9, 13, 1][case % 4], width], kernel, stride, pads);
                    if g.validate().is_err() {
                        continue;
                    }
                    for kind in [PoolKind::Max, EXCLUDED, PoolKind::Average { counted_pads: pads }] {
                        check(isa, kind, &g, case % 3 * 4);
                    }
                }
            }
        }
    }
}

#[test]
fn dilation_and_strides_that_differ_by_axis_are_right() {
    for isa in isas() {
        for (dilation, stride) in [([2, 2], [1, 1]), ([1, 3], [2, 1]), ([3, 1], [1, 2]), ([2, 1], [3, 2])] {
            let g = ConvGeometry { dilation, stride, ..geometry(3, [11, 21], [3, 3], 1, [1, 2, 0, 1]) };
            for kind in [PoolKind::Max, EXCLUDED] {
                check(isa, kind, &g, 3);
            }
        }
    }
}

#[test]
fn what_rounding_up_adds_is_not_counted_but_explicit_padding_is() {
    // 5 pixels, explicit padding 1, windows of 3 by 2 and rounded up: the third window overhangs by one
    for isa in isas() {
        let g = ConvGeometry { stride: [1, 3], ..geometry(1, [1, 6], [1, 3], 1, [0, 1, 0, 2]) };
        let (input, output) = map(&g, 0);
        let kind = PoolKind::Average { counted_pads: [0, 1, 0, 1] };
        let layer = Pool::prepare(isa, kind, &g, input, output).unwrap();
        let mut y = [0.0; 3];
        layer.run(&[6.0; 6], &mut y, None, &mut vec![0.0; layer.scratch_len()]);
        assert_eq!(y, [4.0, 6.0, 3.0]);
        check(isa, kind, &g, 0);
    }
}

#[test]
fn a_maximum_skips_nan_and_is_never_below_the_smallest_finite_number_as_in_tract() {
    for isa in isas() {
        let g = geometry(1, [2, 4], [2, 2], 2, [0; 4]);
        let (input, output) = map(&g, 0);
        let layer = Pool::prepare(isa, PoolKind::Max, &g, input, output).unwrap();
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let mut y = [0.0; 2];
        let mut run = |x: [f32; 8]| {
            layer.run(&x, &mut y, None, &mut vec![0.0; layer.scratch_len()]);
            y
        };
        assert_eq!(run([nan, -7.0, nan, nan, -9.0, nan, nan, nan]), [-7.0, f32::MIN]);
        assert_eq!(run([-inf, -inf, inf, 1.0, -inf, -inf, 2.0, nan]), [f32::MIN, inf]);
    }
}

#[test]
fn the_stem_of_a_224_network_is_pooled_in_bands() {
    for isa in isas() {
        check(isa, PoolKind::Max, &geometry(2, [112, 112], [3, 3], 2, [1; 4]), 16);
        check(isa, EXCLUDED, &geometry(1, [90, 301], [3, 3], 1, [1; 4]), 0);
    }
}

#[test]
fn a_residual_is_added_to_the_average() {
    let g = geometry(1, [2, 2], [2, 2], 2, [0; 4]);
    let (input, output) = map(&g, 0);
    let layer = Pool::prepare(Isa::Scalar, EXCLUDED, &g, input, output).unwrap();
    let mut y = [0.0];
    layer.run(&[1.0, 2.0, 3.0, 6.0], &mut y, Some(&[10.0]), &mut vec![0.0; layer.scratch_len()]);
    assert_eq!(y, [13.0]);
}

#[test]
fn a_window_without_a_counted_position_is_refused() {
    let g = geometry(1, [2, 2], [2, 2], 1, [0, 2, 0, 0]);
    let (input, output) = map(&g, 0);
    let refused = Pool::prepare(Isa::Scalar, EXCLUDED, &g, input, output).unwrap_err();
    assert_eq!(refused, KernelError::Zero { what: "the number of positions in a pooling window" });
}

#[test]
fn whole_planes_are_averaged_whatever_lies_behind_them() {
    for isa in isas() {
        for (channels, height, width) in
            [(1, 1, 1), (3, 1, 1), (5, 7, 7), (200, 7, 7), (33, 4, 4), (2, 13, 31), (1, 112, 112), (7, 1, 17)]
        {
            for gap in [0, 3, 15] {
                let input = Map { channels, height, width, stride: height * width + gap, slabs: 1, edges: 0 };
                for output in [Map::aligned(channels, 1, 1), Map { stride: 3, ..Map::tight(channels, 1, 1) }] {
                    let layer = GlobalAverage::prepare(isa, input, output).unwrap();
                    let x = guarded(input, 6);
                    let y = split_runs(&layer, &x, None);
                    assert_guarded(&y, output, layer.kernel());
                    for channel in 0..channels {
                        let plane = &x[channel * input.stride..][..input.pixels()];
                        let mean = plane.iter().map(|v| f64::from(*v)).sum::<f64>() / input.pixels() as f64;
                        let tolerance = input.pixels() as f64 * f64::from(f32::EPSILON);
                        let error = (f64::from(y[channel * output.stride]) - mean).abs();
                        assert!(error <= tolerance, "{}: {channels}x{height}x{width}", layer.kernel());
                    }
                }
            }
        }
    }
}

#[test]
fn means_of_maps_that_do_not_belong_together_are_refused() {
    let refused = |input, output| GlobalAverage::prepare(Isa::Scalar, input, output).unwrap_err();
    let (input, output) = (Map::tight(2, 3, 3), Map::tight(3, 1, 1));
    let expected = Map::tight(2, 1, 1);
    assert_eq!(refused(input, output), KernelError::Map { what: "output", expected, found: output });
    let empty = Map::tight(2, 0, 3);
    assert_eq!(refused(empty, expected), KernelError::Zero { what: "the number of pixels" });
}
