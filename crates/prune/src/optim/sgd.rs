//! Stochastic gradient descent with momentum, plain or Nesterov; L2 and L1 are part of the gradient.

use super::Step;
use super::factored::Rule;
use crate::threads::{CHUNK, for_each};

#[derive(Clone, Copy, Debug)]
pub(super) struct Sgd {
    pub step: Step,
    pub momentum: f32,
    pub nesterov: bool,
}

impl Sgd {
    pub(super) fn update(&self, weights: &mut [f32], grads: &[f32], velocity: &mut [f32]) {
        let parts = weights.chunks_mut(CHUNK).zip(grads.chunks(CHUNK)).zip(velocity.chunks_mut(CHUNK));
        for_each(parts.collect(), |((w, g), v)| {
            w.iter_mut().zip(g).zip(v).for_each(|((w, g), v)| (*w, *v) = self.element(*w, *g, *v));
        });
    }

    #[inline(always)]
    fn element(&self, w: f32, g: f32, v: f32) -> (f32, f32) {
        let Step { learning_rate, weight_decay, l1 } = self.step;
        let g = g + weight_decay * w + l1 * sign(w);
        let v = self.momentum * v + g;
        let direction = if self.nesterov { g + self.momentum * v } else { v };
        (w - learning_rate * direction, v)
    }
}

impl Rule for Sgd {
    fn with(self, step: Step) -> Self {
        Sgd { step, ..self }
    }

    fn step(&self) -> Step {
        self.step
    }

    fn couples_decay(&self) -> bool {
        true
    }

    #[inline(always)]
    fn one(&self, x: f32, g: f32, first: f32, second: f32) -> (f32, f32, f32) {
        let (x, first) = self.element(x, g, first);
        (x, first, second)
    }
}

/// -1, 0 or 1: the L1 penalty does not move a weight that is exactly 0.
#[inline(always)]
pub(super) fn sign(w: f32) -> f32 {
    if w > 0.0 {
        1.0
    } else if w < 0.0 {
        -1.0
    } else {
        0.0
    }
}
