use std::collections::BTreeMap;

use proptest::prelude::*;
use sentei_graph::{Mask, Pattern, patterns};

use super::*;
use crate::ablation::{Inverted, shuffle};
use crate::config::{OptimizerConfig, PruneConfig, Retrain, TrainConfig};
use crate::distribution::{Distribution, StdOver};
use crate::layers::{LayerKind, PrunableSet, prunable_layers};
use crate::masks::{MaskError, Masks, top_k};
use crate::score::{Magnitude, Pruner, Score, ScoreConfig, ScoreInput};
use crate::testing::{self, Harness};
use crate::train::TrainError;
use crate::{Device, Net, prune_and_retrain, prune_only};

const BLOCKS: Granularity = Granularity::Block { rows: 4, columns: 1 };

fn layer(shape: &[usize]) -> Layer {
    Layer { name: "w".into(), shape: shape.to_vec(), kind: LayerKind::Conv, bias: None, node: "y".into() }
}

/// `|w|` in four steps, so that most scores have equals.
struct Tied;

impl Score for Tied {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        Ok(input.weights.iter().map(|w| w.iter().map(|v| (v.abs() * 4.0).floor()).collect()).collect())
    }
}

/// Panics unless every group is kept or removed whole; returns the number of groups kept and in all.
fn whole(granularity: Granularity, layers: &[Layer], masks: &Masks) -> [usize; 2] {
    let mut counts = [0, 0];
    for layer in layers {
        let (grouping, mask) = (granularity.groups(layer), masks.get(&layer.name).unwrap());
        for group in 0..grouping.len() {
            let bits: Vec<bool> = grouping.members(group).map(|i| mask.bits()[i]).collect();
            assert!(bits.iter().all(|b| *b == bits[0]), "group {group} of {} is torn", layer.name);
            counts[0] += usize::from(bits[0]);
        }
        counts[1] += grouping.len();
    }
    counts
}

fn network() -> (Net, Vec<Layer>) {
    let graph = testing::depthwise_net();
    (Net::new(&graph, &Device::Cpu).unwrap(), prunable_layers(&graph, PrunableSet::ALL))
}

#[test]
fn blocks_are_counted_exactly_kept_whole_and_nested_in_every_distribution() {
    let (mut net, layers) = network();
    // depthwise_net: stem [4,1,3,3], dw depthwise, pw [8,4,1,1], fc [3,8]; blocks: 9, 36 of one weight, 8, 8 of three.
    let groups = [9, 36, 8, 8];
    assert_eq!(layers.iter().map(|l| BLOCKS.groups(l).len()).collect::<Vec<_>>(), groups);
    for distribution in [Distribution::Global { floor: 0.02 }, Distribution::Uniform, Distribution::Erk] {
        for score in [&Tied as &dyn Score, &Magnitude, &Inverted(Box::new(Magnitude))] {
            let pruner = Pruner { granularity: BLOCKS, ..Pruner::new(&layers, score, &distribution) };
            let mut masks = Masks::dense(&layers);
            for density in [0.9, 0.71, 0.5, 0.3] {
                let next = pruner.masks(&mut net, &masks, density).unwrap();
                assert!(next.is_subset_of(&masks));
                let expected = match distribution {
                    Distribution::Uniform => groups.iter().map(|g| (density * *g as f64).round() as usize).sum(),
                    _ => (density * 61.0f64).round() as usize,
                };
                assert_eq!(whole(BLOCKS, &layers, &next), [expected, 61], "{distribution:?} {density}");
                masks = next;
            }
        }
    }
}

#[test]
fn every_score_and_distribution_works_on_blocks_and_on_patterns() {
    let config =
        |score, distribution, granularity| PruneConfig { score, distribution, granularity, ..PruneConfig::default() };
    let densities = BTreeMap::from([("fc.w".to_string(), 0.25)]);
    let table = Distribution::PerLayer { densities, others: 0.5 };
    let std = Distribution::StdThreshold { quality: 0.9, layers: BTreeMap::new(), std_over: StdOver::Survivors };
    for score in ScoreConfig::ALL {
        for (distribution, granularity) in [
            (Distribution::Uniform, BLOCKS),
            (table.clone(), BLOCKS),
            (std.clone(), BLOCKS),
            (Distribution::Erk, Granularity::TWO_OF_FOUR),
        ] {
            let config = PruneConfig { sparsity: None, ..config(score, distribution, granularity) };
            let config = match config.takes_a_target() {
                true => PruneConfig { sparsity: Some(0.5), ..config },
                false => config,
            };
            let config = PruneConfig { retrain: Retrain { epochs: 0, ..Retrain::default() }, ..config };
            let found = Harness::new().with_run(|run| {
                let graph = testing::depthwise_net();
                prune_and_retrain(&graph, &TrainConfig::default(), &config, &Device::Cpu, run)
            });
            let found = found.unwrap();
            let layers = prunable_layers(&found.graph, config.prunable_set());
            let [kept, all] = whole(config.granularity, &layers, &found.masks);
            assert!(0 < kept && kept < all, "{score:?} {granularity} {:?}", config.distribution);
            if granularity == Granularity::TWO_OF_FOUR {
                assert_eq!(found.masks.get("pw.w").unwrap().kept(), 16, "{score:?}");
            }
        }
    }
}

