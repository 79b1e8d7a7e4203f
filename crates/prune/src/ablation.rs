//! What is left of a mask when its positions, its weights or its ranking are taken away: the sanity checks of pruning at
//! initialisation.
//!
//! Source: Frankle et al. 2021, "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?" (arXiv:2009.08576).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_data::derive_seed;
use sentei_graph::{Graph, Mask, Role, Tensor};

use crate::granularity::{Granularity, Grouping};
use crate::layers::Layer;
use crate::masks::Masks;
use crate::score::{Score, ScoreInput};
use crate::train::TrainError;

/// Masks after a shuffle.
#[derive(Clone, Debug, PartialEq)]
pub struct Shuffled {
    /// The permuted masks; every layer keeps as many weights as before, in groups of the same kind.
    pub masks: Masks,
    /// Weights that are kept now and were not before. 0 only when no layer has both kept and removed weights.
    pub moved: usize,
}

/// The groups of a layer, and sets of them that may change places.
type Interchangeable = (Grouping, Vec<Vec<usize>>);

/// Permutes every mask uniformly at random within its layer.
///
/// * `layers`, `granularity`: what stays together. Blocks change places with blocks of the same size; in an N:M pattern
///   weights change places within their group, so that the pattern holds. A mask of no layer is taken as single weights.
///
/// A shuffle that happened to move nothing at all is drawn again, so that it cannot pass for the original by accident.
pub fn shuffle(masks: &Masks, layers: &[Layer], granularity: Granularity, seed: u64) -> Shuffled {
    let of_layer = |(name, mask): (&str, &Mask)| match layers.iter().find(|l| l.name == name) {
        Some(layer) => (granularity.groups(layer), granularity.interchangeable(layer)),
        None => (Grouping::single(mask.len()), vec![(0..mask.len()).collect()]),
    };
    let groups: Vec<Interchangeable> = masks.iter().map(of_layer).collect();
    let can_move = masks.iter().zip(&groups).any(|((_, mask), (grouping, sets))| {
        let differ = |a, b| grouping.members(a).zip(grouping.members(b)).any(|(a, b)| mask.bits()[a] != mask.bits()[b]);
        sets.iter().any(|set| set.windows(2).any(|pair| differ(pair[0], pair[1])))
    });
    for attempt in 0u64.. {
        let permuted = |((name, mask), (grouping, sets)): ((&str, &Mask), &Interchangeable)| {
            let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(seed, "mask shuffle", &format!("{attempt} {name}")));
            let mut bits = mask.bits().to_vec();
            for set in sets {
                for last in (1..set.len()).rev() {
                    let [a, b] = [set[last], set[rng.random_range(0..=last)]];
                    grouping.members(a).zip(grouping.members(b)).for_each(|(a, b)| bits.swap(a, b));
                }
            }
            (name.to_string(), Mask::from_bits(bits))
        };
        let shuffled: Masks = masks.iter().zip(&groups).map(permuted).collect();
        let moved =
            masks.iter().zip(shuffled.iter()).map(|((_, old), (_, new))| new.kept() - new.and(old).kept()).sum();
        if moved > 0 || !can_move {
            return Shuffled { masks: shuffled, moved };
        }
    }
    unreachable!("an endless loop ends by returning")
}

/// `graph` with fresh weights: each from a normal distribution with mean 0 and the standard deviation that the layer's
/// own non-zero weights have. Biases and batch norm start over: 0, scale 1, shift 0, running mean 0, running variance 1.
///
/// For an architecture of `models` build it again with another seed instead; this is for graphs that came from elsewhere.
pub fn reinitialise(graph: &Graph, seed: u64) -> Graph {
    let mut fresh = graph.clone();
    for (id, role) in graph.parameters() {
        let old = graph.initializer(id).expect("parameters are initializers");
        let data = match role {
            Role::Data => continue,
            Role::Weight => normal(old, seed, graph.name(id)),
            Role::Scale | Role::RunningVariance => vec![1.0; old.len()],
            Role::Bias | Role::Shift | Role::RunningMean => vec![0.0; old.len()],
        };
        fresh.set_initializer(id, Tensor::new(old.shape.as_slice(), data));
    }
    fresh
}

