use std::path::Path;

use candle_core::Device;

use super::*;
use crate::checkpoint::CheckpointError;
use crate::config::OptimizerConfig;
use crate::distribution::Distribution;
use crate::layers::{PrunableSet, prunable_layers};
use crate::schedule::{Cubic, Gradual};
use crate::score::{Magnitude, Pruner};
use crate::testing::{self, Harness, bits};

pub(super) const ADAMW: OptimizerConfig = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

pub(super) fn config(optimizer: OptimizerConfig) -> TrainConfig {
    let augment = crate::config::AugmentConfig { shift: 1, brightness: 0.05, ..Default::default() };
    TrainConfig { epochs: 6, batch_size: 16, optimizer, learning_rate: 0.02, augment, ..TrainConfig::default() }
}

/// Trains along a cubic ramp to 80 % sparsity and returns the final bytes.
fn ramp_run(
    harness: &mut Harness,
    config: &TrainConfig,
    graph: &sentei_graph::Graph,
) -> Result<(Vec<u32>, Trained), TrainError> {
    let mut net = Net::new(graph, &Device::Cpu)?;
    let layers = prunable_layers(graph, PrunableSet::ALL);
    let distribution = Distribution::default();
    let pruner = Pruner::new(&layers, &Magnitude, &distribution);
    let ramp = Gradual { ramp: Cubic { from: 0.0, to: 0.8, start: 5, span: 25 }, every_steps: 4, pruner: &pruner };
    let masks = Masks::dense(&layers);
    let dropout = crate::dropout::dropout_rules(graph);
    let plan = Plan { dropout: &dropout, policy: Some(&ramp), ..Plan::new("ramp", config, &masks) };
    let trained = harness.with_run(|run| train(&mut net, plan, run))?;
    Ok((bits(&net.to_graph()?), trained))
}

fn plain<'a>(config: &'a TrainConfig, masks: &'a Masks) -> Plan<'a> {
    Plan::new("train", config, masks)
}

#[test]
fn training_learns_and_reports_every_epoch() {
    let mut harness = Harness::new();
    let mut net = Net::new(&testing::mlp(&[16, 32, 3], None), &Device::Cpu).unwrap();
    let config = TrainConfig { epochs: 20, ..config(ADAMW) };
    let trained = harness.with_run(|run| train(&mut net, plain(&config, &Masks::default()), run)).unwrap();
    assert_eq!(trained.rows.len(), 20);
    let val = harness.data.indices(Split::Val);
    let kept = evaluate(&mut net, &harness.data, &val, &harness.normalise).unwrap();
    assert!(kept.accuracy() > 0.85, "{}", kept.accuracy());
    let best = trained.rows.iter().filter_map(|r| r.val_accuracy).fold(0.0, f64::max);
    assert_eq!(kept.accuracy(), best);
    assert_eq!(trained.rows[trained.best_epoch as usize - 1].val_accuracy, Some(best));
    let epochs = harness.events.iter().filter(|e| matches!(e, Event::Epoch(_))).count();
    let steps = harness.events.iter().filter(|e| matches!(e, Event::Progress { .. })).count();
    assert_eq!((epochs, steps), (20, 20 * (180 / 16)));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let graph = testing::mlp(&[16, 12, 3], Some(0.3));
    let run = |seed| ramp_run(&mut Harness::new(), &TrainConfig { seed, ..config(ADAMW) }, &graph).unwrap().0;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_test_split_is_not_looked_at() {
    let mut other = testing::dataset();
    let test = other.indices(Split::Test);
    for &i in &test {
        other.images[i * 16..(i + 1) * 16].fill(0);
        other.labels[i] = 0;
    }
    let graph = testing::mlp(&[16, 12, 3], None);
    let run = |data| ramp_run(&mut Harness::on(data), &config(ADAMW), &graph).unwrap().0;
    assert_eq!(run(testing::dataset()), run(other));
}

#[test]
fn a_ramp_prunes_to_the_target_and_keeps_an_epoch_of_the_final_masks() {
    for optimizer in [ADAMW, OptimizerConfig::default()] {
        let graph = testing::depthwise_net();
        let mut harness = Harness::new();
        let (_, trained) = ramp_run(&mut harness, &config(optimizer), &graph).unwrap();
        assert_eq!(trained.masks.kept(), (trained.masks.prunable() as f64 * 0.2).round() as usize);
        assert!(
            trained.best_epoch >= 3,
            "the ramp ends at step 30, in epoch 3 of 11 steps; kept {}",
            trained.best_epoch
        );
        let removals = harness.events.iter().filter(|e| matches!(e, Event::PruneStep { .. })).count();
        assert_eq!(removals, 8, "steps 5, 9, .. 29 and the end of the ramp, 30");
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    for (graph, optimizer) in
        [(testing::mlp(&[16, 12, 3], Some(0.3)), OptimizerConfig::default()), (testing::depthwise_net(), ADAMW)]
    {
        let whole = ramp_run(&mut Harness::new(), &config(optimizer), &graph).unwrap();
        for steps in [0, 3, 11, 29, 47, 65] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("checkpoint.safetensors");
            let mut harness = Harness::new();
            harness.checkpoint = Some(Checkpointing { path, resume: true });
            harness.stop = Stop::after(steps);
            let stopped = ramp_run(&mut harness, &config(optimizer), &graph);
            assert!(matches!(stopped, Err(TrainError::Stopped { step, .. }) if step == steps), "{steps}");
            harness.stop = Stop::never();
            let (found, trained) = ramp_run(&mut harness, &config(optimizer), &graph).unwrap();
            assert!(found == whole.0, "killed after {steps} steps");
            assert_eq!((trained.masks, trained.best_epoch), (whole.1.masks.clone(), whole.1.best_epoch));
        }
    }
}

#[test]
fn a_finished_run_resumes_to_its_own_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new();
    harness.checkpoint = Some(Checkpointing { path: folder.path().join("c"), resume: true });
    let graph = testing::mlp(&[16, 12, 3], None);
    let first = ramp_run(&mut harness, &config(ADAMW), &graph).unwrap();
    harness.stop = Stop::after(0);
    assert_eq!(ramp_run(&mut harness, &config(ADAMW), &graph).unwrap().0, first.0);
}

