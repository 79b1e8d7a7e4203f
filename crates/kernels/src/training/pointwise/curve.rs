//! Activations whose slope needs the input: the gates of mobile nets.

use super::super::Output;
use super::super::gradient::{Gradient, Sink};
use super::super::planes::fits;
use super::super::tasks;
use super::{TASK, part};
use crate::team::Team;

/// An activation that is computed by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * min(max(x / 6 + 1/2, 0), 1)`.
    HardSwish,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x / (1 + exp(-x))`.
    Silu,
}

impl Curve {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        match self {
            Self::HardSigmoid { alpha, beta } => gate(alpha * x + beta),
            Self::HardSwish => x * gate(x * (1.0 / 6.0) + 0.5),
            Self::Sigmoid => sigmoid(x),
            Self::Silu => x * sigmoid(x),
        }
    }

    #[inline(always)]
    fn slope(self, x: f32) -> f32 {
        match self {
            Self::HardSigmoid { alpha, beta } => gate_slope(alpha * x + beta, alpha),
            Self::HardSwish => {
                let inner = x * (1.0 / 6.0) + 0.5;
                gate(inner) + x * gate_slope(inner, 1.0 / 6.0)
            }
            Self::Sigmoid => {
                let y = sigmoid(x);
                y * (1.0 - y)
            }
            Self::Silu => {
                let gate = sigmoid(x);
                gate + x * gate * (1.0 - gate)
            }
        }
    }
}

#[inline(always)]
fn gate(x: f32) -> f32 {
    let x = if x < 0.0 { 0.0 } else { x };
    if x > 1.0 { 1.0 } else { x }
}

#[inline(always)]
fn gate_slope(x: f32, slope: f32) -> f32 {
    if x > 0.0 && x < 1.0 { slope } else { 0.0 }
}

/// Written with `tanh`, which does not overflow.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    (x * 0.5).tanh() * 0.5 + 0.5
}

/// Calls `$each` with a closure that is compiled for the one curve at hand.
macro_rules! for_curve {
    ($curve:expr, $method:ident, $each:expr) => {
        match $curve {
            Curve::HardSigmoid { alpha, beta } => $each(|x| Curve::HardSigmoid { alpha, beta }.$method(x)),
            Curve::HardSwish => $each(|x| Curve::HardSwish.$method(x)),
            Curve::Sigmoid => $each(|x| Curve::Sigmoid.$method(x)),
            Curve::Silu => $each(|x| Curve::Silu.$method(x)),
        }
    };
}

/// `y = f(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn curve(team: &Team, f: Curve, x: &[f32], y: &mut [f32]) {
    fits("the output of an activation", y.len(), x.len());
    let to = Output::new(y);
    tasks(team, x.len().div_ceil(TASK), |task| {
        let (from, end) = part(x.len(), task);
        // SAFETY: this part belongs to this task alone.
        let y = unsafe { to.part(from, end - from) };
        for_curve!(f, value, |f| map(&x[from..end], y, f));
    });
}

/// The gradient of [`curve`]: `f'(x) * gy`.
///
/// # Panics
/// When the lengths differ.
pub fn curve_backward(team: &Team, f: Curve, x: &[f32], gy: &[f32], gx: Gradient<'_>) {
    fits("the gradient of an activation's output", gy.len(), x.len());
    let Sink { to, accumulate } = gx.sink("the gradient of an activation's input", x.len());
    tasks(team, x.len().div_ceil(TASK), |task| {
        let (from, end) = part(x.len(), task);
        // SAFETY: this part belongs to this task alone.
        let gx = unsafe { to.part(from, end - from) };
        for_curve!(f, slope, |f| pull([&x[from..end], &gy[from..end]], gx, accumulate, f));
    });
}

fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
}

fn pull([x, gy]: [&[f32]; 2], gx: &mut [f32], accumulate: bool, slope: impl Fn(f32) -> f32) {
    let all = gx.iter_mut().zip(x.iter().zip(gy));
    if accumulate {
        all.for_each(|(gx, (x, gy))| *gx += slope(*x) * gy);
    } else {
        all.for_each(|(gx, (x, gy))| *gx = slope(*x) * gy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::testing::{close, noise, threads};

    #[test]
    fn slopes_are_those_of_differences_and_values_those_of_the_definition() {
        let each = [Curve::HardSigmoid { alpha: 0.3, beta: 0.4 }, Curve::HardSwish, Curve::Sigmoid, Curve::Silu];
        for f in each {
            let plain = |x: f64| {
                let gate = |x: f64| x.clamp(0.0, 1.0);
                match f {
                    Curve::HardSigmoid { alpha, beta } => gate(f64::from(alpha) * x + f64::from(beta)),
                    Curve::HardSwish => x * gate(x / 6.0 + 0.5),
                    Curve::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                    Curve::Silu => x / (1.0 + (-x).exp()),
                }
            };
            let x: Vec<f32> = noise(TASK + 77, 5).iter().map(|x| 5.0 * x).collect();
            let gy = noise(x.len(), 6);
            let values: Vec<f64> = x.iter().map(|x| plain((*x).into())).collect();
            let step = 1e-6;
            let slope = |x: f64| (plain(x + step) - plain(x - step)) / (2.0 * step);
            let slopes: Vec<f64> = x.iter().zip(&gy).map(|(x, g)| slope((*x).into()) * f64::from(*g)).collect();
            for team in threads() {
                let (mut y, mut gx) = (vec![9.0; x.len()], vec![9.0; x.len()]);
                curve(&team, f, &x, &mut y);
                curve_backward(&team, f, &x, &gy, Gradient::write(&mut gx));
                close(&format!("{f:?}"), &y, &values, 1e-6);
                close(&format!("slope of {f:?}"), &gx, &slopes, 2e-6);
                let once = gx.clone();
                curve_backward(&team, f, &x, &gy, Gradient::add(&mut gx));
                assert!(gx.iter().zip(once).all(|(twice, once)| *twice == 2.0 * once), "{f:?} adds");
            }
        }
    }
}
