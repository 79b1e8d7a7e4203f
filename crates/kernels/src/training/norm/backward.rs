//! The gradients of batch norm, which depend on the whole batch because its statistics do.

use super::super::Output;
use super::super::gradient::{Gradient, Sink};
use super::super::planes::{MAX_GROUP, fits};
use super::super::pointwise::{Bend, with_bend};
use super::super::simd::{Kernel, MAX_LANES, Simd, isa_of, run};
use super::moments::lanes_sum;
use super::{CHUNK, Norm};
use crate::team::Team;

/// The gradients of [`norm_forward`](super::norm_forward).
///
/// * `statistics`: the mean and variance that it found.
/// * `y`: its output, needed only with a residual: otherwise the slope of the activation is found from `x`, which is read anyway.
/// * `gradient`: that of `y` when this starts, that of `x` when it ends; there it is 0 for images that do not count.
/// * `to_gamma`, `to_beta`: overwritten.
/// * `to_residual`: where the gradient of the residual goes, if there is one.
///
/// # Panics
/// When a length does not fit, there is a residual but no `y` (or its slope does not show in it), or this processor has no
/// instruction set with as many lanes.
pub fn norm_backward(
    team: &Team,
    norm: Norm<'_>,
    statistics: [&[f32]; 2],
    (x, y): (&[f32], Option<&[f32]>),
    gradient: &mut [f32],
    [to_gamma, to_beta]: [&mut [f32]; 2],
    to_residual: Option<Gradient<'_>>,
) {
    norm.check();
    let planes = norm.planes;
    fits("the input of a norm", x.len(), planes.len());
    fits("the output of a norm", y.map_or(planes.len(), <[f32]>::len), planes.len());
    fits("the gradient of a norm", gradient.len(), planes.len());
    for (what, found) in [
        ("the means", statistics[0].len()),
        ("the variances", statistics[1].len()),
        ("the gradient of gamma", to_gamma.len()),
        ("the gradient of beta", to_beta.len()),
    ] {
        fits(what, found, planes.channels);
    }
    assert!(to_residual.is_none() || y.is_some(), "with a residual the output tells the slope, and it is not given");
    assert!(y.is_none() || norm.activation.slope_shows_in_output(), "this slope does not show in the output");
    let to_residual = to_residual.map(|to| to.sink("the gradient of the residual", planes.len()));
    let gradient = Output::new(gradient);
    let (to_gamma, to_beta) = (Output::new(to_gamma), Output::new(to_beta));
    with_bend!(norm.activation, f => {
        let kernel = Backward { norm, f, statistics, x, y, gradient, to_gamma, to_beta, to_residual };
        run(team, isa_of(planes.lanes.lanes), planes.channel_tasks(), &kernel);
    });
}

struct Backward<'a, F> {
    norm: Norm<'a>,
    f: F,
    statistics: [&'a [f32]; 2],
    x: &'a [f32],
    y: Option<&'a [f32]>,
    gradient: Output<'a>,
    to_gamma: Output<'a>,
    to_beta: Output<'a>,
    to_residual: Option<Sink<'a>>,
}

/// What is the same for all pixels of a channel.
#[derive(Clone, Copy)]
struct Channel<V> {
    scale: V,
    shift: V,
    /// Minus the mean.
    from: V,
}

impl<F: Bend> Kernel for Backward<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let planes = self.norm.planes;
        let channels = planes.channels_of(task);
        let len = planes.plane();
        // the sums of `(x - mean) * g` and of `g`
        let mut sums = [(0.0, 0.0); MAX_GROUP];
        for block in 0..planes.lanes.blocks() {
            let images = planes.lanes.images(block);
            for (c, sums) in channels.clone().zip(&mut sums) {
                let channel = self.channel(s, c);
                let at = planes.at(block, c);
                for from in (at..at + len).step_by(CHUNK * S::LANES) {
                    let len = (at + len - from).min(CHUNK * S::LANES);
                    // SAFETY: this plane belongs to this task alone.
                    let g = unsafe { self.gradient.part(from, len) };
                    let x = &self.x[from..][..len];
                    let [products, alone] = match self.y {
                        None => self.sums::<S, false>(s, channel, [x, x, g]),
                        Some(y) => self.sums::<S, true>(s, channel, [x, &y[from..][..len], g]),
                    };
                    sums.0 += lanes_sum(s, products, images);
                    sums.1 += lanes_sum(s, alone, images);
                }
            }
        }
        // SAFETY: these channels belong to this task alone.
        let (to_gamma, to_beta) = unsafe {
            (self.to_gamma.part(channels.start, channels.len()), self.to_beta.part(channels.start, channels.len()))
        };
        for (i, c) in channels.clone().enumerate() {
            let inverse = self.norm.inverse(self.statistics[1][c]);
            to_gamma[i] = (sums[i].0 * f64::from(inverse)) as f32;
            to_beta[i] = sums[i].1 as f32;
        }
        for block in (0..planes.lanes.blocks()).rev() {
            for c in channels.clone().rev() {
                let i = c - channels.start;
                // SAFETY: this plane belongs to this task alone.
                let g = unsafe { self.gradient.part(planes.at(block, c), len) };
                match self.y {
                    None => self.spread::<S, false>(s, c, block, [to_gamma[i], to_beta[i]], g),
                    Some(_) => self.spread::<S, true>(s, c, block, [to_gamma[i], to_beta[i]], g),
                }
            }
        }
    }
}

