//! Batch norm over images and pixels, per channel, with an activation and a residual behind it.
//!
//! A task takes some channels of all images: their statistics first, then their outputs. A channel (512 KB for 32x32 pixels and a
//! batch of 128) fits the second-level cache, so memory is read once where two kernels would read it twice; the
//! second walk goes backwards, for channels that fit only in part. Backward alike: the sums, then the gradients.
//!
//! Sums are made in lanes of f32 over 256 pixels at a time, and in f64 over those, by block of images: no thread changes a bit.

mod affine;
mod backward;
mod forward;
mod moments;
#[cfg(test)]
mod tests;

pub use affine::normalise;
pub use backward::norm_backward;
pub use forward::norm_forward;
pub use moments::moments;

use super::planes::{Planes, fits};
use super::pointwise::Piecewise;

/// Pixels whose sums are made in f32: 64 or 128 to each sum, and what follows in f64 costs little beside them.
const CHUNK: usize = 256;

/// What a batch norm is, but for the numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The lengths of input and output.
    pub planes: Planes,
    /// What the result is multiplied with, one per channel.
    pub gamma: &'a [f32],
    /// What is then added, one per channel.
    pub beta: &'a [f32],
    /// What keeps the square root of a variance from 0.
    pub epsilon: f32,
    /// What stands behind it, and behind the residual.
    pub activation: Piecewise,
}

impl Norm<'_> {
    fn check(&self) {
        fits("gamma", self.gamma.len(), self.planes.channels);
        fits("beta", self.beta.len(), self.planes.channels);
    }

    /// `1 / sqrt(variance + epsilon)`.
    fn inverse(&self, variance: f32) -> f32 {
        1.0 / (variance + self.epsilon).sqrt()
    }

    /// Scale and shift of channel `c`.
    fn line(&self, c: usize, mean: f32, variance: f32) -> (f32, f32) {
        let scale = self.gamma[c] * self.inverse(variance);
        (scale, self.beta[c] - mean * scale)
    }
}
