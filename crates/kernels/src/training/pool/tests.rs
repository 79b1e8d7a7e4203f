//! Against plain loops, ties and NaN included.

use super::*;
use crate::training::testing::{at, close, every_isa, map, threads};
use crate::training::{Gradient, Lanes};

const CASES: [[[usize; 2]; 5]; 6] = [
    // input, output, kernel, stride, pads
    [[6, 8], [3, 4], [2, 2], [2, 2], [0, 0]],
    [[7, 9], [4, 9], [3, 3], [2, 1], [1, 1]],
    [[5, 7], [2, 2], [2, 3], [3, 4], [0, 1]],
    [[4, 5], [2, 3], [3, 2], [2, 2], [1, 0]],
    // the first and the last window lie in the padding
    [[3, 2], [5, 4], [2, 1], [1, 1], [2, 1]],
    [[5, 3], [1, 1], [5, 3], [1, 1], [0, 0]],
];

fn each() -> impl Iterator<Item = (Lanes, PoolGeometry)> {
    every_isa([15, 17, 1]).flat_map(|(isa, batch)| {
        CASES.map(|[input, output, kernel, stride, pads]| {
            (Lanes::new(isa, batch), PoolGeometry { channels: 3, input, output, kernel, stride, pads })
        })
    })
}

/// Calls `each(index of the output, indices of its window in row-major order)` for images that count.
fn windows(lanes: Lanes, g: PoolGeometry, mut each: impl FnMut(usize, &[usize])) {
    let (x, y) = (g.planes(lanes, g.input), g.planes(lanes, g.output));
    for (n, c) in (0..lanes.batch).flat_map(|n| (0..g.channels).map(move |c| (n, c))) {
        for (oy, ox) in (0..g.output[0]).flat_map(|oy| (0..g.output[1]).map(move |ox| (oy, ox))) {
            let mut window = Vec::new();
            for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
                let (iy, ix) = ((oy * g.stride[0] + ky) as isize, (ox * g.stride[1] + kx) as isize);
                let (iy, ix) = (iy - g.pads[0] as isize, ix - g.pads[1] as isize);
                if (0..g.input[0] as isize).contains(&iy) && (0..g.input[1] as isize).contains(&ix) {
                    window.push(at(x, n, c, iy as usize * g.input[1] + ix as usize));
                }
            }
            each(at(y, n, c, oy * g.output[1] + ox), &window);
        }
    }
}

#[test]
fn the_first_largest_wins_nan_before_all_and_gets_the_gradient() {
    for (lanes, g) in each() {
        let (of_x, of_y) = (g.planes(lanes, g.input), g.planes(lanes, g.output));
        // few values, so that windows have ties; one NaN in twenty
        let few = |v: &f32| {
            if *v > 0.9 {
                f32::NAN
            } else if *v < -0.9 {
                f32::NEG_INFINITY
            } else {
                (v * 3.0).round()
            }
        };
        let x: Vec<f32> = map(of_x, 1, 0.3).iter().map(few).collect();
        let gy = map(of_y, 2, 0.0);
        let (mut expected, mut gradient) = (vec![f32::NEG_INFINITY; of_y.len()], vec![0.0; of_x.len()]);
        windows(lanes, g, |o, window| {
            let better = |best: usize, i: usize| x[i] > x[best] || (x[i].is_nan() && !x[best].is_nan());
            let best = window.iter().copied().reduce(|best, i| if better(best, i) { i } else { best });
            if let Some(best) = best {
                expected[o] = x[best];
                gradient[best] += f64::from(gy[o]);
            }
        });
        for team in threads() {
            let (mut y, mut gx, mut more) = (vec![9.0; of_y.len()], vec![9.0; of_x.len()], vec![2.0; of_x.len()]);
            max_pool(&team, lanes, g, &x, &mut y);
            max_pool_backward(&team, lanes, g, &x, &gy, Gradient::write(&mut gx));
            max_pool_backward(&team, lanes, g, &x, &gy, Gradient::add(&mut more));
            windows(lanes, g, |o, _| {
                assert!(y[o] == expected[o] || (y[o].is_nan() && expected[o].is_nan()), "{lanes:?}, {g:?}: output {o}");
            });
            close(&format!("{lanes:?}, {g:?}"), &gx, &gradient, 1e-6);
            close(&format!("{lanes:?}, {g:?}"), &more, &gradient.iter().map(|g| 2.0 + g).collect::<Vec<_>>(), 1e-6);
        }
    }
}

#[test]
fn means_count_the_padding_or_do_not_and_spread_the_gradient_alike() {
    for ((lanes, g), count_padding) in each().flat_map(|case| [false, true].map(|count| (case, count))) {
        let (of_x, of_y) = (g.planes(lanes, g.input), g.planes(lanes, g.output));
        let (x, gy) = (map(of_x, 1, 0.0), map(of_y, 2, 0.0));
        let (mut expected, mut gradient) = (vec![0.0; of_y.len()], vec![0.0; of_x.len()]);
        windows(lanes, g, |o, window| {
            let count = if count_padding { g.kernel[0] * g.kernel[1] } else { window.len() };
            for i in window {
                expected[o] += f64::from(x[*i]) / count as f64;
                gradient[*i] += f64::from(gy[o]) / count as f64;
            }
        });
        for team in threads() {
            let (mut y, mut gx, mut more) = (vec![9.0; of_y.len()], vec![9.0; of_x.len()], vec![2.0; of_x.len()]);
            average_pool(&team, lanes, g, count_padding, &x, &mut y);
            average_pool_backward(&team, lanes, g, count_padding, &gy, Gradient::write(&mut gx));
            average_pool_backward(&team, lanes, g, count_padding, &gy, Gradient::add(&mut more));
            close(&format!("{lanes:?}, {g:?}"), &y, &expected, 1e-6);
            close(&format!("{lanes:?}, {g:?}"), &gx, &gradient, 1e-6);
            close(&format!("{lanes:?}, {g:?}"), &more, &gradient.iter().map(|g| 2.0 + g).collect::<Vec<_>>(), 2e-6);
        }
    }
}

#[test]
fn one_window_over_everything_is_the_global_average() {
    let lanes = Lanes { batch: 3, lanes: crate::Isa::Scalar.lanes() };
    let g = PoolGeometry::global(2, [2, 3]);
    let mut y = vec![0.0; lanes.len(2)];
    let x: Vec<f32> = (0..lanes.len(12)).map(|i| (i / lanes.lanes) as f32).collect();
    average_pool(&threads()[0], lanes, g, false, &x, &mut y);
    assert_eq!((y[0], y[lanes.lanes]), (2.5, 8.5));
}
