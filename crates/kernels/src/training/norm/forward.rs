//! Batch norm of a training step: the statistics of the batch, and what they make of it.

use super::super::Output;
use super::super::planes::fits;
use super::super::pointwise::{Bend, with_bend};
use super::super::simd::{Kernel, Simd, isa_of, run};
use super::affine::{check_maps, of_plane};
use super::{Norm, moments};
use crate::team::Team;

/// Mean and biased variance of every channel of `x`, and `y = f(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual)`.
///
/// The same numbers as [`moments`](super::moments()) and then [`normalise`](super::normalise) with `gamma / sqrt(variance + epsilon)` and
/// `beta - mean * scale`, with one pass over memory less.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn norm_forward(
    team: &Team,
    norm: Norm<'_>,
    x: &[f32],
    residual: Option<&[f32]>,
    [mean, variance]: [&mut [f32]; 2],
    y: &mut [f32],
) {
    norm.check();
    check_maps(norm.planes, x, residual, y);
    fits("the means", mean.len(), norm.planes.channels);
    fits("the variances", variance.len(), norm.planes.channels);
    let (mean, variance, y) = (Output::new(mean), Output::new(variance), Output::new(y));
    with_bend!(norm.activation, f => {
        let kernel = Forward { norm, f, x, residual, mean, variance, y };
        run(team, isa_of(norm.planes.lanes.lanes), norm.planes.channel_tasks(), &kernel);
    });
}

struct Forward<'a, F> {
    norm: Norm<'a>,
    f: F,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    mean: Output<'a>,
    variance: Output<'a>,
    y: Output<'a>,
}

impl<F: Bend> Kernel for Forward<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let planes = self.norm.planes;
        let channels = planes.channels_of(task);
        // SAFETY: these channels belong to this task alone.
        let (mean, variance) = unsafe {
            (self.mean.part(channels.start, channels.len()), self.variance.part(channels.start, channels.len()))
        };
        moments::of_channels(s, planes, task, self.x, mean, variance);
        for block in (0..planes.lanes.blocks()).rev() {
            for c in channels.clone().rev() {
                let (at, len) = (planes.at(block, c), planes.plane());
                let line = self.norm.line(c, mean[c - channels.start], variance[c - channels.start]);
                let residual = self.residual.map(|residual| &residual[at..][..len]);
                // SAFETY: this plane belongs to this task alone.
                let y = unsafe { self.y.part(at, len) };
                of_plane(s, self.f, &self.x[at..][..len], residual, line, y);
            }
        }
    }
}