impl<F: Bend> Backward<'_, F> {
    #[inline(always)]
    fn channel<S: Simd>(&self, s: S, c: usize) -> Channel<S::V> {
        let (scale, shift) = self.norm.line(c, self.statistics[0][c], self.statistics[1][c]);
        Channel { scale: s.splat(scale), shift: s.splat(shift), from: s.splat(-self.statistics[0][c]) }
    }

    /// The gradient behind the activation; its slope is read off the output (`Y`), or off the same line as forward.
    #[inline(always)]
    fn pull<S: Simd, const Y: bool>(&self, s: S, channel: Channel<S::V>, x: S::V, y: &[f32], g: S::V) -> S::V {
        let at = if Y { s.load(y) } else { s.add(s.mul(x, channel.scale), channel.shift) };
        self.f.pull(s, at, g)
    }

    /// The sums of `(x - mean) * g` and of `g` over some whole vectors of a plane.
    #[inline(always)]
    fn sums<S: Simd, const Y: bool>(&self, s: S, channel: Channel<S::V>, [x, y, gy]: [&[f32]; 3]) -> [S::V; 2] {
        let (mut products, mut sums) = ([s.splat(0.0); 2], [s.splat(0.0); 2]);
        let (xs, ys, gs) = (x.chunks_exact(2 * S::LANES), y.chunks_exact(2 * S::LANES), gy.chunks_exact(2 * S::LANES));
        let rest = [xs.remainder(), ys.remainder(), gs.remainder()];
        for ((x, y), gy) in xs.zip(ys).zip(gs) {
            for i in 0..2 {
                let at = i * S::LANES;
                let x = s.load(&x[at..]);
                let g = self.pull::<S, Y>(s, channel, x, &y[at..], s.load(&gy[at..]));
                products[i] = s.add(products[i], s.mul(s.add(x, channel.from), g));
                sums[i] = s.add(sums[i], g);
            }
        }
        if !rest[0].is_empty() {
            let x = s.load(rest[0]);
            let g = self.pull::<S, Y>(s, channel, x, rest[1], s.load(rest[2]));
            products[0] = s.add(products[0], s.mul(s.add(x, channel.from), g));
            sums[0] = s.add(sums[0], g);
        }
        [s.add(products[0], products[1]), s.add(sums[0], sums[1])]
    }

    /// Turns the gradient of one plane of `y` into that of `x`.
    #[inline(always)]
    fn spread<S: Simd, const Y: bool>(&self, s: S, c: usize, block: usize, gamma_beta: [f32; 2], gradient: &mut [f32]) {
        let planes = self.norm.planes;
        let (at, len) = (planes.at(block, c), gradient.len());
        let channel = self.channel(s, c);
        let back = self.back(s, c, block, gamma_beta);
        let (x, y) = (&self.x[at..][..len], &self.y.unwrap_or(self.x)[at..][..len]);
        let inputs = x.chunks_exact(S::LANES).zip(y.chunks_exact(S::LANES));
        match self.to_residual {
            None => {
                for (gradient, (x, y)) in gradient.chunks_exact_mut(S::LANES).zip(inputs) {
                    let x = s.load(x);
                    let g = self.pull::<S, Y>(s, channel, x, y, s.load(gradient));
                    s.store(gradient, back.of(s, s.add(x, channel.from), g));
                }
            }
            Some(to) => {
                // SAFETY: this plane belongs to this task alone.
                let residual = unsafe { to.to.part(at, len) };
                let outputs = gradient.chunks_exact_mut(S::LANES).zip(residual.chunks_exact_mut(S::LANES));
                for ((gradient, residual), (x, y)) in outputs.zip(inputs) {
                    let x = s.load(x);
                    let g = self.pull::<S, Y>(s, channel, x, y, s.load(gradient));
                    to.put(s, residual, g);
                    s.store(gradient, back.of(s, s.add(x, channel.from), g));
                }
            }
        }
    }

    #[inline(always)]
    fn back<S: Simd>(&self, s: S, c: usize, block: usize, [to_gamma, to_beta]: [f32; 2]) -> Back<S::V> {
        let planes = self.norm.planes;
        let inverse = self.norm.inverse(self.statistics[1][c]);
        let share = 1.0 / planes.count().max(1) as f32;
        let mut counts = [0.0; MAX_LANES];
        counts[..planes.lanes.images(block)].fill(1.0);
        Back {
            outer: s.splat(self.norm.gamma[c] * inverse),
            offset: s.splat(-(to_beta * share)),
            tilt: s.splat(-(to_gamma * share * inverse)),
            counts: s.load(&counts),
        }
    }
}

/// The way of a gradient from behind the norm to before it.
#[derive(Clone, Copy)]
struct Back<V> {
    outer: V,
    /// Minus the mean of `g`.
    offset: V,
    /// Minus the mean of `(x - mean) * g`, divided by the variance.
    tilt: V,
    /// 1 for images that count, else 0.
    counts: V,
}

impl<V: Copy> Back<V> {
    #[inline(always)]
    fn of<S: Simd<V = V>>(self, s: S, deviation: V, g: V) -> V {
        let gx = s.mul(self.outer, s.add(s.add(g, self.offset), s.mul(deviation, self.tilt)));
        s.pick(self.counts, s.splat(0.0), gx, s.splat(0.0))
    }
}
