//! Random scores: the baseline that shows what a layer's density alone is worth.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_data::derive_seed;

use super::{Score, ScoreInput};
use crate::train::TrainError;

/// One uniform draw per weight, from a stream of its layer's own; needs no data.
///
/// The draws do not depend on the masks, so that repeated rounds give nested masks of the same ranking.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Score for Random {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        let draw = |layer: &crate::Layer| {
            let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(input.seed, "random score", &layer.name));
            (0..layer.len()).map(|_| rng.random::<f32>()).collect()
        };
        Ok(input.layers.iter().map(draw).collect())
    }
}
