//! A scale and a shift per channel: what batch norm is once its statistics are known.

use super::super::Output;
use super::super::planes::{Planes, fits};
use super::super::pointwise::{Bend, Piecewise, with_bend};
use super::super::simd::{Kernel, Simd, isa_of, run};
use crate::team::Team;

/// `y = f(x * scale + shift + residual)`, scale and shift one per channel.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn normalise(
    team: &Team,
    planes: Planes,
    f: Piecewise,
    x: &[f32],
    residual: Option<&[f32]>,
    [scale, shift]: [&[f32]; 2],
    y: &mut [f32],
) {
    check_maps(planes, x, residual, y);
    fits("the scales", scale.len(), planes.channels);
    fits("the shifts", shift.len(), planes.channels);
    let y = Output::new(y);
    with_bend!(f, f => {
        let kernel = Normalise { planes, f, x, residual, scale, shift, y };
        run(team, isa_of(planes.lanes.lanes), planes.plane_tasks(), &kernel);
    });
}

pub(super) fn check_maps(planes: Planes, x: &[f32], residual: Option<&[f32]>, y: &[f32]) {
    fits("the input of a norm", x.len(), planes.len());
    fits("the output of a norm", y.len(), planes.len());
    fits("the residual", residual.map_or(planes.len(), <[f32]>::len), planes.len());
}

struct Normalise<'a, F> {
    planes: Planes,
    f: F,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    scale: &'a [f32],
    shift: &'a [f32],
    y: Output<'a>,
}

impl<F: Bend> Kernel for Normalise<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let len = self.planes.plane();
        for plane in self.planes.planes_of(task) {
            let c = plane % self.planes.channels;
            let x = &self.x[plane * len..][..len];
            let residual = self.residual.map(|residual| &residual[plane * len..][..len]);
            // SAFETY: this plane belongs to this task alone.
            let y = unsafe { self.y.part(plane * len, len) };
            of_plane(s, self.f, x, residual, (self.scale[c], self.shift[c]), y);
        }
    }
}

/// `y = f(x * scale + shift + residual)` of whole vectors.
#[inline(always)]
pub(super) fn of_plane<S: Simd, F: Bend>(
    s: S,
    f: F,
    x: &[f32],
    residual: Option<&[f32]>,
    (scale, shift): (f32, f32),
    y: &mut [f32],
) {
    let (scale, shift) = (s.splat(scale), s.splat(shift));
    let pixels = y.chunks_exact_mut(S::LANES).zip(x.chunks_exact(S::LANES));
    match residual {
        None => {
            for (y, x) in pixels {
                s.store(y, f.value(s, s.add(s.mul(s.load(x), scale), shift)));
            }
        }
        Some(residual) => {
            for ((y, x), residual) in pixels.zip(residual.chunks_exact(S::LANES)) {
                let line = s.add(s.mul(s.load(x), scale), shift);
                s.store(y, f.value(s, s.add(line, s.load(residual))));
            }
        }
    }
}
