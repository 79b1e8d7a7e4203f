//! The largest value of each window; of equal ones the first in row-major order, and NaN before all others.

use super::super::gradient::{Gradient, Sink};
use super::super::planes::fits;
use super::super::simd::{Kernel, Simd, isa_of, run};
use super::super::{Lanes, Output};
use super::PoolGeometry;
use crate::team::Team;

/// `y = max` of each window; minus infinity for a window that lies in the padding.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn max_pool(team: &Team, lanes: Lanes, geometry: PoolGeometry, x: &[f32], y: &mut [f32]) {
    fits("the input of a pool", x.len(), geometry.planes(lanes, geometry.input).len());
    fits("the output of a pool", y.len(), geometry.planes(lanes, geometry.output).len());
    let kernel = Max { lanes, geometry, x, y: Output::new(y) };
    run(team, isa_of(lanes.lanes), geometry.planes(lanes, geometry.input).plane_tasks(), &kernel);
}

/// The gradient of [`max_pool`]: that of each output goes to the largest input of its window.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn max_pool_backward(team: &Team, lanes: Lanes, geometry: PoolGeometry, x: &[f32], gy: &[f32], gx: Gradient<'_>) {
    fits("the input of a pool", x.len(), geometry.planes(lanes, geometry.input).len());
    fits("the gradient of a pool's output", gy.len(), geometry.planes(lanes, geometry.output).len());
    let gx = gx.sink("the gradient of a pool's input", x.len());
    let kernel = MaxBackward { lanes, geometry, x, gy, gx };
    run(team, isa_of(lanes.lanes), geometry.planes(lanes, geometry.input).plane_tasks(), &kernel);
}

struct Max<'a> {
    lanes: Lanes,
    geometry: PoolGeometry,
    x: &'a [f32],
    y: Output<'a>,
}

impl Kernel for Max<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let g = &self.geometry;
        let (planes, out) = (g.planes(self.lanes, g.input), g.output[0] * g.output[1] * S::LANES);
        for plane in planes.planes_of(task) {
            let x = &self.x[plane * planes.plane()..][..planes.plane()];
            // SAFETY: this plane belongs to this task alone.
            let y = unsafe { self.y.part(plane * out, out) };
            for (oy, y) in y.chunks_exact_mut(g.output[1] * S::LANES).enumerate() {
                let rows = g.span(0, oy);
                for (ox, y) in y.chunks_exact_mut(S::LANES).enumerate() {
                    let columns = g.span(1, ox);
                    let mut best = s.splat(f32::NEG_INFINITY);
                    for row in rows.clone() {
                        let start = row * g.input[1] * S::LANES;
                        let row = &x[start + columns.start * S::LANES..start + columns.end * S::LANES];
                        for x in row.chunks_exact(S::LANES) {
                            let x = s.load(x);
                            // NaN is not larger than anything, and what is there stays when it is NaN
                            best = s.pick_nan(x, s.pick_nan(best, best, x), s.pick(x, best, x, best));
                        }
                    }
                    s.store(y, best);
                }
            }
        }
    }
}

struct MaxBackward<'a> {
    lanes: Lanes,
    geometry: PoolGeometry,
    x: &'a [f32],
    gy: &'a [f32],
    gx: Sink<'a>,
}

impl Kernel for MaxBackward<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let g = &self.geometry;
        let (planes, out) = (g.planes(self.lanes, g.input), g.output[0] * g.output[1] * S::LANES);
        let line = g.input[1] * S::LANES;
        for plane in planes.planes_of(task) {
            let x = &self.x[plane * planes.plane()..][..planes.plane()];
            let gy = &self.gy[plane * out..][..out];
            // SAFETY: this plane belongs to this task alone.
            let gx = unsafe { self.gx.to.part(plane * planes.plane(), planes.plane()) };
            let mut fresh = if self.gx.accumulate { g.input[0] } else { 0 };
            for (oy, gy) in gy.chunks_exact(g.output[1] * S::LANES).enumerate() {
                let rows = g.span(0, oy);
                // rows that no window has reached so far
                if rows.end > fresh {
                    gx[fresh * line..rows.end * line].fill(0.0);
                    fresh = rows.end;
                }
                for (ox, gy) in gy.chunks_exact(S::LANES).enumerate() {
                    let (first, width) = (g.span(1, ox).start * S::LANES, g.span(1, ox).len() * S::LANES);
                    let mut best = s.splat(f32::NEG_INFINITY);
                    // the number of the best tap, which a f32 holds exactly; the first, unless another is larger than -inf
                    let (mut place, mut tap) = (s.splat(0.0), 0.0);
                    for row in rows.clone() {
                        for x in x[row * line + first..][..width].chunks_exact(S::LANES) {
                            let (x, here) = (s.load(x), s.splat(tap));
                            place = s.pick_nan(x, s.pick_nan(best, place, here), s.pick(x, best, here, place));
                            best = s.pick_nan(x, s.pick_nan(best, best, x), s.pick(x, best, x, best));
                            tap += 1.0;
                        }
                    }
                    let (gy, zero, mut tap) = (s.load(gy), s.splat(0.0), 0.0);
                    for row in rows.clone() {
                        for gx in gx[row * line + first..][..width].chunks_exact_mut(S::LANES) {
                            let not_later = s.pick(s.splat(tap + 0.5), place, gy, zero);
                            let here = s.pick(place, s.splat(tap - 0.5), not_later, zero);
                            s.store(gx, s.add(s.load(gx), here));
                            tap += 1.0;
                        }
                    }
                }
            }
            gx[fresh * line..].fill(0.0);
        }
    }
}
