//! Joins a score with a granularity and a distribution: the masks of a density, exactly counted.

use candle_core::Tensor;
use sentei_graph::Mask;

use super::{Score, ScoreData, ScoreInput};
use crate::distribution::{Collapse, Distribution, LayerView};
use crate::granularity::{Granularity, Grouping, n_m};
use crate::layers::Layer;
use crate::masks::{MaskError, Masks, top_k};
use crate::net::Net;
use crate::snapshot::values;
use crate::train::TrainError;

/// Score, granularity and distribution of one set of layers.
#[derive(Clone, Copy)]
pub struct Pruner<'a> {
    /// Layers that compete, in graph order.
    pub layers: &'a [Layer],
    /// What matters.
    pub score: &'a dyn Score,
    /// How much each layer keeps.
    pub distribution: &'a Distribution,
    /// What is removed together.
    pub granularity: Granularity,
    /// What happens when a layer would keep nothing.
    pub collapse: Collapse,
    /// Images for scores that need them.
    pub data: Option<ScoreData<'a>>,
    /// Seed of everything that the score draws.
    pub seed: u64,
}

impl<'a> Pruner<'a> {
    /// A pruner of single weights that refuses layer collapse, without data and with seed 0.
    pub fn new(layers: &'a [Layer], score: &'a dyn Score, distribution: &'a Distribution) -> Self {
        let (granularity, collapse) = (Granularity::Unstructured, Collapse::Refuse);
        Pruner { layers, score, distribution, granularity, collapse, data: None, seed: 0 }
    }

    /// What is kept or removed as one in the layer of that name, which has `weights` weights.
    pub fn groups(&self, name: &str, weights: usize) -> Grouping {
        let layer = self.layers.iter().find(|l| l.name == name);
        layer.map_or(Grouping::single(weights), |l| self.granularity.groups(l))
    }

    /// Masks of `density` over [`Pruner::layers`]; layers of `masks` outside of them keep the mask they have.
    ///
    /// The result is a subset of `masks`: a pruned weight never returns. The weights are as before afterwards; between
    /// the rounds of [`Score::rounds`] those that were removed are 0. The density of round `k` of `n` is
    /// `from * (density / from)^(k/n)`, with `from` the density that `masks` has over the layers.
    ///
    /// Blocks are counted as a whole: the density is that of blocks. N:M keeps what it says, or more on the way there
    /// ([`n_m::kept_at`]); the distribution is not asked then.
    ///
    /// # Errors
    /// [`TrainError::Mask`] when the density cannot be met, for one because a layer would collapse and that is refused.
    pub fn masks(&self, net: &mut Net, masks: &Masks, density: f64) -> Result<Masks, TrainError> {
        let start = self.layers.iter().map(|l| values(net, &l.name)).collect::<Result<Vec<_>, _>>()?;
        let found = self.rounds(net, &start, masks, density);
        if self.score.rounds() > 1 {
            self.put(net, &start)?;
        }
        found
    }

    /// As [`Pruner::masks`], for weights that the network does not hold: SR-STE's hidden ones.
    ///
    /// * `weights`: values of each of [`Pruner::layers`]. The score must go by them alone, in one round, as magnitude does.
    ///
    /// # Errors
    /// As [`Pruner::masks`].
    pub(crate) fn masks_of(
        &self,
        net: &mut Net,
        weights: &[Vec<f32>],
        masks: &Masks,
        density: f64,
    ) -> Result<Masks, TrainError> {
        self.rounds(net, weights, masks, density)
    }

    fn rounds(&self, net: &mut Net, start: &[Vec<f32>], masks: &Masks, density: f64) -> Result<Masks, TrainError> {
        let live = |masks: &Masks| -> Vec<Mask> {
            let of = |l: &Layer| masks.get(&l.name).cloned().unwrap_or_else(|| Mask::dense(l.len()));
            self.layers.iter().map(of).collect()
        };
        let total: usize = self.layers.iter().map(Layer::len).sum();
        let from = live(masks).iter().map(Mask::kept).sum::<usize>() as f64 / total.max(1) as f64;
        // A threshold chooses the density itself; several rounds would apply it several times.
        let once = density >= from || matches!(self.distribution, Distribution::StdThreshold { .. });
        let rounds = if once { 1 } else { self.score.rounds().max(1) };
        let mut masks = masks.clone();
        let mut weights = start.to_vec();
        for round in 1..=rounds {
            let last = round == rounds;
            let power = f64::from(round) / f64::from(rounds);
            let density = if last { density } else { from * (density / from).powf(power) };
            let live = live(&masks);
            let chosen = self.choose(net, &weights, &masks, &live, density)?;
            let replace = |(name, mask): (&str, &Mask)| {
                let at = self.layers.iter().position(|l| l.name == name);
                (name.to_string(), at.map_or_else(|| mask.clone(), |i| chosen[i].clone()))
            };
            masks = masks.iter().map(replace).collect();
            if !last {
                chosen.iter().zip(&mut weights).for_each(|(mask, w)| mask.apply(w));
                self.put(net, &weights)?;
            }
        }
        Ok(masks)
    }

