//! Layers that take every value by itself: activations, sums of two maps, channels times a factor.

mod channels;
mod curve;
mod piecewise;
mod sum;

pub use channels::{bias_gradient, scale_channels, scale_channels_backward};
pub use curve::{Curve, curve, curve_backward};
pub(super) use piecewise::{Bend, with_bend};
pub use piecewise::{Piecewise, activate, activate_backward};
pub use sum::{add, add_assign, add_backward};

/// Values that one task takes.
const TASK: usize = 1 << 13;

/// From where to where task `task` of a slice of `len` goes.
fn part(len: usize, task: usize) -> (usize, usize) {
    (task * TASK, ((task + 1) * TASK).min(len))
}

/// What [`with_bend`] names.
pub(super) mod bends {
    pub(in super::super) use super::piecewise::{Clip, Leaky, Relu, Straight};
}
