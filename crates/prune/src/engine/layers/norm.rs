//! Batch norm with the statistics of the batch, what is added to it and the activation behind.

use candle_core::{Result, Var};
use sentei_kernels::training::{Gradient, Norm as Kernel, Piecewise, Planes, norm_backward, norm_forward};

use super::super::layer::{Context, Kept, Layer, Needs, Target, Trained};
use super::super::profile::Part;
use super::conv::with;
use super::gradient;
use crate::optim::in_place;

/// The parameters and what one step leaves for its backward pass.
pub(super) struct Norm {
    pub planes: Planes,
    pub gamma: Trained,
    pub beta: Trained,
    pub running_mean: Var,
    pub running_variance: Var,
    pub epsilon: f32,
    /// Share of the old running statistics.
    pub momentum: f32,
    pub activation: Piecewise,
    pub residual: bool,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Norm {
    /// * `trained`: gamma and beta.
    /// * `running`: mean and variance.
    /// * `rates`: epsilon and momentum.
    pub fn new(
        planes: Planes,
        [gamma, beta]: [Trained; 2],
        [running_mean, running_variance]: [Var; 2],
        [epsilon, momentum]: [f32; 2],
        (activation, residual): (Piecewise, bool),
    ) -> Norm {
        let (mean, variance) = (vec![0.0; planes.channels], vec![0.0; planes.channels]);
        Norm {
            planes,
            gamma,
            beta,
            running_mean,
            running_variance,
            epsilon,
            momentum,
            activation,
            residual,
            mean,
            variance,
        }
    }

    /// Calls `work` with the kernel's description.
    fn kernel<T>(&self, work: impl FnOnce(Kernel<'_>) -> T) -> Result<T> {
        let (planes, epsilon, activation) = (self.planes, self.epsilon, self.activation);
        with(self.gamma.value.as_tensor(), |gamma| {
            with(self.beta.value.as_tensor(), |beta| work(Kernel { planes, gamma, beta, epsilon, activation }))
        })?
    }
}

/// `running` moves towards `seen`.
fn follow(running: &Var, old: f32, seen: impl Iterator<Item = f32>) -> Result<()> {
    in_place::edit(running, |running| {
        let new = 1.0 - old;
        running.iter_mut().zip(seen).for_each(|(running, seen)| *running = *running * old + seen * new);
    })
    .map_err(candle_core::Error::wrap)
}

impl Layer for Norm {
    fn needs(&self) -> Needs {
        Needs { inputs: true, output: self.residual }
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn trained(&self) -> Vec<&Trained> {
        vec![&self.gamma, &self.beta]
    }

    fn forward(&mut self, cx: &Context, inputs: &[&[f32]], output: &mut [f32]) -> Result<()> {
        let (mut mean, mut variance) = (std::mem::take(&mut self.mean), std::mem::take(&mut self.variance));
        let residual = inputs.get(1).copied();
        self.kernel(|norm| {
            cx.profile.time(cx.row, Part::Forward, "", || {
                norm_forward(cx.team, norm, inputs[0], residual, [&mut mean, &mut variance], output);
            });
        })?;
        let count = self.planes.lanes.batch * self.planes.pixels;
        let unbiased = count as f32 / count.saturating_sub(1).max(1) as f32;
        follow(&self.running_mean, self.momentum, mean.iter().copied())?;
        follow(&self.running_variance, self.momentum, variance.iter().map(|v| v * unbiased))?;
        (self.mean, self.variance) = (mean, variance);
        Ok(())
    }

    fn backward(&mut self, cx: &Context, kept: Kept, gy: &mut [f32], targets: &mut [Option<Target>]) -> Result<()> {
        let (x, y) = (kept.inputs[0], self.residual.then_some(kept.output));
        let to_residual: Option<Gradient> = targets.get_mut(1).and_then(|t| t.as_mut()).map(gradient);
        let statistics = [self.mean.as_slice(), self.variance.as_slice()];
        let mut grads = (vec![0.0; self.planes.channels], vec![0.0; self.planes.channels]);
        self.kernel(|norm| {
            cx.profile.time(cx.row, Part::InputGradient, "", || {
                norm_backward(cx.team, norm, statistics, (x, y), gy, [&mut grads.0, &mut grads.1], to_residual);
            });
        })?;
        for (trained, found) in [(&self.gamma, grads.0), (&self.beta, grads.1)] {
            in_place::edit(&trained.gradient, |g| g.copy_from_slice(&found)).map_err(candle_core::Error::wrap)?;
        }
        Ok(())
    }
}
