use candle_core::{Device, Tensor};
use sentei_graph::ops::{Flatten, GlobalAveragePool};
use sentei_graph::{Graph, Mask};

use super::tests::{ADAMW, config};
use super::*;
use crate::Mode;
use crate::checkpoint::Checkpoint;
use crate::config::{OptimizerConfig, PruneConfig, Start};
use crate::distribution::Distribution;
use crate::layers::{PrunableSet, prunable_layers};
use crate::parameterisation::{FactorDecay, Ham, ResetMomentum, SignIn};
use crate::pipeline::prune_and_retrain;
use crate::schedule::Remask;
use crate::score::{Magnitude, Pruner, ScoreConfig};
use crate::testing::{self, Harness, bits};

const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };

fn sign_in() -> Parameterisation {
    let momentum = ResetMomentum::Transform;
    Parameterisation::SignIn(SignIn { reset_period: 2, momentum, decay: FactorDecay::Product, ..SignIn::default() })
}

/// Half of the weights by magnitude, all of them, half again, ...: scores see products, weights leave and return.
struct ComeAndGo<'a> {
    pruner: &'a Pruner<'a>,
    dense: &'a Masks,
}

impl MaskPolicy for ComeAndGo<'_> {
    fn reads_gradients(&self, _: u64) -> bool {
        true
    }

    fn remask(&self, view: StepView) -> Result<Option<Remask>, TrainError> {
        if !view.step.is_multiple_of(10) {
            return Ok(None);
        }
        let sparse = view.step.is_multiple_of(20);
        let masks = if sparse { self.pruner.masks(view.net, self.dense, 0.5)? } else { self.dense.clone() };
        Ok(Some(Remask { target_density: masks.density(), masks }))
    }
}

fn come_and_go(
    harness: &mut Harness,
    graph: &Graph,
    optimizer: OptimizerConfig,
    parameterisation: Parameterisation,
) -> Result<(Vec<u32>, Trained), TrainError> {
    let mut net = Net::new(graph, &Device::Cpu)?;
    let layers = prunable_layers(graph, PrunableSet::ALL);
    let (distribution, config, dense) = (Distribution::default(), config(optimizer), Masks::dense(&layers));
    let pruner = Pruner::new(&layers, &Magnitude, &distribution);
    let policy = ComeAndGo { pruner: &pruner, dense: &dense };
    let plan = Plan { policy: Some(&policy), parameterisation, ..Plan::new("come and go", &config, &dense) };
    let trained = harness.with_run(|run| train(&mut net, plan, run))?;
    Ok((bits(&net.to_graph()?), trained))
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes_and_signs_with_factors_and_weights_that_return() {
    let cases = [(sign_in(), SGD), (sign_in(), ADAMW), (Parameterisation::Ham(Ham::default()), SGD)];
    for (how, optimizer) in cases {
        let graph = testing::depthwise_net();
        let whole = come_and_go(&mut Harness::new(), &graph, optimizer, how).unwrap();
        assert_eq!(whole.1.masks.kept() * 2, whole.1.masks.prunable());
        for steps in [5, 23, 34, 61] {
            let folder = tempfile::tempdir().unwrap();
            let mut harness = Harness::new();
            harness.checkpoint = Some(Checkpointing { path: folder.path().join("c"), resume: true });
            harness.stop = Stop::after(steps);
            assert!(come_and_go(&mut harness, &graph, optimizer, how).is_err());
            harness.stop = Stop::never();
            let (found, trained) = come_and_go(&mut harness, &graph, optimizer, how).unwrap();
            assert!(found == whole.0, "killed after {steps} steps");
            assert_eq!(trained.signs, whole.1.signs);
        }
    }
}

#[test]
fn resuming_under_another_parameterisation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new();
    harness.checkpoint = Some(Checkpointing { path: folder.path().join("c"), resume: true });
    let graph = testing::mlp(&[16, 12, 3], None);
    come_and_go(&mut harness, &graph, SGD, sign_in()).unwrap();
    let other = Parameterisation::SignIn(SignIn { beta: 2.0, ..SignIn::default() });
    for how in [Parameterisation::Plain, other] {
        let error = come_and_go(&mut harness, &graph, SGD, how).unwrap_err().to_string();
        assert!(error.contains("`parameterisation"), "{error}");
    }
}

