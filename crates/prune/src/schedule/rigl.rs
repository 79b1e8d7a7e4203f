//! RigL: the smallest weights are dropped, those with the largest gradient are grown.
//!
//! Source: Evci, Gale, Menick, Castro & Elsen 2020, "Rigging the Lottery" (arXiv:1911.11134), algorithm 1.

use sentei_graph::Mask;

use super::regrow::{Exchanges, exchange};
use super::{MaskPolicy, Remask, StepView};
use crate::net::Net;
use crate::score::Pruner;
use crate::train::TrainError;

/// Exchanges `fraction / 2 * (1 + cos(pi * step / end))` of each layer's kept weights, by gradient.
#[derive(Clone, Copy)]
pub struct Rigl<'a> {
    /// What is exchanged together.
    pub pruner: &'a Pruner<'a>,
    /// When.
    pub exchanges: Exchanges,
    /// Share of the kept weights at the beginning, in `[0, 1]`; it falls to 0 along half a cosine.
    pub fraction: f64,
}

impl Rigl<'_> {
    /// Share of the kept weights that is exchanged before `step`.
    pub fn fraction_at(&self, step: u64) -> f64 {
        let done = step as f64 / self.exchanges.end.max(1) as f64;
        self.fraction / 2.0 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
    }
}

impl MaskPolicy for Rigl<'_> {
    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        if !self.exchanges.is_due(view.step) {
            return Ok(None);
        }
        let masks = exchange(&view, self.pruner, self.fraction_at(view.step), |name, groups| {
            let len = view.masks.get(name).map_or(0, Mask::len);
            let gradient = gradient(view.net, &view, name, len)?;
            Ok(groups.means(name, &gradient, &Mask::dense(len))?.into_owned())
        })?;
        Ok(Some(Remask { target_density: masks.density(), masks }))
    }

    fn reads_gradients(&self, step: u64) -> bool {
        self.exchanges.is_due(step)
    }
}

/// `|gradient|` of every weight of a layer, removed ones included; 0 where the loss does not depend on it.
fn gradient(net: &Net, view: &StepView, name: &str, len: usize) -> Result<Vec<f32>, TrainError> {
    let found = net.var(name).and_then(|param| view.grads.get(param.var.as_tensor()));
    let Some(found) = found else { return Ok(vec![0.0; len]) };
    Ok(found.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::abs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::score::Magnitude;

    #[test]
    fn the_exchanged_share_falls_along_half_a_cosine() {
        let distribution = Distribution::default();
        let pruner = Pruner::new(&[], &Magnitude, &distribution);
        let rigl = Rigl { pruner: &pruner, exchanges: Exchanges { every_steps: 10, end: 100 }, fraction: 0.3 };
        for (step, expected) in [(0, 0.3), (50, 0.15), (100, 0.0), (500, 0.0)] {
            assert!((rigl.fraction_at(step) - expected).abs() < 1e-12, "{step}");
        }
    }
}
