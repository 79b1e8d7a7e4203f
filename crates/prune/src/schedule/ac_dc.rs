//! AC/DC: dense and sparse phases in turns, so that weights removed too early find their way back.
//!
//! Source: Peste, Iofinova, Vladu & Alistarh 2021, "AC/DC: Alternating Compressed/DeCompressed Training" (arXiv:2106.12379).

use super::{MaskPolicy, Remask, StepView};
use crate::layers::Layer;
use crate::masks::Masks;
use crate::score::Pruner;
use crate::train::TrainError;

/// Dense warm-up, then sparse and dense phases of the same length in turns, then sparse to the end.
///
/// Each sparse phase chooses anew among all weights; in a dense phase the removed ones start from 0 with fresh state.
pub struct AcDc<'a> {
    /// What is removed.
    pub pruner: &'a Pruner<'a>,
    /// Density of the sparse phases, in `(0, 1]`.
    pub density: f64,
    /// Steps before the first sparse phase.
    pub warm_up: u64,
    /// Steps of each phase after that, at least 1.
    pub phase: u64,
    /// First step of the last phase, which is sparse.
    pub last: u64,
}

impl AcDc<'_> {
    /// Whether `step` lies in a sparse phase.
    pub fn is_sparse(&self, step: u64) -> bool {
        match step.checked_sub(self.warm_up) {
            _ if step >= self.last => true,
            None => false,
            Some(since) => (since / self.phase).is_multiple_of(2),
        }
    }
}

impl MaskPolicy for AcDc<'_> {
    fn reads_gradients(&self, step: u64) -> bool {
        self.is_sparse(step) != (step > 0 && self.is_sparse(step - 1))
    }

    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        let sparse = self.is_sparse(view.step);
        if sparse == (view.step > 0 && self.is_sparse(view.step - 1)) {
            return Ok(None);
        }
        let layer = |name: &str| self.pruner.layers.iter().find(|l| l.name == name);
        let dense = |(name, mask): (&str, &sentei_graph::Mask)| {
            let all = |l: &Layer| sentei_graph::Mask::dense(l.len());
            (name.to_string(), layer(name).map_or_else(|| mask.clone(), all))
        };
        let dense: Masks = view.masks.iter().map(dense).collect();
        let target_density = if sparse { self.density } else { 1.0 };
        let masks = if sparse { self.pruner.masks(view.net, &dense, self.density)? } else { dense };
        Ok(Some(Remask { masks, target_density }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::score::Magnitude;

    #[test]
    fn phases_alternate_after_the_warm_up_and_end_sparse() {
        let distribution = Distribution::default();
        let pruner = Pruner::new(&[], &Magnitude, &distribution);
        let policy = AcDc { pruner: &pruner, density: 0.1, warm_up: 3, phase: 2, last: 12 };
        let found: String = (0..16).map(|step| if policy.is_sparse(step) { 's' } else { 'd' }).collect();
        assert_eq!(found, "dddssddssddsssss");
        let no_warm_up = AcDc { warm_up: 0, last: 4, ..policy };
        let found: String = (0..6).map(|step| if no_warm_up.is_sparse(step) { 's' } else { 'd' }).collect();
        assert_eq!(found, "ssddss");
    }
}
