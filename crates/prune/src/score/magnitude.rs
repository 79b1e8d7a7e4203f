//! `|w|`: large weights matter.
//!
//! Source: Han et al. 2015, "Learning both Weights and Connections" (arXiv:1506.02626).

use super::{Score, ScoreInput};
use crate::train::TrainError;

/// Absolute value of the weight; needs no data.
#[derive(Clone, Copy, Debug)]
pub struct Magnitude;

impl Score for Magnitude {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        Ok(input.weights.iter().map(|layer| layer.iter().map(|w| w.abs()).collect()).collect())
    }
}