#[test]
fn sign_in_oracle_8_merging_changes_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new();
    let path = folder.path().join("c");
    harness.checkpoint = Some(Checkpointing { path: path.clone(), resume: false });
    let graph = testing::depthwise_net();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let layers = prunable_layers(&graph, PrunableSet::ALL);
    let thin = |i: usize| i % 3 != 1;
    let masks: Masks =
        layers.iter().map(|l| (l.name.clone(), Mask::from_bits((0..l.len()).map(thin).collect()))).collect();
    let config = config(SGD);
    let plan = Plan { parameterisation: sign_in(), ..Plan::new("train", &config, &masks) };
    harness.data = {
        // Without a validation split the last epoch's weights are kept, those of the checkpoint.
        let mut data = (*harness.data).clone();
        data.splits.iter_mut().filter(|s| **s == Split::Val).for_each(|s| *s = Split::Dropped);
        Arc::new(data)
    };
    harness.with_run(|run| train(&mut net, plan, run)).unwrap();
    let merged = net.to_graph().unwrap();
    assert_eq!(merged.initializers().count(), graph.initializers().count(), "no factor is exported");

    let file = Checkpoint::load(&path).unwrap().unwrap();
    let mut by_factors = Net::new(&merged, &Device::Cpu).unwrap();
    for layer in &layers {
        let factor = |group: &str| {
            let value = &file.values[&(group.to_string(), layer.name.clone())];
            Tensor::from_slice(&value.data, layer.shape.as_slice(), &Device::Cpu).unwrap()
        };
        let product = (factor("factor_m") * factor("factor_w")).unwrap();
        by_factors.set_var(&layer.name, &Tensor::ones_like(&product).unwrap()).unwrap();
        by_factors.set_var(&layer.name, &product).unwrap();
    }
    let mut reloaded = Net::new(&merged, &Device::Cpu).unwrap();
    let images =
        Tensor::from_vec((0..64).map(|i| testing::noise("x", i)).collect::<Vec<_>>(), (4, 1, 4, 4), &Device::Cpu);
    let images = images.unwrap();
    let logits = |net: &mut Net| -> Vec<u32> {
        let out = net.forward(&images, Mode::Eval).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        out.iter().map(|v| v.to_bits()).collect()
    };
    assert_eq!(logits(&mut by_factors), logits(&mut reloaded));
    for (layer, (_, mask)) in layers.iter().zip(masks.iter()) {
        let weights = &merged.initializer(merged.value(&layer.name).unwrap()).unwrap().data;
        assert!(weights.iter().zip(mask.bits()).all(|(w, keep)| if *keep { *w != 0.0 } else { w.to_bits() == 0 }));
    }
}

#[test]
fn a_dense_start_and_a_cubic_ramp_prune_exactly_under_sign_in() {
    let graph = testing::mlp(&[16, 24, 3], None);
    let prune = PruneConfig {
        start: Start::Fresh,
        schedule: crate::schedule::Schedule::Cubic { start: 0.1, end: 0.6, every_steps: 7 },
        sparsity: Some(0.8),
        parameterisation: Parameterisation::SignIn(SignIn::default()),
        ..PruneConfig::default()
    };
    let mut harness = Harness::new();
    let train = TrainConfig { epochs: 10, ..config(SGD) };
    let outcome = harness.with_run(|run| prune_and_retrain(&graph, &train, &prune, &Device::Cpu, run)).unwrap();
    assert_eq!(outcome.masks.kept(), (outcome.masks.prunable() as f64 * 0.2).round() as usize);
    assert_eq!(outcome.signs.len(), 10);
    assert!(outcome.epochs.last().unwrap().val_accuracy.unwrap() > 0.6);
}

