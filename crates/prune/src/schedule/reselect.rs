//! Reselection: the masks follow the hidden weights that SR-STE trains, then stand still.
//!
//! Source: Zhou et al. 2021 (arXiv:2102.04010), which projects anew in every forward pass to the end. That the masks stand
//! still for the last part is a choice made here: only epochs with the final masks can be chosen.

use super::{MaskPolicy, Remask, StepView};
use crate::masks::Masks;
use crate::score::Pruner;
use crate::snapshot::values;
use crate::train::TrainError;

/// Every so many steps the weights to keep are chosen among all hidden weights, kept and covered ones alike.
pub struct Reselect<'a> {
    /// What is kept.
    pub pruner: &'a Pruner<'a>,
    /// Density to keep, in `(0, 1]`.
    pub density: f64,
    /// Steps between two choices, at least 1.
    pub every_steps: u64,
    /// The step of the last choice.
    pub end: u64,
}

impl Reselect<'_> {
    /// Whether the masks are chosen before `step`: at the start, every so many steps, and at the end.
    pub fn is_due(&self, step: u64) -> bool {
        step == self.end || (step < self.end && step.is_multiple_of(self.every_steps))
    }
}

impl MaskPolicy for Reselect<'_> {
    fn reads_gradients(&self, _: u64) -> bool {
        true
    }

    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        if !self.is_due(view.step) {
            return Ok(None);
        }
        let layers = self.pruner.layers;
        let all = |name: &str| match view.optimizer.hidden(name) {
            Some(hidden) => Ok(hidden.to_vec()),
            None => values(view.net, name),
        };
        let weights = layers.iter().map(|l| all(&l.name)).collect::<Result<Vec<_>, _>>()?;
        let uncovered = |(name, mask): (&str, &sentei_graph::Mask)| {
            let takes_part = layers.iter().any(|l| l.name == name);
            (name.to_string(), if takes_part { sentei_graph::Mask::dense(mask.len()) } else { mask.clone() })
        };
        let uncovered: Masks = view.masks.iter().map(uncovered).collect();
        let masks = self.pruner.masks_of(view.net, &weights, &uncovered, self.density)?;
        Ok((masks != *view.masks).then_some(Remask { masks, target_density: self.density }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::score::Magnitude;

    #[test]
    fn choices_come_first_in_steps_and_last_at_the_end() {
        let distribution = Distribution::default();
        let pruner = Pruner::new(&[], &Magnitude, &distribution);
        let policy = Reselect { pruner: &pruner, density: 0.5, every_steps: 4, end: 10 };
        assert_eq!((0..20).filter(|step| policy.is_due(*step)).collect::<Vec<_>>(), [0, 4, 8, 10]);
    }
}
