//! Drop and grow: every so many steps each layer loses its smallest weights and gains as many others.

use sentei_graph::Mask;

use super::StepView;
use crate::granularity::Grouping;
use crate::masks::{Masks, top_k};
use crate::score::Pruner;
use crate::snapshot::values;
use crate::train::TrainError;

/// When weights are exchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchanges {
    /// Steps between two exchanges, at least 1.
    pub every_steps: u64,
    /// First step at which none happens any more: the last part of training keeps its masks.
    pub end: u64,
}

impl Exchanges {
    /// Whether weights are exchanged before `step`; never before the first one.
    pub fn is_due(&self, step: u64) -> bool {
        step > 0 && step < self.end && step.is_multiple_of(self.every_steps)
    }
}

/// Exchanges `fraction` of the kept weights of every layer of the masks in force, or of its groups where `pruner` has
/// groups.
///
/// * `fraction`: of each layer's kept groups, in `[0, 1]`; `round(fraction * kept)` of them are dropped.
/// * `growth`: one score per group of the named layer; the highest among those not kept are grown, whole. A dropped group
///   competes too; one that wins was never away and keeps its values.
///
/// Every layer keeps exactly as many groups as before. N:M has no place here: it fixes the number in each of its groups.
///
/// # Errors
/// [`TrainError::Mask`] when a weight or a growth score is not finite.
pub(super) fn exchange(
    view: &StepView,
    pruner: &Pruner,
    fraction: f64,
    growth: impl Fn(&str, &Grouping) -> Result<Vec<f32>, TrainError>,
) -> Result<Masks, TrainError> {
    let one = |(name, mask): (&str, &Mask)| {
        let groups = pruner.groups(name, mask.len());
        let live = groups.live(mask);
        let kept = live.kept();
        let moved = ((fraction * kept as f64).round() as usize).min(kept);
        if moved == 0 || kept == live.len() {
            return Ok((name.to_string(), mask.clone()));
        }
        let magnitudes: Vec<f32> = values(view.net, name)?.into_iter().map(f32::abs).collect();
        let stays = top_k(name, &groups.means(name, &magnitudes, mask)?, &live, kept - moved)?;
        let free = Mask::from_bits(stays.bits().iter().map(|stays| !stays).collect());
        let grown = top_k(name, &growth(name, &groups)?, &free, moved)?;
        let stays = groups.weights(stays, mask);
        let grown = groups.weights(grown, &Mask::dense(mask.len()));
        let bits = stays.bits().iter().zip(grown.bits()).map(|(a, b)| *a || *b);
        Ok((name.to_string(), Mask::from_bits(bits.collect())))
    };
    view.masks.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_start_after_the_first_step_and_stop_at_the_end() {
        let exchanges = Exchanges { every_steps: 5, end: 20 };
        assert_eq!((0..40).filter(|step| exchanges.is_due(*step)).collect::<Vec<_>>(), [5, 10, 15]);
    }
}
