//! The mean of each window, over the whole kernel or over what lies inside the input.

use super::super::gradient::{Gradient, Sink};
use super::super::planes::fits;
use super::super::simd::{Kernel, Simd, isa_of, run};
use super::super::{Lanes, Output};
use super::PoolGeometry;
use crate::team::Team;

/// `y = mean` of each window; 0 for a window that lies in the padding.
///
/// * `count_padding`: whether the sum is divided by the size of the kernel, else by the number of inputs in the window.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn average_pool(team: &Team, lanes: Lanes, geometry: PoolGeometry, count_padding: bool, x: &[f32], y: &mut [f32]) {
    fits("the input of a pool", x.len(), geometry.planes(lanes, geometry.input).len());
    fits("the output of a pool", y.len(), geometry.planes(lanes, geometry.output).len());
    let kernel = Average { lanes, geometry, count_padding, x, y: Output::new(y) };
    run(team, isa_of(lanes.lanes), geometry.planes(lanes, geometry.input).plane_tasks(), &kernel);
}

/// The gradient of [`average_pool`]: that of each output spread over its window.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn average_pool_backward(
    team: &Team,
    lanes: Lanes,
    geometry: PoolGeometry,
    count_padding: bool,
    gy: &[f32],
    gx: Gradient<'_>,
) {
    fits("the gradient of a pool's output", gy.len(), geometry.planes(lanes, geometry.output).len());
    let gx = gx.sink("the gradient of a pool's input", geometry.planes(lanes, geometry.input).len());
    let kernel = Spread { lanes, geometry, count_padding, gy, gx };
    run(team, isa_of(lanes.lanes), geometry.planes(lanes, geometry.input).plane_tasks(), &kernel);
}

/// What a window of so many inputs is multiplied with.
fn share(g: &PoolGeometry, count_padding: bool, inside: usize) -> f32 {
    let count = if count_padding { g.kernel[0] * g.kernel[1] } else { inside };
    if count == 0 { 0.0 } else { 1.0 / count as f32 }
}

struct Average<'a> {
    lanes: Lanes,
    geometry: PoolGeometry,
    count_padding: bool,
    x: &'a [f32],
    y: Output<'a>,
}

impl Kernel for Average<'_> {
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
                    let mut sum = s.splat(0.0);
                    for row in rows.clone() {
                        let start = row * g.input[1] * S::LANES;
                        let row = &x[start + columns.start * S::LANES..start + columns.end * S::LANES];
                        for x in row.chunks_exact(S::LANES) {
                            sum = s.add(sum, s.load(x));
                        }
                    }
                    s.store(y, s.mul(sum, s.splat(share(g, self.count_padding, rows.len() * columns.len()))));
                }
            }
        }
    }
}

struct Spread<'a> {
    lanes: Lanes,
    geometry: PoolGeometry,
    count_padding: bool,
    gy: &'a [f32],
    gx: Sink<'a>,
}

impl Kernel for Spread<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let g = &self.geometry;
        let (planes, out) = (g.planes(self.lanes, g.input), g.output[0] * g.output[1] * S::LANES);
        let line = g.input[1] * S::LANES;
        for plane in planes.planes_of(task) {
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
                    let columns = g.span(1, ox);
                    let part = s.mul(s.load(gy), s.splat(share(g, self.count_padding, rows.len() * columns.len())));
                    for row in rows.clone() {
                        let start = row * line;
                        let row = &mut gx[start + columns.start * S::LANES..start + columns.end * S::LANES];
                        for gx in row.chunks_exact_mut(S::LANES) {
                            s.store(gx, s.add(s.load(gx), part));
                        }
                    }
                }
            }
            gx[fresh * line..].fill(0.0);
        }
    }
}