#[test]
fn the_mean_of_a_block_decides_and_ties_go_lowest_first() {
    // [out 5, in 3] in blocks of 2: rows 0-1, 2-3, and 4 alone.
    let layer = Layer { kind: LayerKind::Linear, ..layer(&[5, 3]) };
    let grouping = Granularity::Block { rows: 2, columns: 1 }.groups(&layer);
    assert_eq!(grouping.len(), 9);
    #[rustfmt::skip]
    let scores = [
        1.0, 9.0, 4.0,
        3.0, 0.0, 0.0,
        2.0, 2.0, 2.0,
        2.0, 2.0, 2.0,
        2.0, 1.0, 8.0,
    ];
    let dense = Mask::dense(15);
    let means = grouping.means("w", &scores, &dense).unwrap();
    assert_eq!(*means, [2.0, 4.5, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 8.0]);
    let kept = top_k("w", &means, &Mask::dense(9), 4).unwrap();
    let kept = grouping.weights(kept, &dense);
    #[rustfmt::skip]
    let expected = [
        false, true, false,
        false, true, false,
        false, false, true,
        false, false, true,
        true, false, true,
    ];
    assert_eq!(kept.bits(), expected);
    // A weight that is gone already does not count and does not return.
    let torn = Mask::from_bits((0..15).map(|i| i != 0).collect());
    assert_eq!(grouping.means("w", &scores, &torn).unwrap()[0], 3.0);
    assert!(grouping.weights(Mask::dense(9), &torn).is_subset_of(&torn));
}

#[test]
fn a_score_that_is_not_finite_names_the_weight_and_not_the_block() {
    let mut scores = vec![1.0; 16];
    scores[9] = f32::NAN;
    let error = BLOCKS.groups(&layer(&[4, 4])).means("w", &scores, &Mask::dense(16)).unwrap_err();
    assert_eq!(error, MaskError::NotFinite { name: "w".into(), index: 9 });
    let error = n_m::select(&layer(&[4, 4]), &scores, &Mask::dense(16), 2, 4).unwrap_err();
    assert_eq!(error, MaskError::NotFinite { name: "w".into(), index: 9 });
}

#[test]
fn narrow_layers_stay_dense_by_name_and_a_pattern_that_fits_nowhere_is_refused() {
    let (mut net, layers) = network();
    let (pattern, distribution) = (Granularity::TWO_OF_FOUR, Distribution::default());
    assert_eq!(pattern.left_dense(&layers), ["stem.w", "dw.w"]);
    assert!(BLOCKS.left_dense(&layers).is_empty());
    let pruner = Pruner { granularity: pattern, ..Pruner::new(&layers, &Magnitude, &distribution) };
    let masks = pruner.masks(&mut net, &Masks::dense(&layers), 0.5).unwrap();
    assert_eq!(masks.iter().map(|(_, m)| m.kept()).collect::<Vec<_>>(), [36, 36, 16, 12]);
    let wide = PruneConfig { granularity: Granularity::NM { n: 2, m: 16 }, ..PruneConfig::default() };
    let error = prune_only(&testing::depthwise_net(), &wide, 0).unwrap_err();
    assert!(matches!(error, TrainError::PatternFitsNothing(_)), "{error}");
    assert!(error.to_string().contains("2:16"), "{error}");
}

#[test]
fn steps_towards_a_pattern_go_through_denser_patterns() {
    let kept = |density| n_m::kept_at(density, 2, 4);
    assert_eq!([1.0, 0.76, 0.75, 0.74, 0.51, 0.5, 0.1].map(kept), [4, 4, 3, 3, 3, 2, 2]);
    for m in 2..200 {
        for n in 1..m {
            assert_eq!(n_m::kept_at(n as f64 / m as f64, n, m), n, "{n}:{m} is met exactly");
        }
    }
}

#[test]
fn a_pattern_holds_bit_for_bit_after_308_steps_of_retraining() {
    let optimizer = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    let train = TrainConfig { batch_size: 16, optimizer, weight_decay: 0.01, ..TrainConfig::default() };
    for (granularity, sparsity, expected) in [
        (Granularity::TWO_OF_FOUR, None, Pattern::NM { n: 2, m: 4 }),
        (BLOCKS, Some(0.5), Pattern::Blocks { rows: 4, columns: 1 }),
    ] {
        let retrain = Retrain { epochs: 28, learning_rate_factor: 1.0, ..Retrain::default() };
        let config = PruneConfig { granularity, sparsity, retrain, ..PruneConfig::default() };
        let graph = testing::depthwise_net();
        let before = prune_only(&graph, &config, 0).unwrap();
        let run = |run: &mut crate::train::Run| prune_and_retrain(&graph, &train, &config, &Device::Cpu, run);
        let after = Harness::new().with_run(run).unwrap();
        assert_eq!(after.masks, before.masks);
        for (name, mask) in after.masks.iter() {
            let tensor = |g: &sentei_graph::Graph| g.initializer(g.value(name).unwrap()).unwrap().clone();
            let (old, new) = (tensor(&before.graph), tensor(&after.graph));
            assert_ne!(old.data, new.data, "{name} was trained");
            let zeros = new.data.iter().zip(mask.bits()).filter(|(_, keep)| !**keep);
            assert!(zeros.map(|(w, _)| w.to_bits()).all(|bits| bits == 0), "{name}");
            assert_eq!(Mask::of_zeros(&new), *mask, "{name}");
            if name == "pw.w" {
                assert!(patterns(&new).contains(&expected), "{:?}", patterns(&new));
            }
        }
    }
}

