//! Masks that change during training: the hook, and the gradual pruning that uses it.

use candle_core::backprop::GradStore;

use super::Cubic;
use crate::masks::Masks;
use crate::net::Net;
use crate::optim::Optimizer;
use crate::score::Pruner;
use crate::train::TrainError;

/// What a policy may look at before an optimiser step.
pub struct StepView<'a> {
    /// Optimiser steps taken so far in this training.
    pub step: u64,
    /// The network; a policy leaves its weights alone.
    pub net: &'a mut Net,
    /// Gradients of this step's batch; a pruned weight has one too where [`MaskPolicy::reads_gradients`] asks for it.
    pub grads: &'a GradStore,
    /// The optimiser, for weights that it keeps behind those of the network.
    pub optimizer: &'a Optimizer,
    /// Masks in force.
    pub masks: &'a Masks,
}

/// New masks and the density they were made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Remask {
    /// Masks to enforce from now on.
    pub masks: Masks,
    /// Density asked for, in `[0, 1]`.
    pub target_density: f64,
}

/// Decides before each optimiser step whether the masks change.
///
/// An answer depends on the view alone, so that a resumed run repeats it: a policy has no memory of its own.
pub trait MaskPolicy {
    /// New masks, or `None` to go on with the present ones. Weights that return start from 0 with fresh optimiser state,
    /// under SR-STE from their hidden values.
    ///
    /// # Errors
    /// Whatever scoring or selection reports.
    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError>;

    /// Whether gradients of pruned weights are wanted at `step`: to choose by, or because weights may return before the
    /// optimiser moves them. They are left out otherwise.
    fn reads_gradients(&self, step: u64) -> bool;
}

/// Prunes along a [`Cubic`] ramp, every so many steps.
pub struct Gradual<'a> {
    /// Sparsity over steps.
    pub ramp: Cubic,
    /// Steps between two removals, at least 1.
    pub every_steps: u64,
    /// What is removed.
    pub pruner: &'a Pruner<'a>,
}

impl MaskPolicy for Gradual<'_> {
    fn reads_gradients(&self, _: u64) -> bool {
        false
    }

    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        let Some(since) = view.step.checked_sub(self.ramp.start) else { return Ok(None) };
        let last = since == self.ramp.span;
        if since > self.ramp.span || !(last || since.is_multiple_of(self.every_steps)) {
            return Ok(None);
        }
        let target_density = 1.0 - self.ramp.sparsity(view.step);
        let masks = self.pruner.masks(view.net, view.masks, target_density)?;
        Ok(Some(Remask { masks, target_density }))
    }
}
