//! Activations made of straight pieces that do not cross: their slope shows in the output too.

use super::super::Output;
use super::super::gradient::{Gradient, Sink};
use super::super::planes::fits;
use super::super::simd::{Kernel, Simd, any_isa, run};
use super::{TASK, part};
use crate::team::Team;

/// An activation of straight pieces. At a corner the slope is that of the flatter side; NaN stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Piecewise {
    /// `x`.
    #[default]
    None,
    /// `x` where `x > 0`, else `alpha * x`; ReLU for `alpha == 0`.
    Leaky {
        /// Slope on the negative side.
        alpha: f32,
    },
    /// `min(max(x, min), max)`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound; wins where the two cross.
        max: f32,
    },
}

impl Piecewise {
    /// Whether the slope can be read off the output.
    pub fn slope_shows_in_output(self) -> bool {
        !matches!(self, Self::Leaky { alpha } if alpha < 0.0)
    }
}

/// One [`Piecewise`] as a type, so that a loop is compiled for each.
pub(in super::super) trait Bend: Copy + Sync {
    /// `f(x)`.
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V;
    /// `f'(at) * g`; `at` is `x` or, where the slope shows in it, `f(x)`.
    fn pull<S: Simd>(self, s: S, at: S::V, g: S::V) -> S::V;
}

#[derive(Clone, Copy)]
pub(in super::super) struct Straight;
#[derive(Clone, Copy)]
pub(in super::super) struct Relu;
#[derive(Clone, Copy)]
pub(in super::super) struct Leaky(pub f32);
#[derive(Clone, Copy)]
pub(in super::super) struct Clip(pub f32, pub f32);

impl Bend for Straight {
    #[inline(always)]
    fn value<S: Simd>(self, _: S, x: S::V) -> S::V {
        x
    }

    #[inline(always)]
    fn pull<S: Simd>(self, _: S, _: S::V, g: S::V) -> S::V {
        g
    }
}

impl Bend for Relu {
    /// Not `0 * x`, which would make -0 of a negative number and NaN of an infinite one.
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.pick(zero, x, zero, x)
    }

    #[inline(always)]
    fn pull<S: Simd>(self, s: S, at: S::V, g: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.pick(at, zero, g, zero)
    }
}

impl Bend for Leaky {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.pick(s.splat(0.0), x, s.mul(s.splat(self.0), x), x)
    }

    #[inline(always)]
    fn pull<S: Simd>(self, s: S, at: S::V, g: S::V) -> S::V {
        s.pick(at, s.splat(0.0), g, s.mul(s.splat(self.0), g))
    }
}

impl Bend for Clip {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        let (min, max) = (s.splat(self.0), s.splat(self.1));
        let x = s.pick(min, x, min, x);
        s.pick(x, max, max, x)
    }

    #[inline(always)]
    fn pull<S: Simd>(self, s: S, at: S::V, g: S::V) -> S::V {
        let zero = s.splat(0.0);
        let below = s.pick(s.splat(self.1), at, g, zero);
        s.pick(at, s.splat(self.0), below, zero)
    }
}

/// Evaluates an expression with the [`Bend`] of a [`Piecewise`] in a name.
macro_rules! with_bend {
    ($piecewise:expr, $f:ident => $body:expr) => {{
        use $crate::training::pointwise::bends;
        match $piecewise {
            $crate::training::Piecewise::None => {
                let $f = bends::Straight;
                $body
            }
            $crate::training::Piecewise::Leaky { alpha: 0.0 } => {
                let $f = bends::Relu;
                $body
            }
            $crate::training::Piecewise::Leaky { alpha } => {
                let $f = bends::Leaky(alpha);
                $body
            }
            $crate::training::Piecewise::Clip { min, max } => {
                let $f = bends::Clip(min, max);
                $body
            }
        }
    }};
}

pub(in super::super) use with_bend;

/// `y = f(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn activate(team: &Team, f: Piecewise, x: &[f32], y: &mut [f32]) {
    fits("the output of an activation", y.len(), x.len());
    let y = Output::new(y);
    with_bend!(f, f => run(team, any_isa(), x.len().div_ceil(TASK), &Activate { f, x, y }));
}

