//! Score: what matters. A method is one file here; [`Pruner`] joins it with a distribution and selects exactly.

mod config;
mod grasp;
mod images;
mod linear;
mod magnitude;
mod pruner;
mod random;
mod snip;
mod synflow;

use std::sync::Arc;

use candle_core::{DType, Tensor};
use sentei_data::{Dataset, Normalise};

use crate::PruneError;
use crate::layers::Layer;
use crate::masks::Masks;
use crate::net::Net;
use crate::train::TrainError;

pub use config::ScoreConfig;
pub use grasp::Grasp;
pub use images::Images;
pub use magnitude::Magnitude;
pub use pruner::Pruner;
pub use random::Random;
pub use snip::Snip;
pub use synflow::{Synflow, passes_signal};

/// Labelled images for scores that look at gradients; they read the train split.
#[derive(Clone, Copy, Debug)]
pub struct ScoreData<'a> {
    /// The images.
    pub data: &'a Arc<Dataset>,
    /// How pixels become network inputs.
    pub normalise: &'a Normalise,
}

/// What a score may look at.
pub struct ScoreInput<'a> {
    /// The network with the weights in force; a score that moves its weights puts them back.
    pub net: &'a mut Net,
    /// Layers to score, in graph order.
    pub layers: &'a [Layer],
    /// Current weights of each layer, flat; pruned ones are 0.
    pub weights: &'a [Vec<f32>],
    /// Masks in force.
    pub masks: &'a Masks,
    /// Images, if there are any.
    pub data: Option<ScoreData<'a>>,
    /// Seed of everything that the score draws.
    pub seed: u64,
}

/// How much each weight matters.
pub trait Score {
    /// One score per weight of each layer, flat in row-major order; higher means "keep".
    ///
    /// Scores of weights that are already pruned are not looked at.
    ///
    /// # Errors
    /// Whatever the network reports; [`TrainError::NoScoreData`] when the score needs images and got none.
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError>;

    /// Rounds of scoring and removing in which a density is reached; each keeps the same fraction of what is left.
    fn rounds(&self) -> u32 {
        1
    }
}

/// The current value of a parameter.
fn parameter<'a>(net: &'a Net, name: &str) -> Result<&'a Tensor, PruneError> {
    let missing = || PruneError::Missing { kind: "parameter", name: name.into() };
    Ok(net.var(name).ok_or_else(missing)?.var.as_tensor())
}

/// Each parameter times the tensor of its shape that belongs to it.
fn products(net: &Net, names: &[String], others: &[Tensor]) -> Result<Vec<Tensor>, TrainError> {
    let product = |(name, other): (&String, &Tensor)| Ok((parameter(net, name)? * other)?.detach());
    names.iter().zip(others).map(product).collect()
}

/// Scores as they are ranked.
fn on_host(scores: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(scores.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

#[cfg(test)]
mod tests;