fn normal(old: &Tensor, seed: u64, name: &str) -> Vec<f32> {
    let live: Vec<f64> = old.data.iter().filter(|v| **v != 0.0).map(|v| f64::from(*v)).collect();
    let mean = live.iter().sum::<f64>() / live.len().max(1) as f64;
    let std = (live.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / live.len().max(1) as f64).sqrt();
    let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(seed, "reinitialise", name));
    // Box and Muller; `1 - u` keeps the logarithm away from 0.
    let mut draw = || {
        let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        (std * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    (0..old.len()).map(|_| draw()).collect()
}

/// A score turned upside down: what it likes best goes first. Scores in rounds are reversed in each round.
pub struct Inverted(
    /// The score that is reversed.
    pub Box<dyn Score>,
);

impl Score for Inverted {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut scores = self.0.score(input)?;
        scores.iter_mut().flatten().for_each(|s| *s = -*s);
        Ok(scores)
    }

    fn rounds(&self) -> u32 {
        self.0.rounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::layers::{PrunableSet, prunable_layers};
    use crate::score::{Magnitude, Pruner};
    use crate::{Device, Net, testing};

    #[test]
    fn pai_oracle_11_a_shuffle_keeps_every_count_and_overlaps_by_the_density() {
        let random = |len: usize, keep: usize| {
            let scores: Vec<f32> = (0..len).map(|i| testing::noise("mask", i)).collect();
            crate::top_k("w", &scores, &Mask::dense(len), keep).unwrap()
        };
        let masks: Masks =
            [("a".to_string(), random(4000, 800)), ("b".to_string(), random(1000, 50)), ("c".into(), Mask::dense(9))]
                .into_iter()
                .collect();
        let Shuffled { masks: shuffled, moved } = shuffle(&masks, &[], Granularity::Unstructured, 3);
        assert_eq!(shuffle(&masks, &[], Granularity::Unstructured, 3).masks, shuffled, "the seed decides");
        assert_ne!(shuffle(&masks, &[], Granularity::Unstructured, 4).masks, shuffled);
        let mut overlap = 0;
        for ((name, old), (_, new)) in masks.iter().zip(shuffled.iter()) {
            assert_eq!(new.kept(), old.kept(), "{name}");
            let both = new.and(old).kept();
            overlap += both;
            let (n, k) = (old.len() as f64, old.kept() as f64);
            let (mean, variance) = (k * k / n, k * k * (n - k).powi(2) / (n * n * (n - 1.0)));
            assert!((both as f64 - mean).abs() <= 4.0 * variance.sqrt(), "{name}: {both} of {k}, expected {mean}");
        }
        assert_eq!(moved, masks.kept() - overlap);
        assert!(moved > 600, "most of 850 weights moved, found {moved}");
    }

    #[test]
    fn a_shuffle_that_could_move_something_does() {
        let two: Masks = [("w".to_string(), Mask::from_bits(vec![true, false]))].into_iter().collect();
        assert!((0..50).all(|seed| shuffle(&two, &[], Granularity::Unstructured, seed).moved == 1));
        let dense: Masks = [("w".to_string(), Mask::dense(4))].into_iter().collect();
        assert_eq!(shuffle(&dense, &[], Granularity::Unstructured, 0), Shuffled { masks: dense, moved: 0 });
    }

    #[test]
    fn fresh_weights_have_the_deviation_of_the_old_ones_and_everything_else_starts_over() {
        let mut graph = testing::depthwise_net();
        let mean = graph.value("stem.mean").unwrap();
        graph.set_initializer(mean, Tensor::full([4], 3.0));
        let fresh = reinitialise(&graph, 1);
        let tensor = |g: &Graph, name: &str| g.initializer(g.value(name).unwrap()).unwrap().data.clone();
        assert_eq!(tensor(&fresh, "stem.mean"), [0.0; 4]);
        assert_eq!(tensor(&fresh, "stem.gamma"), [1.0; 4]);
        let wide = testing::mlp(&[256, 64, 3], None);
        let again = reinitialise(&wide, 1);
        let (old, new) = (tensor(&wide, "fc0.w"), tensor(&again, "fc0.w"));
        let power = |w: &[f32]| w.iter().map(|v| f64::from(v * v)).sum::<f64>() / w.len() as f64;
        assert!((power(&new) / power(&old) - 1.0).abs() < 0.05);
        assert!(old.iter().zip(&new).filter(|(a, b)| a == b).count() == 0);
        assert_eq!(reinitialise(&wide, 1), again);
        assert_ne!(reinitialise(&wide, 2), again);
    }

    #[test]
    fn inversion_keeps_what_the_score_likes_least() {
        let graph = testing::mlp(&[16, 12, 3], None);
        let layers = prunable_layers(&graph, PrunableSet::ALL);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let inverted = Inverted(Box::new(Magnitude));
        let uniform = Distribution::Uniform;
        let keep = |score: &dyn Score, net: &mut Net| {
            Pruner::new(&layers, score, &uniform).masks(net, &Masks::dense(&layers), 0.5).unwrap()
        };
        let (best, worst) = (keep(&Magnitude, &mut net), keep(&inverted, &mut net));
        assert_eq!((best.kept(), worst.kept()), (114, 114));
        assert!(best.iter().zip(worst.iter()).all(|((_, b), (_, w))| b.and(w).kept() == 0));
    }
}
