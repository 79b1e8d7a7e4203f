//! Against plain loops in f64, and against plain loops of the same order for the bits.

use super::*;
use crate::training::testing::{at, close, every_isa, map, noise, threads};

fn geometry(
    [channels, multiplier]: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
    dilation: [usize; 2],
) -> ConvGeometry {
    let length = |i: usize| (input[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation[i] - 1) / stride[i] + 1;
    ConvGeometry {
        groups: channels,
        in_channels: channels,
        out_channels: channels * multiplier,
        input,
        output: [length(0), length(1)],
        kernel,
        stride,
        pads: [pads[0], pads[1]],
        dilation,
    }
}

fn each() -> impl Iterator<Item = (Isa, usize, ConvGeometry)> {
    let cases = [
        geometry([3, 1], [11, 23], [3, 3], [1, 1], [1; 4], [1, 1]),
        geometry([3, 1], [11, 24], [3, 3], [2, 2], [1; 4], [1, 1]),
        geometry([2, 1], [9, 21], [3, 3], [2, 2], [0, 0, 1, 1], [1, 1]),
        geometry([2, 3], [6, 7], [3, 3], [1, 1], [1, 0, 2, 3], [1, 1]),
        geometry([2, 2], [5, 6], [3, 3], [2, 1], [1; 4], [1, 1]),
        geometry([2, 1], [1, 1], [3, 3], [1, 1], [1; 4], [1, 1]),
        geometry([2, 1], [2, 2], [3, 3], [2, 2], [1; 4], [1, 1]),
        geometry([2, 1], [9, 12], [5, 5], [1, 1], [2; 4], [1, 1]),
        geometry([2, 1], [9, 12], [5, 4], [2, 3], [2; 4], [1, 1]),
        geometry([2, 1], [11, 12], [3, 3], [1, 2], [2; 4], [2, 3]),
        geometry([2, 1], [8, 8], [2, 1], [3, 3], [0; 4], [1, 1]),
        geometry([2, 1], [8, 13], [1, 2], [1, 2], [0; 4], [1, 2]),
    ];
    every_isa([15, 17, 1]).flat_map(move |(isa, batch)| cases.map(|g| (isa, batch, g)))
}

/// Calls `each(image, input pixel, output pixel, weight)` for every product, with channels in what `each` gets.
fn products(batch: usize, g: &ConvGeometry, mut each: impl FnMut([usize; 3], [usize; 3], usize)) {
    for (n, o) in (0..batch).flat_map(|n| (0..g.out_channels).map(move |o| (n, o))) {
        for (ky, kx) in (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| (ky, kx))) {
            for (oy, ox) in g.reached(0, ky).flat_map(|oy| g.reached(1, kx).map(move |ox| (oy, ox))) {
                let iy = oy * g.stride[0] + ky * g.dilation[0] - g.pads[0];
                let ix = ox * g.stride[1] + kx * g.dilation[1] - g.pads[1];
                let weight = (o * g.kernel[0] + ky) * g.kernel[1] + kx;
                each([n, o / g.group_out(), iy * g.input[1] + ix], [n, o, oy * g.output[1] + ox], weight);
            }
        }
    }
}

fn fused(isa: Isa, a: f32, b: f32, sum: f32) -> f32 {
    if isa == Isa::Scalar { sum + a * b } else { a.mul_add(b, sum) }
}

#[test]
fn all_three_products_follow_plain_loops_of_the_same_order_bit_by_bit() {
    for (isa, batch, g) in each() {
        let layer = Depthwise::new(isa, g).unwrap();
        let weights = noise(g.weights(), 1);
        let (from, to) = layer.check(batch, &weights);
        let (x, gy, bias) = (map(from, 2, 0.7), map(to, 3, 0.0), noise(g.out_channels, 4));
        let name = format!("{isa:?}, {batch} images, {g:?}");
        let (mut y, mut gx, mut more) = (vec![0.0; to.len()], vec![0.0; from.len()], vec![2.0; from.len()]);
        let (mut gw, mut wide) = (vec![0.0; weights.len()], vec![0.0f64; weights.len()]);
        let mut sums = vec![vec![0.0f32; isa.lanes()]; weights.len()];
        for i in 0..to.len() {
            y[i] = bias[i / to.plane() % g.out_channels];
        }
        products(batch, &g, |[n, c, p], [_, o, q], w| {
            let (i, o) = (at(from, n, c, p), at(to, n, o, q));
            y[o] = fused(isa, weights[w], x[i], y[o]);
            gx[i] = fused(isa, weights[w], gy[o], gx[i]);
            more[i] = fused(isa, weights[w], gy[o], more[i]);
            sums[w][n % isa.lanes()] = fused(isa, gy[o], x[i], sums[w][n % isa.lanes()]);
            wide[w] += f64::from(gy[o]) * f64::from(x[i]);
        });
        for (gw, sums) in gw.iter_mut().zip(&mut sums) {
            let mut half = isa.lanes() / 2;
            while half > 0 {
                (0..half).for_each(|i| sums[i] += sums[i + half]);
                half /= 2;
            }
            *gw = sums[0];
        }
        let counts = |planes: Planes, values: &[f32]| -> Vec<f32> {
            let value = |(n, c, p)| values[at(planes, n, c, p)];
            let channels = |n| (0..planes.channels).flat_map(move |c| (0..planes.pixels).map(move |p| (n, c, p)));
            (0..batch).flat_map(channels).map(value).collect()
        };
        for team in threads() {
            let (mut our_y, mut our_gx, mut our_more) =
                (vec![9.0; to.len()], vec![9.0; from.len()], vec![2.0; from.len()]);
            let mut our_gw = vec![9.0; weights.len()];
            layer.forward(&team, batch, &x, &weights, Some(&bias), &mut our_y);
            layer.input_gradient(&team, batch, &gy, &weights, Gradient::write(&mut our_gx));
            layer.input_gradient(&team, batch, &gy, &weights, Gradient::add(&mut our_more));
            layer.weight_gradient(&team, batch, &x, &gy, &mut our_gw);
            assert_eq!(counts(to, &our_y), counts(to, &y), "{name}");
            assert_eq!(our_gx, gx, "{name}");
            assert_eq!(counts(from, &our_more), counts(from, &more), "{name}");
            assert_eq!(our_gw, gw, "{name}");
        }
        close(&name, &gw, &wide, (batch * g.out_plane()) as f64 * f64::from(f32::EPSILON));
    }
}

#[test]
fn groups_of_two_inputs_are_refused() {
    let g = ConvGeometry { in_channels: 6, ..geometry([3, 2], [5, 5], [3, 3], [1, 1], [1; 4], [1, 1]) };
    let error = Depthwise::new(Isa::Scalar, g).unwrap_err();
    assert!(matches!(error, KernelError::Groups { channels: 6, groups: 3, .. }), "{error}");
}
