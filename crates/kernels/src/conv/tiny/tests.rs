//! Small maps, held against the same four loops as any convolution.

use super::*;
use crate::conv::tests::{Around, Case, assert_right};
use crate::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
use crate::map_testing::isas;
use crate::planes::Values;
use crate::{Activation, KernelError, Layer, Map};

fn check(case: &Case, isa: Isa, dense: bool, around: Around) {
    let g = &case.geometry;
    let map = if around.aligned { Map::aligned } else { Map::tight };
    let values = if around.bytes { Values::I8(case.bytes.clone()) } else { Values::F32(case.values.clone()) };
    let weights = ConvWeights {
        positions: (!dense).then_some(&case.positions[..]),
        values: &values,
        scales: around.bytes.then_some(&case.scales[..]),
        bias: around.biased.then_some(&case.bias[..]),
    };
    let input = map(g.in_channels, g.in_height, g.in_width);
    let output = map(g.out_channels, g.out_height(), g.out_width());
    let conv = TinyConv::prepare(isa, g, input, output, weights, around.activation).unwrap();
    assert_right(case, &conv, around, "as a small map");
}

/// Every size of a small map, in every way that such are run.
#[test]
fn small_maps_compute_what_four_loops_compute() {
    let base = |i: usize, size: [usize; 2], o: usize, k: [usize; 2]| ConvGeometry::new(i, size, o, k);
    let mut geometries: Vec<ConvGeometry> = Vec::new();
    for size in [[1, 1], [1, 2], [2, 2], [1, 5], [2, 3], [1, 7], [3, 3], [2, 5], [3, 4], [13, 1], [4, 4]] {
        geometries.push(ConvGeometry { pads: [1; 4], ..base(5, size, 37, [3, 3]) });
        geometries.push(base(3, size, 9, [1, 1]));
    }
    geometries.extend([
        ConvGeometry { pads: [1; 4], ..base(150, [4, 4], 19, [3, 3]) },
        ConvGeometry { pads: [1; 4], ..base(300, [2, 2], 130, [3, 3]) },
        ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(6, [4, 4], 17, [3, 3]) },
        ConvGeometry { pads: [1; 4], stride: [2, 2], ..base(6, [3, 3], 17, [3, 3]) },
        ConvGeometry { pads: [2; 4], ..base(2, [2, 2], 3, [3, 3]) },
        ConvGeometry { pads: [2, 0, 1, 3], dilation: [2, 1], ..base(2, [4, 3], 3, [3, 2]) },
        ConvGeometry { pads: [1; 4], groups: 2, ..base(6, [3, 3], 4, [3, 3]) },
        ConvGeometry { pads: [3; 4], ..base(2, [2, 2], 1, [7, 7]) },
    ]);
    for (seed, geometry) in geometries.iter().enumerate() {
        for density in [0.0, 0.1, 0.5, 1.0] {
            let case = Case::new(geometry, density);
            let dense = case.positions.len() == geometry.weights().unwrap();
            for isa in isas() {
                for index in 0..4 {
                    let around = Around::nth(index + 4 * seed);
                    check(&case, isa, false, around);
                    if dense && TinyConv::fits(isa, geometry, true) {
                        check(&case, isa, true, Around { bytes: false, ..around });
                    }
                }
            }
        }
    }
}

/// Otherwise timings could not choose among them: two loads of a file would differ.
#[test]
fn small_maps_give_the_bits_of_the_tile_kernels() {
    let geometry = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(80, [2, 2], 24, [3, 3]) };
    let case = Case::new(&geometry, 1.0);
    let values = Values::F32(case.values.clone());
    let (input, output) = (Map::tight(80, 2, 2), Map::tight(24, 2, 2));
    for isa in isas() {
        let weights = |positions| ConvWeights { positions, values: &values, scales: None, bias: Some(&case.bias[..]) };
        let tiny =
            |positions| TinyConv::prepare(isa, &geometry, input, output, weights(positions), Activation::None).unwrap();
        let choice = ConvChoice::guess(isa, &geometry, input, case.positions.len(), 8);
        let tiles = Conv::prepare(isa, &geometry, input, output, weights(None), Activation::None, choice).unwrap();
        let results = [&tiles as &dyn Layer, &tiny(Some(&case.positions[..])), &tiny(None)].map(|layer| {
            assert!(layer.sums_in_file_order(), "{}", layer.kernel());
            let mut y = vec![0.0; output.len()];
            layer.run(&case.x, &mut y, Some(&case.added), &mut vec![0.0; layer.scratch_len()]);
            y
        });
        assert_eq!(results[0], results[1], "{isa:?} sparse");
        assert_eq!(results[0], results[2], "{isa:?} dense");
    }
}

#[test]
fn a_small_map_with_an_infinite_pixel_spoils_only_what_sees_it() {
    // weights of the first channel alone, at the kernel's first tap, in 9 of 17 rows: the others are idle or filled up
    let geometry = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(2, [2, 2], 17, [3, 3]) };
    let positions: Vec<u32> = (0..9).map(|row| row * 18).collect();
    let values = Values::F32(vec![1.0; 9]);
    let (input, output) = (Map::tight(2, 2, 2), Map::tight(17, 2, 2));
    for isa in isas() {
        let weights = ConvWeights { positions: Some(&positions), values: &values, scales: None, bias: None };
        let conv = TinyConv::prepare(isa, &geometry, input, output, weights, Activation::None).unwrap();
        let x = [2.0, f32::INFINITY, f32::NAN, f32::INFINITY, f32::NAN, f32::NAN, f32::NAN, f32::NAN];
        let (mut y, mut scratch) = (vec![7.0; 68], vec![f32::NAN; conv.scratch_len()]);
        conv.run(&x, &mut y, None, &mut scratch);
        for (row, pixels) in y.chunks_exact(4).enumerate() {
            assert_eq!(pixels, [0.0, 0.0, 0.0, if row < 9 { 2.0 } else { 0.0 }], "{isa:?}");
        }
    }
}

#[test]
fn large_maps_are_no_small_ones() {
    let geometry = ConvGeometry::new(2, [4, 5], 3, [1, 1]);
    let values = Values::F32(vec![1.0; 6]);
    let weights = ConvWeights { positions: None, values: &values, scales: None, bias: None };
    let (input, output) = (Map::tight(2, 4, 5), Map::tight(3, 4, 5));
    let refused = TinyConv::prepare(Isa::Scalar, &geometry, input, output, weights, Activation::None);
    assert!(matches!(refused.unwrap_err(), KernelError::NoKernel { .. }));
}

/// What the dense kernel takes of a position must be there.
#[test]
fn a_position_has_the_pixels_that_kernels_take() {
    for isa in Isa::COMPILED.iter().copied() {
        for pixels in 1..=MOST_PIXELS {
            let Pixels { lanes, vectors, rows, .. } = super::pixels(isa, pixels);
            assert!(lanes >= pixels && vectors > 0 && rows <= MOST_ROWS, "{isa:?} {pixels}");
            let taken = match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::shape(pixels),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::shape(pixels),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => neon::shape(pixels),
                _ => scalar::shape(pixels),
            };
            let outputs = panels(isa, pixels).map_or(0, |panels| panels.outputs);
            assert!(taken.is_none_or(|(_, taken)| (pixels..=lanes).contains(&taken)), "{isa:?} {pixels}");
            assert!(taken.is_none_or(|(_, taken)| taken * outputs <= dense::MOST_SUMS), "{isa:?} {pixels}");
        }
    }
}