/// Five classes of 16x16 images: each one of two 4x4 tiles, repeated from a random corner on, under noise.
fn textures() -> Dataset {
    let (train, val) = (600, 600);
    let samples = train + val;
    let classes = 5;
    let image = |sample: usize| {
        let tile = format!("tile {}", sample % (2 * classes));
        let corner = |axis: &str| (8.0 + 8.0 * testing::noise(axis, sample)) as usize;
        let (top, left) = (corner("top"), corner("left"));
        (0..256)
            .map(|p| {
                let inside = (p / 16 + top) % 4 * 4 + (p % 16 + left) % 4;
                let value =
                    128.0 + 50.0 * testing::noise(&tile, inside) + 12.0 * testing::noise(&format!("noise {sample}"), p);
                value.clamp(0.0, 255.0) as u8
            })
            .collect::<Vec<u8>>()
    };
    Dataset {
        name: "textures".into(),
        classes: (0..classes).map(|c| c.to_string()).collect(),
        channels: 1,
        height: 16,
        width: 16,
        images: (0..samples).flat_map(image).collect(),
        labels: (0..samples).map(|s| (s % classes) as u32).collect(),
        sample_names: (0..samples).map(|s| s.to_string()).collect(),
        splits: (0..samples).map(|s| if s < train { Split::Train } else { Split::Val }).collect(),
        notes: vec![],
    }
}

/// Three convolutions with batch norm and a classifier on 16x16 images: 13,500 weights, 0.1 million multiply-adds.
fn small_conv_net(classes: usize, seed: u64) -> Graph {
    let build = || -> Result<Graph, sentei_graph::GraphError> {
        let spec = sentei_models::Spec { channels: 1, height: 16, width: 16, classes, seed };
        let mut net = sentei_models::Builder::new(&spec)?;
        for (name, channels, kernel) in [("stem", 12, 5), ("conv1", 24, 3), ("conv2", 48, 3)] {
            net.conv_bn_relu(name, channels, kernel, 2, 1)?;
        }
        net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
        net.linear("logits", 48, classes)?;
        Ok(net.finish())
    };
    build().unwrap()
}

/// The settings are those of the card but for the task: SGD with momentum 0.9, rate 0.1 along a cosine, decay 5e-4, resets
/// every epoch up to three quarters. A pair of runs differs by one to two points either way.
#[test]
fn sign_in_oracle_11_at_95_percent_random_erk_accuracy_holds_and_signs_are_reported_per_layer() {
    const SEEDS: u64 = 6;
    let mut harness = Harness::on(textures());
    let mut gains = Vec::new();
    for seed in 1..=SEEDS {
        let graph = small_conv_net(harness.data.classes.len(), seed);
        let train = TrainConfig {
            epochs: 20,
            batch_size: 24,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false },
            warmup_epochs: 0.0,
            learning_rate: 0.1,
            seed,
            ..TrainConfig::default()
        };
        let mut accuracy = |parameterisation| {
            let prune = PruneConfig {
                start: Start::Fresh,
                score: ScoreConfig::Random,
                distribution: Distribution::Erk,
                sparsity: Some(0.95),
                parameterisation,
                ..PruneConfig::default()
            };
            let outcome = harness.with_run(|run| prune_and_retrain(&graph, &train, &prune, &Device::Cpu, run)).unwrap();
            assert_eq!(outcome.masks.kept(), (outcome.masks.prunable() as f64 * 0.05).round() as usize);
            assert_eq!(outcome.signs.len(), 20);
            for row in &outcome.signs {
                assert_eq!(row.layers.len(), outcome.masks.iter().len());
                for (layer, (name, mask)) in row.layers.iter().zip(outcome.masks.iter()) {
                    assert_eq!((layer.name.as_str(), layer.kept), (name, mask.kept() as u64));
                    assert!(layer.flipped <= layer.kept && layer.stable <= layer.kept);
                }
            }
            let last = outcome.signs.last().unwrap();
            assert!((0.05..0.6).contains(&last.flipped()) && last.stable() > 0.95, "signs settle as the rate falls");
            outcome.epochs.iter().filter_map(|e| e.val_accuracy).fold(0.0, f64::max)
        };
        let plain = accuracy(Parameterisation::Plain);
        let sign_in = accuracy(Parameterisation::SignIn(SignIn::default()));
        assert!(plain > 0.8 && sign_in > 0.8, "{plain} {sign_in}");
        gains.push(sign_in - plain);
    }
    let mean = gains.iter().sum::<f64>() / SEEDS as f64;
    let variance = gains.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64;
    let error = (variance / SEEDS as f64).sqrt();
    // Another machine rounds otherwise and draws other pairs: their standard error is allowed for.
    assert!(mean >= -0.005 - error, "Sign-In against plain: {gains:?}");
}
