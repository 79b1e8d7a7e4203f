//! SET: the smallest weights are dropped, others are grown at random.
//!
//! Source: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse connectivity"
//! (arXiv:1707.04780), algorithm 1.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_data::derive_seed;

use super::regrow::{Exchanges, exchange};
use super::{MaskPolicy, Remask, StepView};
use crate::train::TrainError;

/// Exchanges `fraction` of each layer's kept weights, at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Set {
    /// When.
    pub exchanges: Exchanges,
    /// Share of the kept weights, in `[0, 1]`.
    pub fraction: f64,
    /// Seed of what grows; step and layer name join it.
    pub seed: u64,
}

impl MaskPolicy for Set {
    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        if !self.exchanges.is_due(view.step) {
            return Ok(None);
        }
        let purpose = format!("SET growth, step {}", view.step);
        let masks = exchange(&view, self.fraction, |name, len| {
            let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(self.seed, &purpose, name));
            Ok((0..len).map(|_| rng.random::<f32>()).collect())
        })?;
        Ok(Some(Remask { target_density: masks.density(), masks }))
    }
}
