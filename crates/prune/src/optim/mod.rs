//! Update rules with masked state: one pass over weights, gradients and state per parameter.
//!
//! After [`Optimizer::step`] every masked weight is `+0.0` and so is its state, bit for bit, whatever momentum, moments,
//! weight decay or L1 would have done to it; under SR-STE the weight is, and its state lives on with the hidden weight. Each element
//! is computed on its own, so the result does not depend on the number of threads.

mod adamw;
mod factored;
mod hidden;
pub(crate) mod in_place;
pub(crate) mod kept;
mod sgd;

use std::borrow::Cow;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use sentei_graph::Mask;
use serde::{Deserialize, Serialize};

use crate::PruneError;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::masks::Masks;
use crate::net::Param;
use crate::parameterisation::{Alpha, FactorDecay, Parameterisation, calibrate};

use factored::{Factors, Rule};

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
    /// Momentum, or first moment; that of the first factor under Sign-In.
    first: Vec<f32>,
    /// Second moment; empty for SGD.
    second: Vec<f32>,
    two_moments: bool,
    /// How many weights are kept before each chunk, where `first` and `second` have nothing but kept weights.
    starts: Option<Vec<usize>>,
    /// What is trained in place of the parameter, under Sign-In.
    pub factors: Option<Factors>,
    /// What is trained behind the parameter, masked or not, under SR-STE.
    pub hidden: Option<Vec<f32>>,
    is_weight: bool,
    keep: Option<Mask>,
    decays: bool,
    frozen: bool,
}

/// What an optimiser is besides its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Updates made so far.
    pub updates: u64,
    /// HAM's strength once it is known; as bits, because JSON numbers may lose the last one.
    pub ham_alpha: Option<u64>,
}

