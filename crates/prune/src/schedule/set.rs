//! SET: the smallest weights are dropped, others are grown at random.
//!
//! Source: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse connectivity"
//! (arXiv:1707.04780), algorithm 1.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_data::derive_seed;

use super::regrow::{Exchanges, exchange};
use super::{MaskPolicy, Remask, StepView};
use crate::score::Pruner;
use crate::train::TrainError;

/// Exchanges `fraction` of each layer's kept weights, at random.
#[derive(Clone, Copy)]
pub struct Set<'a> {
    /// What is exchanged together; its seed is that of what grows, step and layer name join it.
    pub pruner: &'a Pruner<'a>,
    /// When.
    pub exchanges: Exchanges,
    /// Share of the kept weights, in `[0, 1]`.
    pub fraction: f64,
}

impl MaskPolicy for Set<'_> {
    fn reads_gradients(&self, step: u64) -> bool {
        self.exchanges.is_due(step)
    }

    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        if !self.exchanges.is_due(view.step) {
            return Ok(None);
        }
        let purpose = format!("SET growth, step {}", view.step);
        let masks = exchange(&view, self.pruner, self.fraction, |name, groups| {
            let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(self.pruner.seed, &purpose, name));
            Ok((0..groups.len()).map(|_| rng.random::<f32>()).collect())
        })?;
        Ok(Some(Remask { target_density: masks.density(), masks }))
    }
}