#[test]
fn resuming_under_another_configuration_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let graph = testing::mlp(&[16, 12, 3], None);
    let mut harness = Harness::new();
    harness.checkpoint = Some(Checkpointing { path: folder.path().join("c"), resume: true });
    harness.stop = Stop::after(20);
    assert!(ramp_run(&mut harness, &config(ADAMW), &graph).is_err());
    harness.stop = Stop::never();
    let key = |harness: &mut Harness, config: &TrainConfig, graph: &sentei_graph::Graph| match ramp_run(
        harness, config, graph,
    ) {
        Err(TrainError::Checkpoint(CheckpointError::Differs { key, .. })) => key,
        other => panic!("expected a refusal, found {:?}", other.map(|(_, t)| t.best_epoch)),
    };
    assert_eq!(key(&mut harness, &TrainConfig { learning_rate: 0.03, ..config(ADAMW) }, &graph), "train.learning_rate");
    assert_eq!(key(&mut harness, &config(ADAMW), &testing::mlp(&[16, 13, 3], None)), "start");
    let mut data = testing::dataset();
    data.images[0] ^= 1;
    harness.data = Arc::new(data);
    assert_eq!(key(&mut harness, &config(ADAMW), &graph), "data");
}

#[test]
fn a_loss_that_is_not_finite_names_the_epoch_and_the_flag() {
    let mut harness = Harness::new();
    let mut net = Net::new(&testing::mlp(&[16, 12, 3], None), &Device::Cpu).unwrap();
    let config = TrainConfig { learning_rate: 1e30, warmup_epochs: 0.0, ..config(OptimizerConfig::default()) };
    let error =
        harness.with_run(|run| train(&mut net, plain(&config, &Masks::default()), run)).unwrap_err().to_string();
    assert!(error.contains("in epoch 1") && error.contains("--learning-rate"), "{error}");
}

#[test]
fn frozen_parameters_keep_their_bytes() {
    let mut harness = Harness::new();
    let graph = testing::mlp(&[16, 12, 3], None);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let frozen = ["fc0.w".to_string(), "fc0.b".to_string()];
    let (config, masks) = (config(ADAMW), Masks::default());
    let plan = Plan { frozen: &frozen, ..plain(&config, &masks) };
    harness.with_run(|run| train(&mut net, plan, run)).unwrap();
    let of = |graph: &sentei_graph::Graph, name: &str| graph.initializer(graph.value(name).unwrap()).unwrap().clone();
    let after = net.to_graph().unwrap();
    assert_eq!(of(&after, "fc0.w"), of(&graph, "fc0.w"));
    assert_ne!(of(&after, "fc1.w"), of(&graph, "fc1.w"));
}

#[test]
fn balanced_class_weights_undo_the_counts() {
    let mut data = testing::dataset();
    for (i, split) in data.splits.iter_mut().enumerate() {
        if *split == Split::Train && data.labels[i] == 2 && i % 2 == 0 {
            *split = Split::Dropped;
        }
    }
    let counts = data.class_counts(Split::Train);
    assert_eq!(counts, [60, 60, 30]);
    let weights = class_weights(ClassWeights::Balanced, &data).unwrap();
    assert_eq!(weights, [150.0 / 180.0, 150.0 / 180.0, 150.0 / 90.0]);
    assert_eq!(class_weights(ClassWeights::None, &data), None);
}

#[test]
fn a_checkpoint_that_cannot_be_written_names_its_path() {
    let mut harness = Harness::new();
    let path = Path::new("no-such-folder").join("c.safetensors");
    harness.checkpoint = Some(Checkpointing { path, resume: false });
    let error = ramp_run(&mut harness, &config(ADAMW), &testing::mlp(&[16, 12, 3], None)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no-such-folder"), "{error}");
}

#[test]
fn one_and_two_threads_train_to_the_same_bytes() {
    let graph = testing::depthwise_net();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ramp_run(&mut Harness::new(), &config(ADAMW), &graph).unwrap().0)
    };
    assert!(run(1) == run(2));
}
