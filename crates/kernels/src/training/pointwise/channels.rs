//! Every channel of every image times a factor (squeeze-and-excitation), and the gradient of a bias.

use super::super::Output;
use super::super::gradient::{Gradient, Sink};
use super::super::planes::{MAX_GROUP, Planes, fits};
use super::super::simd::{Kernel, Simd, isa_of, run};
use crate::team::Team;

/// `y[image, c, pixel] = x[image, c, pixel] * factors[image, c]`.
///
/// * `factors`: a map of one pixel, `[N / L][C][L]`.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn scale_channels(team: &Team, planes: Planes, x: &[f32], factors: &[f32], y: &mut [f32]) {
    fits("the input of a scaling", x.len(), planes.len());
    fits("the factors", factors.len(), planes.lanes.len(planes.channels));
    fits("the output of a scaling", y.len(), planes.len());
    let kernel = Scale { planes, x, factors, y: Output::new(y) };
    run(team, isa_of(planes.lanes.lanes), planes.plane_tasks(), &kernel);
}

/// The gradients of [`scale_channels`].
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn scale_channels_backward(
    team: &Team,
    planes: Planes,
    [x, factors]: [&[f32]; 2],
    gy: &[f32],
    [gx, to_factors]: [Gradient<'_>; 2],
) {
    fits("the input of a scaling", x.len(), planes.len());
    fits("the factors", factors.len(), planes.lanes.len(planes.channels));
    fits("the gradient of a scaled map", gy.len(), planes.len());
    let gx = gx.sink("the gradient of a scaling's input", planes.len());
    let to_factors = to_factors.sink("the gradient of the factors", factors.len());
    let kernel = ScaleBackward { planes, x, factors, gy, gx, to_factors };
    run(team, isa_of(planes.lanes.lanes), planes.plane_tasks(), &kernel);
}

/// The gradient of a bias: per channel the sum of `gy` by block of images, then pixel, then lanes by halves. `to_bias` is overwritten.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn bias_gradient(team: &Team, planes: Planes, gy: &[f32], to_bias: &mut [f32]) {
    fits("the gradient of a biased map", gy.len(), planes.len());
    fits("the gradient of a bias", to_bias.len(), planes.channels);
    let kernel = Bias { planes, gy, to_bias: Output::new(to_bias) };
    run(team, isa_of(planes.lanes.lanes), planes.channel_tasks(), &kernel);
}

struct Scale<'a> {
    planes: Planes,
    x: &'a [f32],
    factors: &'a [f32],
    y: Output<'a>,
}

impl Kernel for Scale<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let len = self.planes.plane();
        for plane in self.planes.planes_of(task) {
            let factor = s.load(&self.factors[plane * S::LANES..]);
            // SAFETY: this plane belongs to this task alone.
            let y = unsafe { self.y.part(plane * len, len) };
            let x = &self.x[plane * len..][..len];
            for (y, x) in y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES)) {
                s.store(y, s.mul(s.load(x), factor));
            }
        }
    }
}

struct ScaleBackward<'a> {
    planes: Planes,
    x: &'a [f32],
    factors: &'a [f32],
    gy: &'a [f32],
    gx: Sink<'a>,
    to_factors: Sink<'a>,
}

impl Kernel for ScaleBackward<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let len = self.planes.plane();
        for plane in self.planes.planes_of(task) {
            let factor = s.load(&self.factors[plane * S::LANES..]);
            // SAFETY: this plane, and its factors, belong to this task alone.
            let (gx, to_factor) =
                unsafe { (self.gx.to.part(plane * len, len), self.to_factors.to.part(plane * S::LANES, S::LANES)) };
            let inputs = self.x[plane * len..][..len].chunks_exact(S::LANES);
            let mut sum = s.splat(0.0);
            for (gx, (x, gy)) in
                gx.chunks_exact_mut(S::LANES).zip(inputs.zip(self.gy[plane * len..][..len].chunks_exact(S::LANES)))
            {
                let gy = s.load(gy);
                sum = s.fma(gy, s.load(x), sum);
                self.gx.put(s, gx, s.mul(gy, factor));
            }
            self.to_factors.put(s, to_factor, sum);
        }
    }
}

struct Bias<'a> {
    planes: Planes,
    gy: &'a [f32],
    to_bias: Output<'a>,
}

impl Kernel for Bias<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let channels = self.planes.channels_of(task);
        let mut sums = [s.splat(0.0); MAX_GROUP];
        for block in 0..self.planes.lanes.blocks() {
            for (c, total) in channels.clone().zip(&mut sums) {
                let mut sum = *total;
                for gy in self.gy[self.planes.at(block, c)..][..self.planes.plane()].chunks_exact(S::LANES) {
                    sum = s.add(sum, s.load(gy));
                }
                *total = sum;
            }
        }
        // SAFETY: these channels belong to this task alone.
        let to_bias = unsafe { self.to_bias.part(channels.start, channels.len()) };
        for (to, sum) in to_bias.iter_mut().zip(sums) {
            *to = s.sum(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Lanes;
    use crate::training::testing::{close, every_isa, map, place, threads};

    #[test]
    fn factors_and_their_gradients_follow_plain_loops() {
        for (isa, batch) in every_isa([15, 17, 1]) {
            let planes = Planes { lanes: Lanes::new(isa, batch), channels: 5, pixels: 21 };
            let of_factors = Planes { pixels: 1, ..planes };
            let (x, gy) = (map(planes, 1, 0.7), map(planes, 2, 0.0));
            let factors = map(of_factors, 3, 0.3);
            let (mut expected, mut bias) = (vec![0.0; factors.len()], vec![0.0; 5]);
            for i in 0..x.len() {
                expected[i / planes.plane() * isa.lanes() + i % isa.lanes()] += f64::from(x[i]) * f64::from(gy[i]);
                bias[place(planes, i).1] += f64::from(gy[i]);
            }
            let mut bits: Option<Vec<Vec<f32>>> = None;
            for team in threads() {
                let (mut y, mut gx, mut to_factors) =
                    (vec![9.0; x.len()], vec![9.0; x.len()], vec![9.0; factors.len()]);
                let mut to_bias = vec![9.0; 5];
                scale_channels(&team, planes, &x, &factors, &mut y);
                let to = [Gradient::add(&mut gx), Gradient::write(&mut to_factors)];
                scale_channels_backward(&team, planes, [&x, &factors], &gy, to);
                bias_gradient(&team, planes, &gy, &mut to_bias);
                for i in 0..x.len() {
                    let factor = factors[i / planes.plane() * isa.lanes() + i % isa.lanes()];
                    assert_eq!((y[i], gx[i]), (x[i] * factor, 9.0 + gy[i] * factor), "{isa:?}, {batch} images");
                }
                close("factors", &to_factors, &expected, 21.0 * f64::from(f32::EPSILON));
                close("bias", &to_bias, &bias, 21.0 * 17.0 * f64::from(f32::EPSILON));
                let all = vec![to_factors, to_bias];
                assert_eq!(bits.get_or_insert_with(|| all.clone()), &all, "{} threads", team.threads());
            }
        }
    }
}
