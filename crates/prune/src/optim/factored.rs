//! A weight as the product of two factors: their state, one fused update of both, masks and resets.

use sentei_graph::Mask;

use super::sgd::sign;
use super::{Slot, Step};
use crate::parameterisation::{FactorDecay, ResetMomentum, SignIn, split_f32};
use crate::threads::{CHUNK, for_each};

/// The factors of one parameter and the state of the second one; that of the first is in the slot itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factors {
    pub m: Vec<f32>,
    pub w: Vec<f32>,
    /// Momentum or first moment of `w`.
    pub first: Vec<f32>,
    /// Second moment of `w`; empty for SGD.
    pub second: Vec<f32>,
}

/// What a rule does to one number, given its gradient and its state; a rule without second moments leaves them alone.
pub(super) trait Rule: Copy + Sync {
    /// The same rule with other penalties.
    fn with(self, step: Step) -> Self;
    fn step(&self) -> Step;
    /// Whether weight decay is part of the gradient.
    fn couples_decay(&self) -> bool;
    fn one(&self, x: f32, g: f32, first: f32, second: f32) -> (f32, f32, f32);
}

/// The same stretch of everything that belongs to one parameter.
struct Part<'a> {
    theta: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [f32],
    w: &'a mut [f32],
    first: [&'a mut [f32]; 2],
    second: [&'a mut [f32]; 2],
    keep: Option<&'a [bool]>,
}

impl Factors {
    /// Splits every weight of `theta`; `second` says whether the rule has second moments.
    pub(super) fn of(theta: &[f32], beta: f64, second: bool) -> Factors {
        let (m, w) = theta.iter().map(|t| split_f32(*t, beta)).unzip();
        Factors { m, w, first: vec![0.0; theta.len()], second: vec![0.0; if second { theta.len() } else { 0 }] }
    }

    /// Writes the product to `theta`.
    pub(super) fn merge(&self, theta: &mut [f32]) {
        for ((theta, m), w) in theta.iter_mut().zip(&self.m).zip(&self.w) {
            *theta = product(*m, *w);
        }
    }
}

/// Never `-0.0`.
#[inline(always)]
fn product(m: f32, w: f32) -> f32 {
    m * w + 0.0
}

/// One step of `rule` on both factors from the gradient of their product; `theta` becomes the new product.
///
/// L1 acts on the product, weight decay on what `decay` says, each once.
pub(super) fn update(
    rule: impl Rule,
    decay: FactorDecay,
    slot: (&mut [f32], &mut [f32], &mut Factors),
    theta: &mut [f32],
    grads: &[f32],
    keep: Option<&[bool]>,
) {
    let (m_first, m_second, factors) = slot;
    let Step { learning_rate, weight_decay, l1 } = rule.step();
    let on_product = decay == FactorDecay::Product;
    let coupled = if on_product && rule.couples_decay() { weight_decay } else { 0.0 };
    let decoupled = if on_product && !rule.couples_decay() { learning_rate * weight_decay } else { 0.0 };
    let on_factors = if on_product { 0.0 } else { weight_decay };
    let rule = rule.with(Step { learning_rate, weight_decay: on_factors, l1: 0.0 });
    let mut whole = Part {
        theta,
        grads,
        m: &mut factors.m,
        w: &mut factors.w,
        first: [m_first, &mut factors.first],
        second: [m_second, &mut factors.second],
        keep,
    };
    let mut parts = Vec::new();
    while !whole.theta.is_empty() {
        parts.push(whole.take(CHUNK));
    }
    for_each(parts, |part| {
        let Part { theta, grads, m, w, first: [m_first, w_first], second: [m_second, w_second], keep } = part;
        let at = |state: &[f32], i: usize| state.get(i).copied().unwrap_or(0.0);
        let put = |state: &mut [f32], i: usize, value: f32| {
            if let Some(place) = state.get_mut(i) {
                *place = value;
            }
        };
        for i in 0..theta.len() {
            if keep.is_some_and(|keep| !keep[i]) {
                (theta[i], m[i], w[i], m_first[i], w_first[i]) = (0.0, 0.0, 0.0, 0.0, 0.0);
                put(m_second, i, 0.0);
                put(w_second, i, 0.0);
                continue;
            }
            let (old_m, old_w) = (m[i], w[i]);
            let old = product(old_m, old_w);
            let g = grads[i] + l1 * sign(old) + coupled * old;
            let (new_m, first, second) = rule.one(old_m, old_w * g, m_first[i], at(m_second, i));
            m_first[i] = first;
            put(m_second, i, second);
            let (new_w, first, second) = rule.one(old_w, old_m * g, w_first[i], at(w_second, i));
            w_first[i] = first;
            put(w_second, i, second);
            (m[i], w[i]) = (new_m, new_w);
            if decoupled > 0.0 {
                (m[i], w[i]) = shrink(new_m, new_w, decoupled);
            }
            theta[i] = product(m[i], w[i]);
        }
    });
}

/// Takes about `share` of the product away along the curve on which `m^2 - w^2` stays.
#[inline(always)]
fn shrink(m: f32, w: f32, share: f32) -> (f32, f32) {
    let scale = m * m + w * w;
    let step = if scale > 0.0 { share * m * w / scale } else { 0.0 };
    (m - step * w, w - step * m)
}

impl<'a> Part<'a> {
    /// Cuts the first `length` elements off.
    fn take(&mut self, length: usize) -> Part<'a> {
        fn cut<'a>(from: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
            let length = length.min(from.len());
            from.split_off_mut(..length).expect("not longer than the slice")
        }
        let length = length.min(self.theta.len());
        let [m_first, w_first] = &mut self.first;
        let [m_second, w_second] = &mut self.second;
        Part {
            theta: cut(&mut self.theta, length),
            grads: self.grads.split_off(..length).expect("as long as the weights"),
            m: cut(&mut self.m, length),
            w: cut(&mut self.w, length),
            first: [cut(m_first, length), cut(w_first, length)],
            second: [cut(m_second, length), cut(w_second, length)],
            keep: self.keep.as_mut().map(|keep| keep.split_off(..length).expect("as long as the weights")),
        }
    }
}

