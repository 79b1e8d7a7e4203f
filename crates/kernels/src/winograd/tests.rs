//! Convolutions by transforms against nested loops in f64.

use super::*;
use crate::conv::ConvGeometry;
use crate::dense::tests::{ACTIVATION, check};
use crate::map_testing::{isas, random};
use crate::{KernelError, Map};

fn geometries() -> Vec<ConvGeometry> {
    let base = |i: usize, size: [usize; 2], o: usize| ConvGeometry::new(i, size, o, [3, 3]);
    vec![
        ConvGeometry { pads: [1; 4], ..base(1, [1, 1], 1) },
        ConvGeometry { pads: [1; 4], ..base(3, [2, 5], 4) },
        ConvGeometry { pads: [1; 4], ..base(5, [7, 7], 29) },
        ConvGeometry { pads: [1; 4], ..base(6, [8, 8], 13) },
        ConvGeometry { pads: [1; 4], ..base(3, [13, 30], 9) },
        ConvGeometry { pads: [1; 4], ..base(9, [5, 67], 37) },
        base(2, [3, 3], 3),
        base(4, [11, 9], 7),
        ConvGeometry { pads: [0, 2, 1, 0], ..base(3, [9, 18], 5) },
        ConvGeometry { pads: [4, 3, 5, 2], ..base(2, [3, 4], 3) },
    ]
}

#[test]
fn both_sizes_of_tiles_compute_what_nested_loops_compute() {
    for isa in isas() {
        for g in &geometries() {
            for map in [Map::aligned, Map::tight] {
                let input = map(g.in_channels, g.in_height, g.in_width);
                let output = map(g.out_channels, g.out_height(), g.out_width());
                let (w, bias) = (random(g.weights().unwrap(), 1), random(g.out_channels, 2));
                for (size, tolerance) in [(2, 5e-6), (4, 2e-5)] {
                    let guess = WinogradChoice::guess(isa, g, size);
                    let odd = WinogradChoice { size, outputs: 5, vectors: 2, tile_rows: 1 };
                    for choice in [guess, odd, WinogradChoice { tile_rows: 2, outputs: 0, ..guess }] {
                        let layer =
                            WinogradConv::prepare(isa, g, input, output, &w, Some(&bias), ACTIVATION, choice).unwrap();
                        check(&layer, g, &w, &bias, tolerance);
                    }
                }
            }
        }
    }
}

#[test]
fn other_convolutions_are_refused() {
    let three = ConvGeometry::new(2, [6, 6], 2, [3, 3]);
    let others = [
        ConvGeometry { stride: [2, 1], ..three.clone() },
        ConvGeometry { dilation: [1, 2], ..three.clone() },
        ConvGeometry { groups: 2, ..three.clone() },
        ConvGeometry { kernel: [3, 1], ..three.clone() },
    ];
    for g in others {
        let (input, output) = (Map::tight(2, 6, 6), Map::tight(2, g.out_height(), g.out_width()));
        let choice = WinogradChoice::guess(Isa::Scalar, &three, 2);
        let w = vec![1.0; g.weights().unwrap()];
        let error = WinogradConv::prepare(Isa::Scalar, &g, input, output, &w, None, ACTIVATION, choice).unwrap_err();
        assert!(matches!(error, KernelError::Unfit { .. }));
    }
}