    fn choose(
        &self,
        net: &mut Net,
        weights: &[Vec<f32>],
        masks: &Masks,
        live: &[Mask],
        density: f64,
    ) -> Result<Vec<Mask>, TrainError> {
        let (data, seed) = (self.data, self.seed);
        let scores = self.score.score(ScoreInput { net, layers: self.layers, weights, masks, data, seed })?;
        if let Granularity::NM { n, m } = self.granularity {
            let keep = n_m::kept_at(density, n, m);
            let chosen = (0..self.layers.len()).map(|i| n_m::select(&self.layers[i], &scores[i], &live[i], keep, m));
            return Ok(chosen.collect::<Result<Vec<Mask>, _>>()?);
        }
        let view = |i: usize| {
            let (layer, mask) = (&self.layers[i], &live[i]);
            let groups = self.granularity.groups(layer);
            let scores = groups.means(&layer.name, &scores[i], mask)?;
            Ok(LayerView { layer, weights: &weights[i], mask, groups, scores, live: groups.live(mask) })
        };
        let views = (0..self.layers.len()).map(view).collect::<Result<Vec<LayerView>, MaskError>>()?;
        let counts = match self.collapse {
            Collapse::Refuse => self.distribution.counts(&views, density)?,
            Collapse::Allow => self.distribution.counts_with_collapse(&views, density)?,
        };
        let chosen = |(view, keep): (&LayerView, usize)| {
            let kept = top_k(&view.layer.name, &view.scores, &view.live, keep)?;
            Ok(view.groups.weights(kept, view.mask))
        };
        Ok(views.iter().zip(counts).map(chosen).collect::<Result<Vec<Mask>, MaskError>>()?)
    }

    fn put(&self, net: &mut Net, weights: &[Vec<f32>]) -> Result<(), TrainError> {
        for (layer, values) in self.layers.iter().zip(weights) {
            let tensor = Tensor::from_slice(values, layer.shape.as_slice(), net.device())?;
            net.set_var(&layer.name, &tensor)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::layers::{PrunableSet, prunable_layers};
    use crate::score::Random;
    use crate::testing;

    /// `|w|`, in three rounds, refusing to see a pruned weight that is not 0.
    struct Thrice;

    impl Score for Thrice {
        fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
            for (layer, weights) in input.layers.iter().zip(input.weights) {
                assert_eq!(&values(input.net, &layer.name)?, weights);
                let mask = input.masks.get(&layer.name).unwrap();
                assert!(mask.bits().iter().zip(weights).all(|(keep, w)| *keep || w.to_bits() == 0));
            }
            Ok(input.weights.iter().map(|w| w.iter().map(|v| v.abs()).collect()).collect())
        }

        fn rounds(&self) -> u32 {
            3
        }
    }

    #[test]
    fn rounds_end_at_the_exact_count_and_leave_the_weights_alone() {
        let graph = testing::mlp(&[16, 12, 3], None);
        let layers = prunable_layers(&graph, PrunableSet::ALL);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let distribution = Distribution::default();
        let pruner = Pruner::new(&layers, &Thrice, &distribution);
        let masks = pruner.masks(&mut net, &Masks::dense(&layers), 0.25).unwrap();
        assert_eq!(masks.kept(), 57);
        assert_eq!(testing::bits(&net.to_graph().unwrap()), testing::bits(&graph));
        let once = Pruner { score: &crate::score::Magnitude, ..pruner };
        assert_eq!(once.masks(&mut net, &Masks::dense(&layers), 0.25).unwrap(), masks, "magnitudes do not change");
    }

    #[test]
    fn collapse_is_refused_or_reported() {
        let graph = testing::mlp(&[16, 12, 3], None);
        let layers = prunable_layers(&graph, PrunableSet::ALL);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let distribution = Distribution::Uniform;
        let refuse = Pruner::new(&layers, &Random, &distribution);
        let found = refuse.masks(&mut net, &Masks::dense(&layers), 0.01);
        assert!(matches!(found, Err(TrainError::Mask(MaskError::LayerCollapse { .. }))), "{found:?}");
        let allow = Pruner { collapse: Collapse::Allow, ..refuse };
        let masks = allow.masks(&mut net, &Masks::dense(&layers), 0.01).unwrap();
        assert_eq!(masks.collapsed(), ["fc1.w"]);
        assert_eq!(masks.kept(), 2);
    }
}
