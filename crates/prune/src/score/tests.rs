//! The laws that the scores of pruning at initialisation obey; the numbers are those of `algorithms/pruning-at-init.md`.

use std::cell::RefCell;

use candle_core::Device;
use proptest::prelude::*;
use sentei_graph::ops::{AveragePool, Conv, Flatten, Gemm, Relu};
use sentei_graph::{Fact, Graph, Mask, Tensor as Constant};

use super::synflow::Flow;
use super::*;
use crate::ablation::reinitialise;
use crate::distribution::{Collapse, Distribution};
use crate::layers::{PrunableSet, prunable_layers};
use crate::masks::top_k;
use crate::testing::{self, Golden, Harness, matrix};

const FREE: Distribution = Distribution::Global { floor: 0.0 };

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn sums(scores: &[Tensor]) -> Vec<f64> {
    scores.iter().map(|t| flat(t).iter().sum()).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(b)
}

/// The golden net with the weights of layer `from` times `factor`, those of the next layer divided by it.
fn rescaled(golden: &Golden, from: usize, factor: f64) -> Net {
    let mut net = golden.net(DType::F64);
    for (layer, factor) in [(from, factor), (from + 1, 1.0 / factor)] {
        let weights = (matrix(&golden.weights[layer]) * factor).unwrap();
        net.set_var(&Golden::params()[layer], &weights).unwrap();
    }
    net
}

/// The flow through the golden net at full precision.
fn golden_flow(golden: &Golden) -> Flow {
    let mut flow = Flow::new(&golden.graph()).unwrap();
    for (name, rows) in Golden::params().iter().zip(&golden.weights) {
        flow.net.set_var(name, &matrix(rows).abs().unwrap()).unwrap();
    }
    flow
}

/// Convolution, average pool, convolution, classifier; no biases.
fn conv_net() -> Graph {
    let mut graph = Graph::new();
    let mut at = graph.add_input("image", Fact::new([1, 2, 8, 8])).unwrap();
    let weight = |graph: &mut Graph, name: &str, shape: &[usize]| {
        let data = (0..shape.iter().product()).map(|i| testing::noise(name, i)).collect();
        graph.add_initializer(name, Constant::new(shape, data)).unwrap()
    };
    for (name, shape) in [("c1.w", [5, 2, 3, 3]), ("c2.w", [7, 5, 3, 3])] {
        let weight = weight(&mut graph, name, &shape);
        let op = Conv { stride: [1, 1], pads: [1; 4], dilation: [1, 1], groups: 1 };
        at = graph.add_node(&format!("{name}.y"), op, &[at, weight]).unwrap();
        at = graph.add_node(&format!("{name}.relu"), Relu, &[at]).unwrap();
        let pool = AveragePool { kernel: [2, 2], stride: [2, 2], ..AveragePool::default() };
        at = graph.add_node(&format!("{name}.pool"), pool, &[at]).unwrap();
    }
    at = graph.add_node("features", Flatten { axis: 1 }, &[at]).unwrap();
    let weight = weight(&mut graph, "fc.w", &[3, 28]);
    at = graph.add_node("fc", Gemm, &[at, weight]).unwrap();
    graph.add_output(at);
    graph
}

#[test]
fn pai_oracle_1_every_layer_of_the_golden_net_sums_to_the_objective() {
    let golden = Golden::read();
    let mut flow = golden_flow(&golden);
    let objective = flow.objective().unwrap().to_scalar::<f64>().unwrap();
    assert!((objective / golden.synflow_objective - 1.0).abs() < 1e-12, "{objective}");
    let scores = flow.scores(&Golden::params()).unwrap();
    for (sum, expected) in sums(&scores).iter().zip(&golden.synflow_layer_sums) {
        assert!((sum / expected - 1.0).abs() < 1e-12, "{sum}");
        assert!((sum / objective - 1.0).abs() < 1e-12, "{sum}");
    }
    for (scores, expected) in scores.iter().zip(&golden.synflow_scores_iter0) {
        assert!(distance(&flat(scores), &expected.concat()) < 1e-10);
    }
}

#[test]
fn pai_oracle_1_every_layer_of_a_convolutional_net_sums_to_the_objective() {
    for graph in [conv_net(), testing::depthwise_net()] {
        let mut flow = Flow::new(&graph).unwrap();
        let objective = flow.objective().unwrap().to_scalar::<f64>().unwrap();
        let names: Vec<String> = crate::layers(&graph).into_iter().map(|l| l.name).collect();
        for sum in sums(&flow.scores(&names).unwrap()) {
            assert!((sum / objective - 1.0).abs() < 1e-12, "{sum} is not {objective}");
        }
    }
}

