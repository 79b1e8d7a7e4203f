//! Convolutions whose groups have one input channel each: forward, and both gradients.
//!
//! All three walk over rows of vectors, with the sums of a few pixels in registers: what a kernel as wide as three taps reads is read once a row.
//! So a 3x3 layer costs little more than reading its input and writing its output.

mod plane;
mod sweep;
#[cfg(test)]
mod tests;
mod weights;

use super::gradient::{Gradient, Sink};
use super::planes::{Planes, fits};
use super::simd::run;
use super::{ConvGeometry, Lanes, Output};
use crate::team::Team;
use crate::{Isa, KernelError};
use plane::{Sources, Sweeping};
use sweep::Sweep;
use weights::WeightGradient;

/// A depthwise convolution, prepared for one instruction set. Weights are `[O, 1, kh, kw]`, maps as [`Lanes`] says.
#[derive(Debug)]
pub struct Depthwise {
    isa: Isa,
    geometry: ConvGeometry,
    forward: Sweep,
    backward: Sweep,
}

impl Depthwise {
    /// Prepares a layer for `isa`; running it needs a CPU that has the instructions.
    ///
    /// # Errors
    /// What [`ConvGeometry::check`] says, and [`KernelError::Groups`] when a group has more than one input channel.
    pub fn new(isa: Isa, geometry: ConvGeometry) -> Result<Self, KernelError> {
        geometry.check()?;
        let ConvGeometry { groups, in_channels, .. } = geometry;
        if groups != in_channels {
            return Err(KernelError::Groups { what: "input channels", channels: in_channels, groups });
        }
        let (forward, backward) = (Sweep::forward(&geometry), Sweep::backward(&geometry));
        Ok(Self { isa: isa.or_portable(), geometry, forward, backward })
    }

    /// `y = bias + w * x`, taps added by row and column of the kernel.
    ///
    /// # Panics
    /// When a length does not fit, or this CPU lacks the instructions.
    pub fn forward(&self, team: &Team, batch: usize, x: &[f32], weights: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (from, to) = self.check(batch, weights);
        fits("the input of a depthwise layer", x.len(), from.len());
        fits("its output", y.len(), to.len());
        fits("its bias", bias.map_or(to.channels, <[f32]>::len), to.channels);
        let to_sink = Sink { to: Output::new(y), accumulate: false };
        let sources = Sources::Forward { multiplier: self.geometry.group_out(), bias };
        let kernel =
            Sweeping { sweep: &self.forward, geometry: &self.geometry, from, to, source: x, weights, sources, to_sink };
        run(team, self.isa, to.plane_tasks(), &kernel);
    }

    /// The gradient of the input: taps added by output channel of the group, row and column of the kernel.
    ///
    /// # Panics
    /// When a length does not fit, or this CPU lacks the instructions.
    pub fn input_gradient(&self, team: &Team, batch: usize, gy: &[f32], weights: &[f32], gx: Gradient<'_>) {
        let (to, from) = self.check(batch, weights);
        fits("the gradient of a depthwise layer's output", gy.len(), from.len());
        let to_sink = gx.sink("the gradient of its input", to.len());
        let sources = Sources::Backward { multiplier: self.geometry.group_out() };
        let kernel = Sweeping {
            sweep: &self.backward,
            geometry: &self.geometry,
            from,
            to,
            source: gy,
            weights,
            sources,
            to_sink,
        };
        run(team, self.isa, to.plane_tasks(), &kernel);
    }

    /// The gradient of the weights: per weight one vector of sums by block of images, row and column, then its lanes by halves.
    /// `gw` is overwritten.
    ///
    /// # Panics
    /// When a length does not fit, or this CPU lacks the instructions.
    pub fn weight_gradient(&self, team: &Team, batch: usize, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        let (from, to) = self.check(batch, gw);
        fits("the input of a depthwise layer", x.len(), from.len());
        fits("the gradient of its output", gy.len(), to.len());
        let (sweep, geometry) = (&self.forward, &self.geometry);
        let kernel = WeightGradient { sweep, geometry, from, to, x, gy, gw: Output::new(gw) };
        run(team, self.isa, to.channels, &kernel);
    }

    /// The lengths of input and output.
    fn check(&self, batch: usize, weights: &[f32]) -> (Planes, Planes) {
        let (g, lanes) = (&self.geometry, Lanes::new(self.isa, batch));
        fits("the weights of a depthwise layer", weights.len(), g.weights());
        let planes = |channels, pixels| Planes { lanes, channels, pixels };
        (planes(g.in_channels, g.in_plane()), planes(g.out_channels, g.out_plane()))
    }
}
