//! Depthwise convolution: direct loops over zero-padded planes, all taps of a pixel in one pass.

use rayon::prelude::*;

use super::Geometry;

/// A plane with its zero padding, rows one after the other.
struct Padded {
    data: Vec<f32>,
    width: usize,
}

impl Padded {
    fn new(g: &Geometry) -> Padded {
        let [top, left, bottom, right] = g.window.pads;
        let (height, width) = (g.input[0] + top + bottom, g.input[1] + left + right);
        // The last taps of the last line may read past the plane, into values that no output pixel keeps.
        Padded { data: vec![0.0; height * width + g.kernel[1] * g.window.dilation[1] + LANES], width }
    }

    fn fill(&mut self, g: &Geometry, plane: &[f32]) {
        let [top, left, ..] = g.window.pads;
        for (y, line) in plane.chunks(g.input[1]).enumerate() {
            self.data[(y + top) * self.width + left..][..g.input[1]].copy_from_slice(line);
        }
    }
}

const LANES: usize = 16;

/// Offset of every tap in a padded plane, in the order of the weights.
fn taps(g: &Geometry, width: usize) -> Vec<usize> {
    let [down, right] = g.window.dilation;
    (0..g.kernel[0]).flat_map(|ky| (0..g.kernel[1]).map(move |kx| ky * down * width + kx * right)).collect()
}

/// `out[i] = sum over taps of weight * x[i + tap]`, `out` as long as wished.
fn correlate(x: &[f32], weights: &[f32], taps: &[usize], out: &mut [f32]) {
    let mut chunks = out.chunks_exact_mut(LANES);
    let mut base = 0;
    for chunk in &mut chunks {
        let mut sum = [0.0f32; LANES];
        for (w, tap) in weights.iter().zip(taps) {
            let source: &[f32; LANES] = x[base + tap..][..LANES].try_into().expect("the slice has that length");
            sum.iter_mut().zip(source).for_each(|(s, x)| *s += w * x);
        }
        chunk.copy_from_slice(&sum);
        base += LANES;
    }
    for (i, out) in chunks.into_remainder().iter_mut().enumerate() {
        *out = weights.iter().zip(taps).map(|(w, tap)| w * x[base + i + tap]).sum();
    }
}

/// `y` from `x` `[N, C, H, W]` and `weight` `[C * multiplier, 1, kh, kw]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; g.output_shape().iter().product()];
    if y.is_empty() || g.in_plane() == 0 {
        return y;
    }
    let image = g.group_out() * g.out_plane();
    let state = || (Padded::new(g), Vec::new());
    y.par_chunks_mut(image).with_min_len(8).enumerate().for_each_init(state, |(padded, wide), (plane, y)| {
        let channel = plane % g.in_channels;
        padded.fill(g, &x[plane * g.in_plane()..][..g.in_plane()]);
        let taps = taps(g, padded.width);
        let patch = g.patch();
        for (m, y) in y.chunks_mut(g.out_plane()).enumerate() {
            let weights = &weight[(channel * g.group_out() + m) * patch..][..patch];
            correlate_plane(g, padded, weights, &taps, y, wide);
        }
    });
    y
}

fn correlate_plane(g: &Geometry, x: &Padded, weights: &[f32], taps: &[usize], y: &mut [f32], wide: &mut Vec<f32>) {
    let [oh, ow] = g.output;
    let [down, right] = g.window.stride;
    if right == 1 && down == 1 {
        // One run over all lines; the pixels between two lines are computed and dropped.
        wide.resize((oh - 1) * x.width + ow, 0.0);
        correlate(&x.data, weights, taps, wide);
        for (y, line) in y.chunks_mut(ow).zip(wide.chunks(x.width)) {
            y.copy_from_slice(&line[..ow]);
        }
        return;
    }
    wide.resize((ow - 1) * right + 1, 0.0);
    for (oy, y) in y.chunks_mut(ow).enumerate() {
        correlate(&x.data[oy * down * x.width..], weights, taps, wide);
        y.iter_mut().zip(wide.iter().step_by(right)).for_each(|(y, v)| *y = *v);
    }
}