#[test]
fn deep_networks_do_not_overflow() {
    let spec = sentei_models::Spec { channels: 3, height: 32, width: 32, classes: 10, seed: 1 };
    let graph = sentei_models::build("resnet56", &spec).unwrap();
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let objective = Flow::new(&graph).unwrap().objective().unwrap().to_scalar::<f64>().unwrap();
    assert!(objective > f64::from(f32::MAX), "f32 would not do: {objective:e}");
    let weights: Vec<Vec<f32>> = layers.iter().map(|l| crate::values(&net, &l.name).unwrap()).collect();
    let masks = Masks::dense(&layers);
    let input = ScoreInput { net: &mut net, layers: &layers, weights: &weights, masks: &masks, data: None, seed: 0 };
    let scores = Synflow { rounds: 1 }.score(input).unwrap();
    let all = || scores.iter().flatten();
    assert!(all().all(|s| s.is_finite() && *s >= 0.0));
    assert!(all().filter(|s| **s > 0.0).count() > 800_000);
}

#[test]
fn pai_oracle_2_what_enters_a_unit_leaves_it() {
    let golden = Golden::read();
    let scores = golden_flow(&golden).scores(&Golden::params()).unwrap();
    for pair in scores.windows(2) {
        let entering = flat(&pair[0].sum(1).unwrap());
        let leaving = flat(&pair[1].sum(0).unwrap());
        assert_eq!(entering.len(), leaving.len());
        for (a, b) in entering.iter().zip(&leaving) {
            assert!((a / b - 1.0).abs() < 1e-12, "{a} enters, {b} leaves");
        }
    }
}

/// A score that notes how many weights were live each time it was asked.
struct Counting<S>(S, RefCell<Vec<usize>>);

impl<S: Score> Score for Counting<S> {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        self.1.borrow_mut().push(input.masks.kept());
        self.0.score(input)
    }

    fn rounds(&self) -> u32 {
        self.0.rounds()
    }
}

#[test]
fn pai_oracle_3_counts_and_masks_of_twenty_rounds_and_of_one_are_the_golden_ones() {
    let golden = Golden::read();
    let graph = golden.graph();
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let mut masks_after = |rounds: u32| {
        let score = Counting(Synflow { rounds }, RefCell::default());
        let masks = Pruner::new(&layers, &score, &FREE).masks(&mut net, &Masks::dense(&layers), 0.25).unwrap();
        let bits = |(_, mask): (&str, &Mask)| mask.bits().iter().map(|b| u8::from(*b)).collect::<Vec<u8>>();
        (masks.iter().map(bits).collect::<Vec<_>>(), score.1.into_inner(), masks.kept())
    };
    let expected = |golden: &[Vec<Vec<u8>>]| golden.iter().map(|rows| rows.concat()).collect::<Vec<_>>();
    let (twenty, mut kept, last) = masks_after(20);
    kept.push(last);
    assert_eq!(kept[1..], golden.synflow_kept_per_iteration);
    assert_eq!(twenty, expected(&golden.synflow_mask_after_20_rounds));
    let (single, ..) = masks_after(1);
    assert_eq!(single, expected(&golden.synflow_mask_after_one_round));
    assert_ne!(single, twenty);
}

#[test]
fn pai_oracle_4_a_hundred_rounds_leave_one_path_where_one_round_collapses() {
    let graph = reinitialise(&testing::mlp(&[100, 200, 20, 300, 10], None), 3);
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let total: usize = layers.iter().map(|l| l.len()).sum();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let mut kept = |keep: usize, rounds: u32| {
        let score = Synflow { rounds };
        let pruner = Pruner { collapse: Collapse::Allow, ..Pruner::new(&layers, &score, &FREE) };
        let masks = pruner.masks(&mut net, &Masks::dense(&layers), keep as f64 / total as f64).unwrap();
        assert_eq!(masks.kept(), keep);
        let mut pruned = graph.clone();
        for (name, mask) in masks.iter() {
            let id = pruned.value(name).unwrap();
            let mut tensor = pruned.initializer(id).unwrap().clone();
            mask.apply(&mut tensor.data);
            pruned.set_initializer(id, tensor);
        }
        let flow = Flow::new(&pruned).unwrap().objective().unwrap().to_scalar::<f64>().unwrap();
        (masks.iter().map(|(_, m)| m.kept()).collect::<Vec<_>>(), flow)
    };
    let (counts, flow) = kept(4, 100);
    assert_eq!(counts, [1, 1, 1, 1]);
    assert!(flow > 0.0, "the four weights are one path");
    let (counts, flow) = kept(4, 1);
    assert!(counts.contains(&0) && flow == 0.0, "one round collapses, found {counts:?}");
    assert!(kept(200, 100).0.iter().all(|count| *count > 10));
    assert_eq!(kept(200, 1).0[0], 0, "the largest layer goes first");
}

