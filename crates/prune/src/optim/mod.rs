//! Update rules with masked state: one pass over weights, gradients and state per parameter.
//!
//! After [`Optimizer::step`] every masked weight is `+0.0` and so is its state, bit for bit, whatever momentum, moments,
//! weight decay or L1 would have done to it. Each element is computed on its own, so the result does not depend on the
//! number of threads.

mod adamw;
mod in_place;
mod sgd;

use candle_core::backprop::GradStore;
use sentei_graph::Mask;
use serde::{Deserialize, Serialize};

use crate::PruneError;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::masks::Masks;
use crate::net::Param;

/// What an update does to one parameter, besides the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    learning_rate: f32,
    weight_decay: f32,
    l1: f32,
}

/// The state of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    /// Name of the parameter.
    pub name: String,
    /// Momentum, or first moment.
    pub first: Vec<f32>,
    /// Second moment; empty for SGD.
    pub second: Vec<f32>,
    keep: Option<Mask>,
    decays: bool,
    frozen: bool,
}

/// What an optimiser is besides its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Updates made so far.
    pub updates: u64,
}

/// SGD with momentum, or AdamW, over the parameters of one network.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: OptimizerConfig,
    weight_decay: f32,
    l1: f32,
    counters: Counters,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// Fresh state for `params`, with the rule and the penalties of `config`.
    pub fn new(config: &TrainConfig, params: &[Param]) -> Self {
        let two = matches!(config.optimizer, OptimizerConfig::AdamW { .. });
        let slot = |p: &Param| Slot {
            name: p.name.clone(),
            first: vec![0.0; p.var.elem_count()],
            second: vec![0.0; if two { p.var.elem_count() } else { 0 }],
            keep: None,
            decays: config.decay_bias_and_norm || p.role == sentei_graph::Role::Weight,
            frozen: false,
        };
        Optimizer {
            rule: config.optimizer,
            weight_decay: config.weight_decay as f32,
            l1: config.l1 as f32,
            counters: Counters { updates: 0 },
            slots: params.iter().map(slot).collect(),
        }
    }

    /// Enforces `masks` from now on: masked weights and their state become `+0.0`. A weight that returns starts from 0
    /// with fresh state.
    ///
    /// # Errors
    /// [`PruneError`] when a weight cannot be read or written.
    pub fn set_masks(&mut self, params: &[Param], masks: &Masks) -> Result<(), PruneError> {
        for (slot, param) in self.slots.iter_mut().zip(params) {
            slot.keep = masks.get(&slot.name).cloned();
            let Some(keep) = &slot.keep else { continue };
            keep.apply(&mut slot.first);
            if !slot.second.is_empty() {
                keep.apply(&mut slot.second);
            }
            in_place::apply_mask(&param.var, keep)?;
        }
        Ok(())
    }

    /// Leaves the parameters of these names alone from now on, and no others.
    pub fn freeze(&mut self, names: &[String]) {
        for slot in &mut self.slots {
            slot.frozen = names.contains(&slot.name);
        }
    }

    /// One update of every parameter that has a gradient.
    ///
    /// * `params`: the parameters given to [`Optimizer::new`], in the same order.
    /// * `learning_rate`: that of this step.
    ///
    /// # Errors
    /// [`PruneError`] when a gradient cannot be read or a weight not be written.
    pub fn step(&mut self, params: &[Param], grads: &GradStore, learning_rate: f64) -> Result<(), PruneError> {
        self.counters.updates += 1;
        for (slot, param) in self.slots.iter_mut().zip(params) {
            let Some(grad) = grads.get(param.var.as_tensor()) else { continue };
            if slot.frozen {
                continue;
            }
            let (weight_decay, l1) = if slot.decays { (self.weight_decay, self.l1) } else { (0.0, 0.0) };
            let step = Step { learning_rate: learning_rate as f32, weight_decay, l1 };
            let keep = slot.keep.as_ref().map(Mask::bits);
            match self.rule {
                OptimizerConfig::Sgd { momentum, nesterov } => {
                    let sgd = sgd::Sgd { step, momentum: momentum as f32, nesterov };
                    in_place::update(&param.var, grad, |w, g| sgd.update(w, g, &mut slot.first, keep))?;
                }
                OptimizerConfig::AdamW { beta1, beta2, eps } => {
                    let adamw = adamw::AdamW::new(step, [beta1, beta2], eps, self.counters.updates);
                    in_place::update(&param.var, grad, |w, g| {
                        adamw.update(w, g, &mut slot.first, &mut slot.second, keep);
                    })?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes over saved state; slots must be those of the same parameters.
    pub(crate) fn load(&mut self, counters: Counters, state: impl Fn(&str) -> Option<(Vec<f32>, Vec<f32>)>) -> bool {
        self.counters = counters;
        self.slots.iter_mut().all(|slot| {
            let Some((first, second)) = state(&slot.name) else { return false };
            let fits = (first.len(), second.len()) == (slot.first.len(), slot.second.len());
            (slot.first, slot.second) = (first, second);
            fits
        })
    }
}

#[cfg(test)]
mod tests;