#[test]
fn a_shuffle_keeps_every_pattern_and_every_count() {
    let (mut net, layers) = network();
    let distribution = Distribution::Uniform;
    for granularity in [BLOCKS, Granularity::TWO_OF_FOUR, Granularity::Unstructured] {
        let pruner = Pruner { granularity, ..Pruner::new(&layers, &Magnitude, &distribution) };
        let masks = pruner.masks(&mut net, &Masks::dense(&layers), 0.5).unwrap();
        let shuffled = shuffle(&masks, &layers, granularity, 7);
        assert!(shuffled.moved > 0 && shuffled.masks != masks);
        for ((name, old), (_, new)) in masks.iter().zip(shuffled.masks.iter()) {
            assert_eq!(old.kept(), new.kept(), "{granularity} {name}");
        }
        whole(granularity, &layers, &shuffled.masks);
        if let Granularity::NM { n, m } = granularity {
            for layer in layers.iter().filter(|l| n_m::fits(l, m)) {
                let bits = shuffled.masks.get(&layer.name).unwrap().bits();
                assert!(n_m::groups(layer, m).all(|g| g.iter().filter(|i| bits[**i]).count() == n), "{}", layer.name);
            }
        }
    }
}

proptest! {
    #[test]
    fn groups_partition_a_layer_in_the_order_of_their_first_weights(
        outputs in 1usize..9, inputs in 1usize..9, kernel in 1usize..4, rows in 1usize..6, columns in 1usize..6,
    ) {
        let layer = layer(&[outputs, inputs, kernel, 1]);
        let grouping = Granularity::Block { rows, columns }.groups(&layer);
        let mut seen = vec![false; layer.len()];
        let mut last = None;
        for group in 0..grouping.len() {
            let members: Vec<usize> = grouping.members(group).collect();
            prop_assert!(last < Some(members[0]));
            last = Some(members[0]);
            prop_assert!(members.is_sorted() && members.len() <= rows * columns);
            let at = |index: usize| (index / (inputs * kernel), index / kernel % inputs, index % kernel);
            let first = at(members[0]);
            prop_assert!(first.0 % rows == 0 && first.1 % columns == 0);
            let wide = columns.min(inputs - first.1);
            for (place, index) in members.iter().enumerate() {
                // row-major: same kernel position, one input channel further, then one output channel
                prop_assert_eq!(at(*index), (first.0 + place / wide, first.1 + place % wide, first.2));
                prop_assert_eq!(grouping.of(*index), group);
                prop_assert!(!std::mem::replace(&mut seen[*index], true));
            }
        }
        prop_assert!(seen.iter().all(|s| *s));
    }

    #[test]
    fn n_of_every_m_are_kept_exactly_in_order_and_nested_under_heavy_ties(
        outputs in 1usize..4, inputs in 2usize..11, kernel in 1usize..4,
        m in 2usize..6, picks in prop::collection::vec(0usize..4, 200),
    ) {
        prop_assume!(inputs >= m);
        let layer = layer(&[outputs, inputs, kernel, 1]);
        let scores: Vec<f32> = (0..layer.len()).map(|i| [0.0f32, 0.5, -0.0, 1.0][picks[i]]).collect();
        let mut live = Mask::dense(layer.len());
        for n in (1..m).rev() {
            let mask = n_m::select(&layer, &scores, &live, n, m).unwrap();
            prop_assert!(mask.is_subset_of(&live));
            for o in 0..outputs {
                for p in 0..kernel {
                    for first in (0..inputs).step_by(m) {
                        let at = |i: usize| (o * inputs + i) * kernel + p;
                        let group: Vec<usize> = (first..inputs.min(first + m)).map(at).collect();
                        let (kept, removed): (Vec<usize>, Vec<usize>) = group.iter().partition(|i| mask.bits()[**i]);
                        prop_assert_eq!(kept.len(), (n as f64 * group.len() as f64 / m as f64).ceil() as usize);
                        for k in &kept {
                            for r in &removed {
                                prop_assert!(scores[*k] > scores[*r] || (scores[*k] == scores[*r] && k > r));
                            }
                        }
                    }
                }
            }
            live = mask;
        }
    }
}