#[test]
fn pai_oracle_6_snip_and_synflow_do_not_see_a_rescaling_between_layers_and_grasp_does() {
    let golden = Golden::read();
    let (names, batches) = (Golden::params(), golden.batches());
    let all = |tensors: Vec<Tensor>| tensors.iter().flat_map(flat).collect::<Vec<f64>>();
    let snip = |net: &mut Net| all(snip::sensitivities(net, &names, &batches).unwrap());
    let grasp = |net: &mut Net| {
        let hg = grasp::hessian_gradient(net, &names, &batches, 1.0).unwrap();
        all(products(net, &names, &hg).unwrap())
    };
    let synflow = |net: &Net| {
        let mut flow = golden_flow(&golden);
        for name in &names {
            flow.net.set_var(name, &parameter(net, name).unwrap().abs().unwrap()).unwrap();
        }
        all(flow.scores(&names).unwrap())
    };
    let mut before = golden.net(DType::F64);
    for from in [0, 1] {
        let mut after = rescaled(&golden, from, 3.7);
        assert!(distance(&snip(&mut after), &snip(&mut before)) < 1e-13);
        assert!(distance(&synflow(&after), &synflow(&before)) < 1e-13);
        let changed = distance(&grasp(&mut after), &grasp(&mut before));
        assert!(changed > 0.5, "GraSP is not invariant, found a change of {changed}");
    }
}

#[test]
fn pai_oracle_9_grasp_removes_the_flat_directions_of_a_quadratic_first() {
    // L = sum a_i w_i^2 / 2: g = a w, H g = a^2 w, so S = -(a w)^2 and the smallest |a w| goes first.
    let (a, w) = ([3.0, 0.1, 1.0, 2.0, 0.5f64], [0.2, -4.0, -1.5, 0.05, 2.4f64]);
    let hg: Vec<f64> = a.iter().zip(&w).map(|(a, w)| a * a * w).collect();
    let tensor = |v: &[f64]| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
    for absolute in [false, true] {
        let grasp = Grasp { images: Images { per_class: 1, batches: 1 }, temperature: 1.0, absolute };
        let scores = on_host(&grasp.rule(&tensor(&w), &tensor(&hg)).unwrap()).unwrap();
        for keep in 0..5 {
            let kept = top_k("w", &scores, &Mask::dense(5), keep).unwrap();
            let product = |i: &usize| (a[*i] * w[*i]).abs();
            let (inside, outside): (Vec<usize>, Vec<usize>) = (0..5).partition(|i| kept.bits()[*i]);
            assert!(inside.iter().all(|i| outside.iter().all(|o| product(i) > product(o))));
        }
    }
}

#[test]
fn grasp_scores_are_minus_the_golden_ones_and_its_variant_their_size() {
    let golden = Golden::read();
    let (mut net, names) = (golden.net(DType::F64), Golden::params());
    let hg = grasp::hessian_gradient(&mut net, &names, &golden.batches(), 200.0).unwrap();
    let grasp = |absolute| Grasp { images: Images { per_class: 1, batches: 1 }, temperature: 200.0, absolute };
    for ((name, hg), expected) in names.iter().zip(&hg).zip(&golden.grasp_scores_t200) {
        let w = parameter(&net, name).unwrap();
        let signed = flat(&grasp(false).rule(w, hg).unwrap());
        let kept: Vec<f64> = expected.concat().iter().map(|s| -s).collect();
        assert!(distance(&signed, &kept) < 1e-9);
        let size: Vec<f64> = kept.iter().map(|s| s.abs()).collect();
        assert!(distance(&flat(&grasp(true).rule(w, hg).unwrap()), &size) < 1e-9);
    }
}

#[test]
fn synflow_sees_no_batch_statistics() {
    let scores = |graph: &Graph| {
        let layers = prunable_layers(graph, PrunableSet::ALL);
        let mut net = Net::new(graph, &Device::Cpu).unwrap();
        let masks = Masks::dense(&layers);
        let input = ScoreInput { net: &mut net, layers: &layers, weights: &[], masks: &masks, data: None, seed: 0 };
        Synflow { rounds: 1 }.score(input).unwrap().concat().iter().map(|s| f64::from(*s)).collect::<Vec<f64>>()
    };
    let fresh = testing::depthwise_net();
    let mut trained = fresh.clone();
    for (part, value) in [("mean", 7.0), ("var", 0.01), ("beta", -3.0)] {
        for layer in ["stem", "dw", "pw"] {
            let id = trained.value(&format!("{layer}.{part}")).unwrap();
            let len = trained.initializer(id).unwrap().len();
            trained.set_initializer(id, Constant::full([len], value));
        }
    }
    assert!(distance(&scores(&trained), &scores(&fresh)) < 1e-6);
}