impl Slot {
    /// Factors of masked weights and their state become 0; a weight that `before` removed and that is kept now starts at
    /// the balanced split of 0.
    pub(super) fn mask_factors(&mut self, before: Option<&Mask>, beta: f64) {
        let Some(factors) = &mut self.factors else { return };
        for i in 0..factors.m.len() {
            let kept = self.keep.as_ref().is_none_or(|mask| mask.bits()[i]);
            let returns = kept && before.is_some_and(|mask| !mask.bits()[i]);
            if !kept || returns {
                factors.m[i] = if kept { beta.sqrt() as f32 } else { 0.0 };
                factors.w[i] = 0.0;
                let states = [&mut self.first, &mut self.second, &mut factors.first, &mut factors.second];
                states.into_iter().filter_map(|state| state.get_mut(i)).for_each(|value| *value = 0.0);
            }
        }
    }

    /// Splits the kept weights anew and treats momentum as `settings` say.
    pub(super) fn reset_factors(&mut self, settings: &SignIn) {
        let Some(factors) = &mut self.factors else { return };
        let two = !self.second.is_empty();
        for i in 0..factors.m.len() {
            if self.keep.as_ref().is_some_and(|mask| !mask.bits()[i]) {
                continue;
            }
            let (m, w) = (factors.m[i], factors.w[i]);
            let (new_m, new_w) = split_f32(product(m, w), settings.beta);
            (factors.m[i], factors.w[i]) = (new_m, new_w);
            let (old_scale, new_scale) = (m * m + w * w, new_m * new_m + new_w * new_w);
            match settings.momentum {
                ResetMomentum::Keep => {}
                ResetMomentum::Transform if old_scale > 0.0 => {
                    let toward = m * factors.first[i] + w * self.first[i];
                    let shared = toward / if two { old_scale } else { new_scale };
                    (self.first[i], factors.first[i]) = (new_w * shared, new_m * shared);
                    if two {
                        let square = (self.second[i] + factors.second[i]) / old_scale;
                        (self.second[i], factors.second[i]) = (new_w * new_w * square, new_m * new_m * square);
                    }
                }
                ResetMomentum::Zero | ResetMomentum::Transform => {
                    (self.first[i], factors.first[i]) = (0.0, 0.0);
                    if two {
                        (self.second[i], factors.second[i]) = (0.0, 0.0);
                    }
                }
            }
        }
    }
}
