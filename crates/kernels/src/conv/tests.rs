//! Every kernel of the table on awkward layers; the reference is the seven-fold loop in f64.

use super::*;
use crate::spmm::SPMM_F32;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GUARD: f32 = 12345.0;

fn reference(g: &ConvGeometry, w: &[f32], bias: &[f32], x: &[f32]) -> Vec<(f64, f64)> {
    let [kernel_rows, kernel_columns] = g.kernel;
    let (group_inputs, group_outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let mut y = vec![];
    for o in 0..g.out_channels {
        for row in 0..g.out_height() {
            for column in 0..g.out_width() {
                let mut sum = f64::from(bias[o]);
                let mut magnitude = sum.abs();
                for i in 0..group_inputs {
                    for tap in 0..kernel_rows * kernel_columns {
                        let (r, c) = (tap / kernel_columns, tap % kernel_columns);
                        let at = (row * g.stride[0] + r * g.dilation[0]).checked_sub(g.pads[0]);
                        let Some(in_row) = at.filter(|at| *at < g.in_height) else { continue };
                        let at = (column * g.stride[1] + c * g.dilation[1]).checked_sub(g.pads[1]);
                        let Some(in_column) = at.filter(|at| *at < g.in_width) else { continue };
                        let channel = o / group_outputs * group_inputs + i;
                        let weight = w[(o * group_inputs + i) * kernel_rows * kernel_columns + tap];
                        let pixel = x[(channel * g.in_height + in_row) * g.in_width + in_column];
                        sum += f64::from(weight) * f64::from(pixel);
                        magnitude += (f64::from(weight) * f64::from(pixel)).abs();
                    }
                }
                y.push((sum, magnitude));
            }
        }
    }
    y
}

fn check(g: &ConvGeometry, density: f64, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |len: usize| (0..len).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
    let mut w = random(g.weights().unwrap());
    let (bias, x, residual) = (random(g.out_channels), random(g.in_len()), random(g.out_len()));
    w.iter_mut().filter(|_| !rng.random_bool(density)).for_each(|w| *w = 0.0);
    let expected = reference(g, &w, &bias, &x);
    let terms = w.len() / g.out_channels + 3;

    let (positions, values) = crate::packed::nonzeros(&w);
    for kernel in SPMM_F32.iter().filter(|kernel| (kernel.runs_here)()) {
        let nonzeros = positions.iter().copied().zip(values.iter().copied());
        let conv = SparseConv::prepare_for(kernel, g.clone(), nonzeros, Some(&bias)).unwrap();
        assert_eq!((conv.nnz(), conv.kernel_name()), (positions.len(), kernel.name));
        for with_residual in [false, true] {
            let (scratch_len, y_len) = (conv.scratch_len(), g.out_len());
            let mut scratch = vec![f32::NAN; scratch_len + 9];
            let mut y = vec![GUARD; y_len + 18];
            let residual = with_residual.then_some(&residual[..]);
            conv.run(&x, &mut y[9..9 + y_len], residual, Activation::Relu, &mut scratch);
            assert!(y[..9].iter().chain(&y[9 + y_len..]).all(|v| *v == GUARD), "{}: guard of {g:?}", kernel.name);
            assert!(scratch[scratch_len..].iter().all(|v| v.is_nan()), "{}: scratch of {g:?}", kernel.name);
            for (at, (sum, magnitude)) in expected.iter().enumerate() {
                let added = f64::from(residual.map_or(0.0, |residual| residual[at]));
                let rounding_tolerance = terms as f64 * f64::from(f32::EPSILON) * (magnitude + added.abs());
                let (found, expected) = (f64::from(y[9 + at]), (sum + added).max(0.0));
                let right = (found - expected).abs() <= rounding_tolerance;
                assert!(right, "{} on {g:?}: element {at} is {found}, expected {expected}", kernel.name);
            }
        }
    }
}

fn conv(in_channels: usize, input: [usize; 2], out_channels: usize, kernel: [usize; 2]) -> ConvGeometry {
    ConvGeometry::new(in_channels, input, out_channels, kernel)
}

#[test]
fn square_maps_of_odd_sizes_with_a_same_padding_match_the_reference() {
    for size in [1, 3, 7, 13, 28] {
        for stride in [1, 2, 3] {
            for kernel in [1, 3, 5] {
                let pad = kernel / 2;
                let g =
                    ConvGeometry { stride: [stride; 2], pads: [pad; 4], ..conv(3, [size, size], 5, [kernel, kernel]) };
                check(&g, 0.3, (size * 100 + stride * 10 + kernel) as u64);
            }
        }
    }
}

#[test]
fn layers_without_padding_are_read_in_place() {
    let g = conv(4, [9, 11], 6, [3, 2]);
    check(&g, 0.4, 1);
    let one_by_one = conv(17, [5, 7], 9, [1, 1]);
    check(&one_by_one, 0.4, 2);
    assert_eq!(SparseConv::prepare(one_by_one, [], None).unwrap().scratch_len(), 0);
}

#[test]
fn asymmetric_pads_strides_and_dilations_match_the_reference() {
    let base = conv(3, [11, 8], 4, [3, 2]);
    let pads = [[1, 0, 0, 0], [0, 2, 1, 0], [3, 1, 0, 4], [0, 0, 0, 1], [5, 5, 5, 5]];
    let steps =
        [([1, 1], [2, 3]), ([2, 1], [1, 1]), ([1, 3], [2, 1]), ([3, 2], [3, 4]), ([2, 2], [2, 2]), ([4, 4], [1, 1])];
    for (p, pads) in pads.into_iter().enumerate() {
        for (s, (stride, dilation)) in steps.into_iter().enumerate() {
            check(&ConvGeometry { pads, stride, dilation, ..base.clone() }, 0.5, (p * 10 + s) as u64);
        }
    }
}

#[test]
fn groups_and_depthwise_match_the_reference() {
    for (groups, in_channels, out_channels) in [(2, 6, 4), (3, 3, 6), (5, 5, 5)] {
        for stride in [1, 2] {
            let g = ConvGeometry {
                groups,
                stride: [stride; 2],
                pads: [1; 4],
                ..conv(in_channels, [9, 7], out_channels, [3, 3])
            };
            check(&g, 0.6, groups as u64);
            check(&g, 1.0, groups as u64);
        }
    }
}

#[test]
fn empty_and_dense_weights_match_the_reference() {
    for density in [0.0, 1.0] {
        check(&ConvGeometry { pads: [1; 4], ..conv(5, [7, 7], 3, [3, 3]) }, density, 4);
        check(&conv(5, [3, 3], 2, [1, 1]), density, 5);
    }
}

#[test]
fn layers_cut_into_pieces_and_input_blocks_match_the_reference() {
    let g = ConvGeometry { pads: [1, 0, 1, 1], ..conv(130, [33, 35], 70, [3, 1]) };
    check(&g, 0.2, 6);
    let nonzeros = (0..g.weights().unwrap() as u32).step_by(5).map(|index| (index, 1.0));
    let prepared = SparseConv::prepare(g.clone(), nonzeros, None).unwrap();
    assert!(prepared.rows.blocks() > 1 && prepared.piece_rows < g.out_height());
}

#[test]
fn wrong_weight_lists_are_refused() {
    let prepare = |items: &[(u32, f32)], bias: Option<&[f32]>| {
        SparseConv::prepare(conv(2, [3, 3], 2, [1, 1]), items.iter().copied(), bias).unwrap_err()
    };
    assert_eq!(prepare(&[(4, 1.0)], None), KernelError::IndexOutside { index: 4, len: 4 });
    assert_eq!(prepare(&[(1, 1.0), (1, 2.0)], None), KernelError::IndexOrder { previous: 1, index: 1 });
    assert_eq!(prepare(&[], Some(&[0.0; 3])), KernelError::BiasLength { expected: 2, found: 3 });
}

#[test]
fn the_stated_bytes_are_eight_per_weight_plus_rows() {
    let conv = SparseConv::prepare(conv(2, [3, 3], 2, [1, 1]), [(0, 1.0), (3, 2.0)], None).unwrap();
    assert_eq!((conv.nnz(), conv.weight_bytes(), conv.macs()), (2, 2 * 8 + 3 * 4 + 2 * 4, 18));
}