/// Scores of the fresh [`testing::depthwise_net`], or of one whose running statistics have moved.
fn on_batch_norms(score: &dyn Score, moved: bool) -> Vec<f64> {
    let mut graph = testing::depthwise_net();
    for name in ["stem", "dw", "pw"].iter().flat_map(|l| [format!("{l}.mean"), format!("{l}.var")]) {
        let id = graph.value(&name).unwrap();
        let len = graph.initializer(id).unwrap().len();
        if moved {
            graph.set_initializer(id, Constant::full([len], 3.0));
        }
    }
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let (masks, harness) = (Masks::dense(&layers), Harness::new());
    let data = Some(ScoreData { data: &harness.data, normalise: &harness.normalise });
    let input = ScoreInput { net: &mut net, layers: &layers, weights: &[], masks: &masks, data, seed: 5 };
    let found = score.score(input).unwrap().concat().iter().map(|s| f64::from(*s)).collect();
    assert_eq!(testing::bits(&net.to_graph().unwrap()), testing::bits(&graph), "the score moved something");
    found
}

#[test]
fn snip_and_grasp_see_the_statistics_of_the_batch_and_move_none() {
    for config in [ScoreConfig::SNIP, ScoreConfig::GRASP] {
        let score = config.build();
        assert_eq!(on_batch_norms(&*score, true), on_batch_norms(&*score, false), "{}", config.name());
    }
}

#[test]
fn the_settings_of_grasp_reach_its_scores() {
    let score = |temperature: f64, absolute: bool| {
        on_batch_norms(&*ScoreConfig::Grasp { per_class: 10, batches: 1, temperature, absolute }.build(), false)
    };
    let (signed, size) = (score(200.0, false), score(200.0, true));
    assert!(signed.iter().any(|s| *s < 0.0) && signed.iter().any(|s| *s > 0.0));
    assert!(signed.iter().zip(&size).all(|(s, size)| s.abs() == *size));
    let scaled = |t: f64| score(t, false).iter().map(|s| s * t * t).collect::<Vec<f64>>();
    let (plain, hot, hotter) = (scaled(1.0), scaled(200.0), scaled(2000.0));
    assert!(distance(&hotter, &hot) < 0.1, "{}", distance(&hotter, &hot));
    assert!(distance(&plain, &hot) > 2.0 * distance(&hotter, &hot), "{}", distance(&plain, &hot));
}

/// A perceptron whose first hidden units are dead: nothing flows in, so exact zeros tie.
fn with_dead_units(dead: usize) -> Graph {
    let mut graph = testing::mlp(&[16, 12, 3], None);
    for (name, value) in [("fc0.w", 0.0), ("fc0.b", -1.0)] {
        let id = graph.value(name).unwrap();
        let mut tensor = graph.initializer(id).unwrap().clone();
        let row = tensor.len() / 12;
        tensor.data[..dead * row].fill(value);
        graph.set_initializer(id, tensor);
    }
    graph
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn pai_oracle_12_every_score_keeps_the_exact_count_with_ties_and_never_revives(
        dead in 0usize..=12, first in 0.05f64..1.0, share in 0.1f64..1.0, seed in 0u64..1000,
    ) {
        let graph = with_dead_units(dead);
        let layers = prunable_layers(&graph, PrunableSet::ALL);
        let total: usize = layers.iter().map(|l| l.len()).sum();
        let harness = Harness::new();
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let before = testing::bits(&net.to_graph().unwrap());
        for config in ScoreConfig::ALL {
            let build = || match config {
                ScoreConfig::Synflow { .. } => Box::new(Synflow { rounds: 7 }),
                other => other.build(),
            };
            let (score, inverted) = (build(), crate::ablation::Inverted(build()));
            let scores: [&dyn Score; 2] = [&*score, &inverted];
            for (score, distribution) in [(scores[0], FREE), (scores[0], Distribution::Erk), (scores[1], FREE)] {
                let data = Some(ScoreData { data: &harness.data, normalise: &harness.normalise });
                let plain = Pruner::new(&layers, score, &distribution);
                let pruner = Pruner { collapse: Collapse::Allow, data, seed, ..plain };
                let one = pruner.masks(&mut net, &Masks::dense(&layers), first).unwrap();
                prop_assert_eq!(one.kept(), (first * total as f64).round() as usize, "{}", config.name());
                prop_assert!(testing::bits(&net.to_graph().unwrap()) == before, "{} moved a weight", config.name());
                let density = first * share;
                let two = pruner.masks(&mut net, &one, density).unwrap();
                prop_assert!(two.is_subset_of(&one), "{}", config.name());
                prop_assert_eq!(two.kept(), (density * total as f64).round() as usize, "{}", config.name());
                let again = pruner.masks(&mut net, &Masks::dense(&layers), first).unwrap();
                prop_assert_eq!(again, one, "{} is repeatable", config.name());
            }
        }
    }
}