/// The gradient of [`activate`]: `f'(at) * gy`.
///
/// * `at`: the input of the activation, or its output where [`Piecewise::slope_shows_in_output`].
///
/// # Panics
/// When the lengths differ.
pub fn activate_backward(team: &Team, f: Piecewise, at: &[f32], gy: &[f32], gx: Gradient<'_>) {
    fits("the gradient of an activation's output", gy.len(), at.len());
    let gx = gx.sink("the gradient of an activation's input", at.len());
    with_bend!(f, f => run(team, any_isa(), at.len().div_ceil(TASK), &Pull { f, at, gy, gx }));
}

struct Activate<'a, F> {
    f: F,
    x: &'a [f32],
    y: Output<'a>,
}

impl<F: Bend> Kernel for Activate<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (from, to) = part(self.x.len(), task);
        // SAFETY: this part belongs to this task alone.
        let y = unsafe { self.y.part(from, to - from) };
        for (y, x) in y.chunks_mut(S::LANES).zip(self.x[from..to].chunks(S::LANES)) {
            s.store_some(y, self.f.value(s, s.load_some(x)));
        }
    }
}

struct Pull<'a, F> {
    f: F,
    at: &'a [f32],
    gy: &'a [f32],
    gx: Sink<'a>,
}

impl<F: Bend> Kernel for Pull<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let (from, to) = part(self.at.len(), task);
        // SAFETY: this part belongs to this task alone.
        let gx = unsafe { self.gx.to.part(from, to - from) };
        let inputs = self.at[from..to].chunks(S::LANES).zip(self.gy[from..to].chunks(S::LANES));
        for (gx, (at, gy)) in gx.chunks_mut(S::LANES).zip(inputs) {
            self.gx.put(s, gx, self.f.pull(s, s.load_some(at), s.load_some(gy)));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::training::testing::{noise, threads};

    /// `f` and its slope, as a reader would write them.
    pub(in super::super) fn plain(f: Piecewise, x: f32) -> (f32, f32) {
        match f {
            Piecewise::None => (x, 1.0),
            Piecewise::Leaky { alpha } if x <= 0.0 => (if x == 0.0 { 0.0 } else { alpha * x }, alpha),
            Piecewise::Leaky { .. } => (x, 1.0),
            Piecewise::Clip { min, max } => (x.max(min).min(max), if x > min && x < max { 1.0 } else { 0.0 }),
        }
    }

    pub(in super::super) const EACH: [Piecewise; 4] = [
        Piecewise::None,
        Piecewise::Leaky { alpha: 0.0 },
        Piecewise::Leaky { alpha: 0.2 },
        Piecewise::Clip { min: -0.3, max: 0.6 },
    ];

    #[test]
    fn values_and_slopes_follow_the_definition_at_any_length() {
        for (f, len) in EACH.iter().flat_map(|f| [1, 15, 16, 37, 2 * TASK + 5].map(|len| (*f, len))) {
            let mut x = noise(len, 3);
            x[0] = 0.0;
            let gy = noise(len, 4);
            for team in threads() {
                let (mut y, mut gx, mut more) = (vec![9.0; len], vec![9.0; len], vec![9.0; len]);
                activate(&team, f, &x, &mut y);
                activate_backward(&team, f, &x, &gy, Gradient::write(&mut gx));
                activate_backward(&team, f, &y, &gy, Gradient::add(&mut more));
                for i in 0..len {
                    let (value, slope) = plain(f, x[i]);
                    assert_eq!(y[i], value, "{f:?} of {}", x[i]);
                    assert_eq!(gx[i], slope * gy[i], "slope of {f:?} at {}", x[i]);
                    assert_eq!(more[i], 9.0 + slope * gy[i], "slope of {f:?} read off {}", y[i]);
                }
            }
        }
    }

    #[test]
    fn nan_stays_and_infinity_does_not_become_nan() {
        let team = Team::new(1, false).unwrap();
        let mut y = [0.0; 3];
        for f in EACH {
            activate(&team, f, &[f32::NAN, f32::NEG_INFINITY, f32::INFINITY], &mut y);
            assert!(y[0].is_nan() && !y[1].is_nan() && !y[2].is_nan(), "{f:?}: {y:?}");
        }
    }
}
