//! AdamW: Adam with weight decay that does not pass through the moments; L1 is part of the gradient.
//!
//! Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization" (arXiv:1711.05101), algorithm 2.

use super::Step;
use super::factored::Rule;
use super::sgd::sign;
use crate::threads::{CHUNK, for_each};

#[derive(Clone, Copy, Debug)]
pub(super) struct AdamW {
    step: Step,
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// Learning rate over the bias correction of the first moment.
    size: f32,
    /// One over the root of the bias correction of the second moment.
    root: f32,
}

impl AdamW {
    /// `update` counts from 1.
    pub(super) fn new(step: Step, [beta1, beta2]: [f64; 2], eps: f64, update: u64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(update as f64);
        AdamW {
            step,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            size: (f64::from(step.learning_rate) / correction(beta1)) as f32,
            root: (1.0 / correction(beta2).sqrt()) as f32,
        }
    }

    pub(super) fn update(&self, weights: &mut [f32], grads: &[f32], first: &mut [f32], second: &mut [f32]) {
        let state = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK));
        let parts = weights.chunks_mut(CHUNK).zip(grads.chunks(CHUNK)).zip(state);
        for_each(parts.collect(), |((w, g), (m, v))| {
            w.iter_mut().zip(g).zip(m.iter_mut().zip(v)).for_each(|((w, g), (m, v))| {
                (*w, *m, *v) = self.element(*w, *g, *m, *v);
            });
        });
    }

    #[inline(always)]
    fn element(&self, w: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let Step { learning_rate, weight_decay, l1 } = self.step;
        let g = g + l1 * sign(w);
        let m = self.beta1 * m + (1.0 - self.beta1) * g;
        let v = self.beta2 * v + (1.0 - self.beta2) * g * g;
        let decayed = w * (1.0 - learning_rate * weight_decay);
        (decayed - self.size * m / (v.sqrt() * self.root + self.eps), m, v)
    }
}

impl Rule for AdamW {
    fn with(self, step: Step) -> Self {
        AdamW { step, ..self }
    }

    fn step(&self) -> Step {
        self.step
    }

    fn couples_decay(&self) -> bool {
        false
    }

    #[inline(always)]
    fn one(&self, x: f32, g: f32, first: f32, second: f32) -> (f32, f32, f32) {
        self.element(x, g, first, second)
    }
}
