//! Score: what matters. A method is one file here; [`Pruner`] joins it with a distribution and selects exactly.

mod magnitude;

use sentei_graph::Mask;

use crate::config::Method;
use crate::distribution::{Distribution, LayerView};
use crate::layers::Layer;
use crate::masks::{Masks, top_k};
use crate::net::Net;
use crate::snapshot::values;
use crate::train::TrainError;

pub use magnitude::Magnitude;

/// What a score may look at.
pub struct ScoreInput<'a> {
    /// The network; a score that moves its weights puts them back.
    pub net: &'a mut Net,
    /// Layers to score, in graph order.
    pub layers: &'a [Layer],
    /// Current weights of each layer, flat.
    pub weights: &'a [Vec<f32>],
    /// Masks in force.
    pub masks: &'a Masks,
}

/// How much each weight matters.
pub trait Score {
    /// One score per weight of each layer, flat in row-major order; higher means "keep".
    ///
    /// Scores of weights that are already pruned are not looked at.
    ///
    /// # Errors
    /// Whatever the network reports.
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError>;
}

impl Method {
    /// The score of a method.
    pub fn score(self) -> Box<dyn Score> {
        match self {
            Method::Magnitude => Box::new(Magnitude),
        }
    }
}

/// Score and distribution of one set of layers.
pub struct Pruner<'a> {
    /// Layers that compete, in graph order.
    pub layers: &'a [Layer],
    /// What matters.
    pub score: &'a dyn Score,
    /// How much each layer keeps.
    pub distribution: &'a Distribution,
}

impl Pruner<'_> {
    /// Masks of `density` over [`Pruner::layers`]; layers of `masks` outside of them keep the mask they have.
    ///
    /// The result is a subset of `masks`: a pruned weight never returns. The weights themselves are left alone.
    ///
    /// # Errors
    /// [`TrainError::Mask`] when the density cannot be met, for one because a layer would collapse.
    pub fn masks(&self, net: &mut Net, masks: &Masks, density: f64) -> Result<Masks, TrainError> {
        let weights = self.layers.iter().map(|l| values(net, &l.name)).collect::<Result<Vec<_>, _>>()?;
        let scores = self.score.score(ScoreInput { net, layers: self.layers, weights: &weights, masks })?;
        let live: Vec<Mask> =
            self.layers.iter().map(|l| masks.get(&l.name).cloned().unwrap_or_else(|| Mask::dense(l.len()))).collect();
        let views: Vec<LayerView> = (0..self.layers.len())
            .map(|i| LayerView { layer: &self.layers[i], weights: &weights[i], scores: &scores[i], live: &live[i] })
            .collect();
        let counts = self.distribution.counts(&views, density)?;
        let chosen = views.iter().zip(counts).map(|(v, keep)| top_k(&v.layer.name, v.scores, v.live, keep));
        let chosen = chosen.collect::<Result<Vec<Mask>, _>>()?;
        let replace = |(name, mask): (&str, &Mask)| {
            let at = self.layers.iter().position(|l| l.name == name);
            (name.to_string(), at.map_or_else(|| mask.clone(), |i| chosen[i].clone()))
        };
        Ok(masks.iter().map(replace).collect())
    }
}