/// The gradient of `x` from the gradient of `y`.
pub(super) fn input_gradient(g: &Geometry, gy: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut gx = vec![0.0; g.input_shape().iter().product()];
    if gx.is_empty() || gy.is_empty() {
        return gx;
    }
    let state = || Spread::new(g);
    gx.par_chunks_mut(g.in_plane()).with_min_len(8).enumerate().for_each_init(state, |spread, (plane, gx)| {
        let channel = plane % g.in_channels;
        for m in 0..g.group_out() {
            let from = (plane * g.group_out() + m) * g.out_plane();
            let weights = &weight[(channel * g.group_out() + m) * g.patch()..][..g.patch()];
            spread.add(g, &gy[from..][..g.out_plane()], weights, gx);
        }
    });
    gx
}

/// The gradient of `y`, spread out by the stride and padded, so that the input gradient is a correlation with the turned kernel.
struct Spread {
    data: Vec<f32>,
    width: usize,
    before: [usize; 2],
    taps: Vec<usize>,
    line: Vec<f32>,
}

impl Spread {
    fn new(g: &Geometry) -> Spread {
        // Input pixel `i` takes output `o` through tap `k` where `o * stride + k * dilation - pad == i`. With the outputs at
        // `before + o * stride` and the turned taps, it reads from `i + pad` on, whatever the padding.
        let before = [0, 1].map(|a| (g.kernel[a] - 1) * g.window.dilation[a]);
        let length = |a: usize| {
            let reach = before[a] + (g.output[a] - 1) * g.window.stride[a] + 1;
            reach.max(g.input[a] + g.window.pads[a]) + before[a]
        };
        let width = length(1);
        let mut taps = taps(g, width);
        taps.reverse();
        let data = vec![0.0; length(0) * width + LANES];
        Spread { data, width, before, taps, line: vec![0.0; g.input[1]] }
    }

    fn add(&mut self, g: &Geometry, gy: &[f32], weights: &[f32], gx: &mut [f32]) {
        let [down, right] = g.window.stride;
        for (oy, line) in gy.chunks(g.output[1]).enumerate() {
            let target = &mut self.data[(self.before[0] + oy * down) * self.width + self.before[1]..];
            match right {
                1 => target[..line.len()].copy_from_slice(line),
                _ => target.iter_mut().step_by(right).zip(line).for_each(|(t, v)| *t = *v),
            }
        }
        for (y, gx) in gx.chunks_mut(g.input[1]).enumerate() {
            let from = &self.data[(y + g.window.pads[0]) * self.width + g.window.pads[1]..];
            correlate(from, weights, &self.taps, &mut self.line);
            gx.iter_mut().zip(&self.line).for_each(|(gx, v)| *gx += v);
        }
    }
}

/// The gradient of `weight` from `x` and the gradient of `y`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let mut gw = vec![0.0; g.out_channels * g.patch()];
    if gw.is_empty() || gy.is_empty() || x.is_empty() {
        return gw;
    }
    let [down, right] = g.window.stride;
    let state = || (Padded::new(g), Vec::new());
    gw.par_chunks_mut(g.group_out() * g.patch()).enumerate().for_each_init(state, |(padded, wide), (channel, gw)| {
        let taps = taps(g, padded.width);
        // The gradient is laid out like the padded input, zero between its pixels: each tap is then one dot product.
        wide.clear();
        wide.resize((g.output[0] - 1) * down * padded.width + (g.output[1] - 1) * right + 1, 0.0);
        for image in 0..g.batch {
            let plane = image * g.in_channels + channel;
            padded.fill(g, &x[plane * g.in_plane()..][..g.in_plane()]);
            for (m, gw) in gw.chunks_mut(g.patch()).enumerate() {
                let gradient = &gy[(plane * g.group_out() + m) * g.out_plane()..][..g.out_plane()];
                for (oy, line) in gradient.chunks(g.output[1]).enumerate() {
                    let target = wide[oy * down * padded.width..].iter_mut().step_by(right);
                    target.zip(line).for_each(|(t, v)| *t = *v);
                }
                for (gw, tap) in gw.iter_mut().zip(&taps) {
                    *gw += dot(wide, &padded.data[*tap..]);
                }
            }
        }
    });
    gw
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let b = &b[..a.len()];
    let (chunks, rest) = (a.chunks_exact(LANES), a.len() / LANES * LANES);
    for (a, b) in chunks.zip(b.chunks_exact(LANES)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + tail
}