/// SGD with momentum, or AdamW, over the parameters of one network.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: OptimizerConfig,
    parameterisation: Parameterisation,
    peak_learning_rate: f64,
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
            two_moments: two,
            starts: None,
            factors: None,
            hidden: None,
            is_weight: p.role == sentei_graph::Role::Weight,
            keep: None,
            decays: config.decay_bias_and_norm || p.role == sentei_graph::Role::Weight,
            frozen: false,
        };
        Optimizer {
            rule: config.optimizer,
            parameterisation: Parameterisation::Plain,
            peak_learning_rate: config.learning_rate,
            weight_decay: config.weight_decay as f32,
            l1: config.l1 as f32,
            counters: Counters { updates: 0, ham_alpha: None },
            slots: params.iter().map(slot).collect(),
        }
    }

    /// Trains the weights of convolutions and linear layers as `how` says from now on, frozen ones excepted.
    ///
    /// Under Sign-In each weight becomes the product of its factors, which differs from it by rounding.
    ///
    /// # Errors
    /// [`PruneError`] when a weight cannot be read or written.
    pub fn parameterise(&mut self, how: Parameterisation, params: &[Param]) -> Result<(), PruneError> {
        self.parameterisation = how;
        for (slot, param) in self.slots.iter_mut().zip(params) {
            (slot.factors, slot.hidden) = (None, None);
            if !slot.is_weight || slot.frozen {
                continue;
            }
            match how {
                Parameterisation::Plain | Parameterisation::Ham(_) => {}
                Parameterisation::SignIn(settings) => in_place::edit(&param.var, |theta| {
                    let factors = Factors::of(theta, settings.beta, !slot.second.is_empty());
                    factors.merge(theta);
                    slot.factors = Some(factors);
                })?,
                Parameterisation::SrSte(_) => slot.hidden = Some(param.var.flatten_all()?.to_vec1::<f32>()?),
            }
        }
        Ok(())
    }

    /// What is due before `epoch` (from 0) of `epochs`: Sign-In balances its factors anew in some of them.
    ///
    /// # Errors
    /// [`PruneError`] when a weight cannot be written.
    pub fn start_epoch(&mut self, params: &[Param], epoch: u64, epochs: u64) -> Result<(), PruneError> {
        let Parameterisation::SignIn(settings) = self.parameterisation else { return Ok(()) };
        if !settings.resets_before(epoch, epochs) {
            return Ok(());
        }
        for (slot, param) in self.slots.iter_mut().zip(params) {
            slot.reset_factors(&settings);
            if let Some(factors) = &slot.factors {
                in_place::edit(&param.var, |theta| factors.merge(theta))?;
            }
        }
        Ok(())
    }

    /// Enforces `masks` from now on: masked weights and their state become `+0.0`. A weight that returns starts from 0
    /// with fresh state. Under SR-STE a mask only covers: hidden weights and state stay, and a weight returns with both.
    ///
    /// # Errors
    /// [`PruneError`] when a weight cannot be read or written.
    pub fn set_masks(&mut self, params: &[Param], masks: &Masks) -> Result<(), PruneError> {
        for (slot, param) in self.slots.iter_mut().zip(params) {
            slot.spread();
            // a mask that removes nothing is none
            let keep = masks.get(&slot.name).filter(|mask| mask.kept() < mask.len()).cloned();
            let before = std::mem::replace(&mut slot.keep, keep);
            if let Parameterisation::SignIn(settings) = self.parameterisation {
                slot.mask_factors(before.as_ref(), settings.beta);
            }
            if let Some(hidden) = &slot.hidden {
                let keep = slot.keep.as_ref().map(Mask::bits);
                in_place::edit(&param.var, |theta| hidden::project(hidden, keep, theta))?;
                continue;
            }
            let Some(keep) = &slot.keep else { continue };
            in_place::apply_mask(&param.var, keep)?;
            slot.gather();
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
        let ham_alpha = self.ham_alpha(params, grads)?;
        let decay = match self.parameterisation {
            Parameterisation::SignIn(settings) => settings.decay,
            _ => FactorDecay::default(),
        };
        let lambda =
            if let Parameterisation::SrSte(settings) = self.parameterisation { settings.lambda } else { 0.0 } as f32;
        for (slot, param) in self.slots.iter_mut().zip(params) {
            let Some(grad) = grads.get(param.var.as_tensor()) else { continue };
            if slot.frozen {
                continue;
            }
            let (weight_decay, l1) = if slot.decays { (self.weight_decay, self.l1) } else { (0.0, 0.0) };
            let step = Step { learning_rate: learning_rate as f32, weight_decay, l1 };
            match self.rule {
                OptimizerConfig::Sgd { momentum, nesterov } => {
                    let sgd = sgd::Sgd { step, momentum: momentum as f32, nesterov };
                    slot.update(param, grad, (sgd, decay, lambda), |w, g, first, _| sgd.update(w, g, first))?;
                }
                OptimizerConfig::AdamW { beta1, beta2, eps } => {
                    let adamw = adamw::AdamW::new(step, [beta1, beta2], eps, self.counters.updates);
                    slot.update(param, grad, (adamw, decay, lambda), |w, g, m, v| adamw.update(w, g, m, v))?;
                }
            }
            if let (Parameterisation::Ham(ham), Some(alpha), true) = (self.parameterisation, ham_alpha, slot.is_weight)
            {
                in_place::update(&param.var, grad, |w, g| {
                    ham.half_step(w, &kept::spread(g, slot.keep.as_ref()), learning_rate, alpha);
                })?;
            }
        }
        Ok(())
    }

    /// The strength of HAM, found at the first step that has gradients; `None` without HAM.
    fn ham_alpha(&mut self, params: &[Param], grads: &GradStore) -> Result<Option<f64>, PruneError> {
        let Parameterisation::Ham(ham) = self.parameterisation else { return Ok(None) };
        if let Alpha::Fixed(alpha) = ham.alpha {
            return Ok(Some(alpha));
        }
        if self.counters.ham_alpha.is_none() {
            let mut magnitudes = Vec::new();
            for (slot, param) in self.slots.iter().zip(params).filter(|(s, _)| s.is_weight && !s.frozen) {
                let Some(grad) = grads.get(param.var.as_tensor()) else { continue };
                let grad = grad.flatten_all()?.to_vec1::<f32>()?;
                let kept = match &slot.keep {
                    Some(keep) if grad.len() == keep.len() => kept::of_kept(&grad, keep),
                    _ => grad,
                };
                magnitudes.extend(kept.iter().map(|g| g.abs()));
            }
            self.counters.ham_alpha = calibrate(magnitudes, self.peak_learning_rate).map(f64::to_bits);
        }
        Ok(self.counters.ham_alpha.map(f64::from_bits))
    }

    /// The weights behind parameter `name` under SR-STE, covered ones included; `None` where the network's own are all.
    pub fn hidden(&self, name: &str) -> Option<&[f32]> {
        self.slots.iter().find(|slot| slot.name == name)?.hidden.as_deref()
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes over saved state, by group and parameter; slots must be those of the same parameters, parameterised alike.
    pub(crate) fn load(&mut self, counters: Counters, state: impl Fn(&str, &str) -> Option<Vec<f32>>) -> bool {
        self.counters = counters;
        self.slots.iter_mut().all(|slot| {
            let name = slot.name.clone();
            slot.spread();
            let fits = slot.state_mut().into_iter().all(|(group, values)| match state(group, &name) {
                Some(saved) if saved.len() == values.len() => {
                    *values = saved;
                    true
                }
                _ => false,
            });
            if slot.keep.is_some() {
                slot.gather();
            }
            fits
        })
    }
}

impl Slot {
    /// One step of a rule; `whole` takes it with all weights of a parameter, their gradients and their state.
    fn update(
        &mut self,
        param: &Param,
        grad: &Tensor,
        (rule, decay, lambda): (impl Rule, FactorDecay, f32),
        whole: impl Fn(&mut [f32], &[f32], &mut [f32], &mut [f32]),
    ) -> Result<(), PruneError> {
        let keep = self.keep.as_ref();
        let bits = keep.map(Mask::bits);
        let (first, second) = (&mut self.first, &mut self.second);
        in_place::update(&param.var, grad, |w, g| match (&mut self.hidden, &mut self.factors, &self.starts) {
            (Some(covered), ..) => {
                let pulled = hidden::pull(covered, g, bits, lambda);
                whole(covered, &pulled, first, second);
                hidden::project(covered, bits, w);
            }
            (_, Some(factors), _) => {
                factored::update(rule, decay, (first, second, factors), w, &kept::spread(g, keep), bits);
            }
            (.., Some(starts)) => kept::update(rule, w, g, [first, second], (bits.unwrap_or_default(), starts)),
            _ => whole(w, g, first, second),
        })
    }

    /// State of kept weights alone from now on, unless something else than the weights is trained.
    fn gather(&mut self) {
        let Some(keep) = self.keep.as_ref().filter(|_| self.factors.is_none() && self.hidden.is_none()) else {
            return self.clear_masked();
        };
        self.starts = Some(kept::starts(keep));
        self.first = kept::of_kept(&self.first, keep);
        if self.two_moments {
            self.second = kept::of_kept(&self.second, keep);
        }
    }

    /// State of all weights again; a weight that was removed has none.
    fn spread(&mut self) {
        let Some(keep) = self.keep.as_ref().filter(|_| self.starts.is_some()) else { return };
        self.first = kept::of_all(&self.first, keep);
        if self.two_moments {
            self.second = kept::of_all(&self.second, keep);
        }
        self.starts = None;
    }

    fn clear_masked(&mut self) {
        let Some(keep) = &self.keep else { return };
        keep.apply(&mut self.first);
        if self.two_moments {
            keep.apply(&mut self.second);
        }
    }

    /// Everything that a checkpoint keeps, by group, to be written; the state is that of all weights.
    fn state_mut(&mut self) -> Vec<(&'static str, &mut Vec<f32>)> {
        let mut state = vec![("first_moment", &mut self.first), ("second_moment", &mut self.second)];
        if let Some(Factors { m, w, first, second }) = &mut self.factors {
            state.extend([("factor_m", m), ("factor_w", w)]);
            state.extend([("factor_first_moment", first), ("factor_second_moment", second)]);
        }
        state.extend(self.hidden.as_mut().map(|hidden| ("hidden", hidden)));
        state
    }

    /// Everything that a checkpoint keeps, by group: a number per weight, `+0.0` for removed ones.
    pub(crate) fn state(&self) -> Vec<(&'static str, Cow<'_, [f32]>)> {
        let keep = self.keep.as_ref().filter(|_| self.starts.is_some());
        let mut state = vec![
            ("first_moment", kept::spread(&self.first, keep)),
            ("second_moment", kept::spread(&self.second, keep.filter(|_| self.two_moments))),
        ];
        if let Some(Factors { m, w, first, second }) = &self.factors {
            let named =
                [("factor_m", m), ("factor_w", w), ("factor_first_moment", first), ("factor_second_moment", second)];
            state.extend(named.map(|(name, values)| (name, Cow::Borrowed(&values[..]))));
        }
        state.extend(self.hidden.as_ref().map(|hidden| ("hidden", Cow::Borrowed(&hidden[..]))));
        state
    }
}

#[cfg(test)]
mod factored_tests;
#[cfg(test)]
mod tests;
