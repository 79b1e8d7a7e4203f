use super::*;
use crate::checkpoint::{CheckpointError, Checkpointing};
use crate::config::{OptimizerConfig, Retrain, Start};
use crate::distribution::Distribution;
use crate::granularity::Granularity;
use crate::methods::method;
use crate::parameterisation::{Parameterisation, SrSte};
use crate::schedule::{Exchange, Schedule};
use crate::testing::{self, Harness, bits};
use crate::train::{Plan, Stop, train};
use sentei_report::events::Event;

fn train_config() -> TrainConfig {
    let optimizer = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    TrainConfig { epochs: 25, batch_size: 16, optimizer, learning_rate: 0.02, ..TrainConfig::default() }
}

fn iterative(sparsity: f64, epochs: u64) -> PruneConfig {
    PruneConfig {
        sparsity: Some(sparsity),
        schedule: Schedule::Iterative { rounds: 3 },
        retrain: Retrain { epochs, learning_rate_factor: 0.5, ..Retrain::default() },
        ..PruneConfig::default()
    }
}

/// A trained network on the synthetic task.
fn trained(graph: &Graph) -> Graph {
    let mut net = Net::new(graph, &Device::Cpu).unwrap();
    let config = train_config();
    let masks = Masks::default();
    Harness::new().with_run(|run| train(&mut net, Plan::new("train", &config, &masks), run)).unwrap();
    net.to_graph().unwrap()
}

fn prune(graph: &Graph, config: &PruneConfig, harness: &mut Harness) -> Result<PruneOutcome, TrainError> {
    harness.with_run(|run| prune_and_retrain(graph, &train_config(), config, &Device::Cpu, run))
}

#[test]
fn magnitude_oracle_10_retraining_helps_by_a_wide_margin() {
    let dense = trained(&testing::mlp(&[16, 48, 3], None));
    let without = PruneConfig { schedule: Schedule::OneShot, ..iterative(0.9, 0) };
    let without = prune(&dense, &without, &mut Harness::new()).unwrap().history[0].accuracy_after.unwrap();
    let with = prune(&dense, &iterative(0.9, 10), &mut Harness::new()).unwrap();
    let with = with.history.last().unwrap().accuracy_after.unwrap();
    assert!(with > without + 0.1, "{without} without, {with} with retraining");
}

#[test]
fn magnitude_oracle_6_masks_of_successive_rounds_are_nested() {
    let dense = trained(&testing::mlp(&[16, 24, 3], None));
    let prunable = prunable_layers(&dense, crate::PrunableSet::ALL);
    let config = iterative(0.9, 2);
    let stages = stages(&dense, &prunable, &config).unwrap();
    assert_eq!(stages.len(), 3);
    let after = |rounds: usize| {
        let mut net = Net::new(&dense, &Device::Cpu).unwrap();
        let run = |run: &mut Run| {
            let origin = Origin { teacher: None, initial: None };
            Rounds::new(&mut net, &train_config(), &config, &prunable, origin, run)?.run(&stages[..rounds])
        };
        Harness::new().with_run(run).unwrap().masks
    };
    let masks: Vec<Masks> = (0..=3).map(after).collect();
    for (earlier, later) in masks.iter().zip(&masks[1..]) {
        assert!(later.is_subset_of(earlier) && later.kept() < earlier.kept());
    }
}

#[test]
fn the_masks_are_the_zero_pattern_and_the_count_is_exact() {
    let dense = trained(&testing::depthwise_net());
    for schedule in
        [Schedule::OneShot, Schedule::Iterative { rounds: 2 }, Schedule::Cubic { start: 0.0, end: 0.7, every_steps: 3 }]
    {
        let config = PruneConfig { schedule, ..iterative(0.7, 3) };
        let outcome = prune(&dense, &config, &mut Harness::new()).unwrap();
        let names: Vec<&str> = outcome.masks.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["stem.w", "pw.w", "fc.w"], "depthwise kernels stay");
        assert_eq!(outcome.masks.kept(), (outcome.masks.prunable() as f64 * 0.3).round() as usize);
        let prunable = prunable_layers(&dense, config.prunable_set());
        assert_eq!(Masks::of_zeros(&outcome.graph, &prunable), outcome.masks);
        for (id, tensor) in outcome.graph.initializers() {
            let masked = outcome.masks.get(outcome.graph.name(id)).is_some();
            assert!(!masked || tensor.data.iter().all(|v| v.to_bits() != (-0.0f32).to_bits()));
        }
    }
}

#[test]
fn a_threshold_prunes_by_round_and_takes_no_sparsity() {
    let dense = trained(&testing::mlp(&[16, 24, 3], None));
    let distribution =
        Distribution::StdThreshold { quality: 0.6, layers: Default::default(), std_over: Default::default() };
    let config = PruneConfig { sparsity: None, distribution, ..iterative(0.0, 1) };
    let outcome = prune(&dense, &config, &mut Harness::new()).unwrap();
    let densities: Vec<f64> = outcome.history.iter().map(|r| r.density).collect();
    assert_eq!(densities.len(), 3);
    assert!(densities[0] < 0.8 && densities[1] < densities[0] && densities[2] < densities[1], "{densities:?}");
    assert!(outcome.history.iter().all(|r| r.target_density.is_none()));
}

#[test]
fn a_round_over_the_error_budget_is_undone_and_ends_the_pruning() {
    let dense = trained(&testing::mlp(&[16, 24, 3], None));
    let config = PruneConfig { error_budget_points: Some(5.0), ..iterative(0.985, 1) };
    let config = PruneConfig { distribution: Distribution::Global { floor: 0.005 }, ..config };
    let outcome = prune(&dense, &config, &mut Harness::new()).unwrap();
    let last = outcome.history.last().unwrap();
    assert!(last.undone, "{:?}", outcome.history);
    let before = outcome.history.iter().rev().nth(1).map_or(1.0, |r| r.density);
    assert_eq!(outcome.masks.density(), before);
    let net_accuracy =
        outcome.history.iter().rev().find(|r| !r.undone).map_or(outcome.dense_accuracy, |r| r.accuracy_after);
    assert!(outcome.dense_accuracy.unwrap() - net_accuracy.unwrap() <= 0.05);
}

#[test]
fn alternating_groups_freeze_each_other() {
    let dense = trained(&testing::depthwise_net());
    let prunable = prunable_layers(&dense, crate::PrunableSet { first: true, last: true, depthwise: false });
    let config = PruneConfig { groups: Groups::Alternate, ..iterative(0.5, 1) };
    let stages = stages(&dense, &prunable, &config).unwrap();
    let brief: Vec<(u64, &str, usize)> = stages.iter().map(|s| (s.round, s.group, s.layers.len())).collect();
    assert_eq!(brief[..2], [(1, "linear", 1), (1, "conv", 2)]);
    assert_eq!(brief.len(), 6);
    assert_eq!(stages[0].frozen, ["stem.w", "dw.w", "pw.w"]);
    assert_eq!(stages[1].frozen, ["fc.w", "fc.b"]);
    let outcome = prune(&dense, &config, &mut Harness::new()).unwrap();
    assert_eq!(outcome.masks.get("fc.w").unwrap().kept(), 12);
}

#[test]
fn dropout_shrinks_with_the_layer_before_it() {
    let dense = trained(&testing::mlp(&[16, 24, 3], Some(0.4)));
    let config = PruneConfig { distribution: Distribution::Uniform, schedule: Schedule::OneShot, ..iterative(0.75, 1) };
    let row = prune(&dense, &config, &mut Harness::new()).unwrap().history.remove(0);
    assert_eq!(row.dropout.len(), 1);
    assert!((row.dropout[0].1 - 0.2).abs() < 1e-6, "0.4 * sqrt(0.25), found {}", row.dropout[0].1);
    let config = PruneConfig { adjust_dropout: false, ..config };
    assert!(prune(&dense, &config, &mut Harness::new()).unwrap().history[0].dropout.is_empty());
}

#[test]
fn a_killed_pruning_resumes_to_the_same_bytes_in_any_round() {
    let dense = trained(&testing::mlp(&[16, 12, 3], Some(0.3)));
    let config = iterative(0.85, 2);
    let whole = prune(&dense, &config, &mut Harness::new()).unwrap();
    for steps in [0, 5, 15, 22, 30, 43, 60] {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new();
        harness.checkpoint = Some(Checkpointing { path: folder.path().join("c.safetensors"), resume: true });
        harness.stop = Stop::after(steps);
        assert!(matches!(prune(&dense, &config, &mut harness), Err(TrainError::Stopped { .. })), "{steps}");
        harness.stop = Stop::never();
        let resumed = prune(&dense, &config, &mut harness).unwrap();
        assert!(bits(&resumed.graph) == bits(&whole.graph), "killed after {steps} steps");
        assert_eq!((&resumed.masks, resumed.history.len()), (&whole.masks, whole.history.len()));
    }
}

#[test]
fn a_new_run_leaves_no_epochs_of_an_earlier_one_to_its_resume() {
    let dense = trained(&testing::mlp(&[16, 12, 3], None));
    let folder = tempfile::tempdir().unwrap();
    let at = |resume| Some(Checkpointing { path: folder.path().join("c.safetensors"), resume });
    let mut harness = Harness::new();
    // The first run is stopped in its second epoch, the second run before its first epoch is saved.
    for (sparsity, steps) in [(0.6, 15), (0.8, 3)] {
        harness.checkpoint = at(false);
        harness.stop = Stop::after(steps);
        let stopped = prune(&dense, &iterative(sparsity, 2), &mut harness);
        assert!(matches!(stopped, Err(TrainError::Stopped { .. })), "{stopped:?}");
    }
    harness.checkpoint = at(true);
    harness.stop = Stop::never();
    let resumed = prune(&dense, &iterative(0.8, 2), &mut harness).unwrap();
    let whole = prune(&dense, &iterative(0.8, 2), &mut Harness::new()).unwrap();
    assert!(bits(&resumed.graph) == bits(&whole.graph));
}

#[test]
fn resuming_with_another_density_names_the_key() {
    let dense = testing::mlp(&[16, 12, 3], None);
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new();
    harness.checkpoint = Some(Checkpointing { path: folder.path().join("c.safetensors"), resume: true });
    harness.stop = Stop::after(3);
    assert!(prune(&dense, &iterative(0.8, 2), &mut harness).is_err());
    harness.stop = Stop::never();
    match prune(&dense, &iterative(0.9, 2), &mut harness) {
        Err(TrainError::Checkpoint(CheckpointError::Differs { key, saved, now, .. })) => {
            assert_eq!((key.as_str(), saved.as_str(), now.as_str()), ("prune.sparsity", "0.8", "0.9"));
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn rounds_done_under_another_pixel_scaling_or_teacher_are_not_taken() {
    let [dense, other] = [12, 8].map(|width| testing::mlp(&[16, width, 3], None));
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new();
    harness.checkpoint = Some(Checkpointing { path: folder.path().join("c.safetensors"), resume: true });
    let short = TrainConfig { epochs: 1, ..train_config() };
    let (distill, schedule) = (Some(Default::default()), Schedule::OneShot);
    let config = PruneConfig { distill, schedule, start: Start::Fresh, ..iterative(0.8, 1) };
    let pruned = |harness: &mut Harness, teacher: &Graph| {
        harness.with_run(|run| prune_from(&dense, Some(teacher), &short, &config, &Device::Cpu, run))
    };
    // All rounds are done, so that nothing is left whose own checkpoint could notice.
    pruned(&mut harness, &dense).unwrap();
    let differs = |found: Result<PruneOutcome, TrainError>| match found {
        Err(TrainError::Checkpoint(CheckpointError::Differs { key, .. })) => key,
        other => panic!("expected a refusal, found {other:?}"),
    };
    assert_eq!(differs(pruned(&mut harness, &other)), "teacher");
    harness.normalise.std[0] *= 2.0;
    assert_eq!(differs(pruned(&mut harness, &dense)), "normalise.std");
}

#[test]
fn a_layer_that_would_be_emptied_is_named() {
    let graph = testing::mlp(&[16, 12, 3], None);
    let config = PruneConfig { distribution: Distribution::Uniform, ..iterative(0.99, 1) };
    let error = prune(&graph, &config, &mut Harness::new()).unwrap_err().to_string();
    assert!(error.contains("layer collapse: `fc1.w`"), "{error}");
}

#[test]
fn pruning_alone_needs_no_data_and_leaves_survivors_as_they_are() {
    let graph = testing::mlp(&[16, 12, 3], None);
    let outcome = prune_only(&graph, &iterative(0.75, 5), 0).unwrap();
    assert_eq!(outcome.masks.kept(), 57);
    for ((_, before), (_, after)) in graph.initializers().zip(outcome.graph.initializers()) {
        assert!(before.data.iter().zip(&after.data).all(|(b, a)| *a == 0.0 || a == b));
    }
    assert!(outcome.history.is_empty());
}

#[test]
fn dead_units_are_listed_and_compacted_to_the_same_outputs() {
    let mut graph = testing::mlp(&[16, 12, 3], None);
    let id = graph.value("fc0.w").unwrap();
    let mut weights = graph.initializer(id).unwrap().clone();
    weights.data[16..48].iter_mut().for_each(|w| *w *= 1e-6);
    graph.set_initializer(id, weights);
    let outcome = prune_only(&graph, &iterative(0.4, 1), 0).unwrap();
    assert_eq!(outcome.dead_units.len(), 1);
    assert!(outcome.dead_units[0].contains("fc0: 12 -> "), "{:?}", outcome.dead_units);
    let image = sentei_graph::Tensor::new([2, 1, 4, 4], (0..32).map(|i| testing::noise("x", i)).collect());
    let outputs =
        [&outcome.graph, &outcome.compacted].map(|g| g.eval(std::slice::from_ref(&image)).unwrap().remove(0).data);
    assert!(outputs[0].iter().zip(&outputs[1]).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// Every schedule from initial weights, at a density of 0.2.
fn fresh(schedule: Schedule) -> PruneConfig {
    let parameterisation = match schedule {
        Schedule::Reselect { .. } => Parameterisation::SrSte(SrSte::default()),
        _ => Parameterisation::Plain,
    };
    PruneConfig { start: Start::Fresh, sparsity: Some(0.8), schedule, parameterisation, ..PruneConfig::default() }
}

const EXCHANGES: [Schedule; 6] = [
    Schedule::OneShot,
    Schedule::Cubic { start: 0.1, end: 0.7, every_steps: 3 },
    Schedule::AC_DC,
    Schedule::Rigl(Exchange { every_steps: 7, fraction: 0.3, end: 0.75 }),
    Schedule::Set(Exchange { every_steps: 7, fraction: 0.3, end: 0.75 }),
    Schedule::RESELECT,
];

#[test]
fn every_schedule_trains_fresh_weights_for_the_whole_budget_to_the_exact_count() {
    let graph = testing::mlp(&[16, 24, 3], None);
    for schedule in EXCHANGES {
        let outcome = prune(&graph, &fresh(schedule), &mut Harness::new()).unwrap();
        assert_eq!(outcome.epochs.len() as u64, train_config().epochs);
        assert_eq!(outcome.masks.kept(), (outcome.masks.prunable() as f64 * 0.2).round() as usize, "{schedule:?}");
        let zeros = Masks::of_zeros(&outcome.graph, &prunable_layers(&graph, crate::PrunableSet::ALL));
        assert!(zeros.is_subset_of(&outcome.masks), "{schedule:?}");
        assert!(zeros == outcome.masks || schedule.regrows(), "{schedule:?}");
        let accuracy = outcome.history[0].accuracy_after.unwrap();
        assert!(accuracy > 0.6, "{schedule:?}: {accuracy}, chance is 0.33");
    }
}

#[test]
fn a_killed_training_under_any_schedule_resumes_to_the_same_bytes() {
    let graph = testing::mlp(&[16, 12, 3], Some(0.3));
    let short = TrainConfig { epochs: 6, ..train_config() };
    let prune = |graph: &Graph, config: &PruneConfig, harness: &mut Harness| {
        harness.with_run(|run| prune_and_retrain(graph, &short, config, &Device::Cpu, run))
    };
    for schedule in EXCHANGES {
        let whole = prune(&graph, &fresh(schedule), &mut Harness::new()).unwrap();
        for steps in [5, 9, 33, 50, 63] {
            let folder = tempfile::tempdir().unwrap();
            let mut harness = Harness::new();
            harness.checkpoint = Some(Checkpointing { path: folder.path().join("c.safetensors"), resume: true });
            harness.stop = Stop::after(steps);
            assert!(matches!(prune(&graph, &fresh(schedule), &mut harness), Err(TrainError::Stopped { .. })));
            harness.stop = Stop::never();
            let resumed = prune(&graph, &fresh(schedule), &mut harness).unwrap();
            assert!(bits(&resumed.graph) == bits(&whole.graph), "{schedule:?} killed after {steps} steps");
            assert_eq!(resumed.masks, whole.masks);
        }
    }
}

#[test]
fn only_epochs_with_the_final_masks_are_chosen_after_dense_phases() {
    let graph = testing::mlp(&[16, 24, 3], None);
    let schedule = Schedule::AcDc { warm_up: 0.5, phase: 0.1, last: 0.1 };
    let outcome = prune(&graph, &fresh(schedule), &mut Harness::new()).unwrap();
    let dense = outcome.epochs.iter().filter(|e| e.density == 1.0).count();
    assert!(dense > 10, "{dense} epochs ended dense");
    assert_eq!(outcome.masks.kept(), (outcome.masks.prunable() as f64 * 0.2).round() as usize);
    assert_eq!(Masks::of_zeros(&outcome.graph, &prunable_layers(&graph, crate::PrunableSet::ALL)), outcome.masks);
}

#[test]
fn sr_ste_ends_with_two_of_every_four_and_takes_an_epoch_with_those_masks() {
    let graph = testing::depthwise_net();
    let config = method("sr-ste").unwrap().configure(&PruneConfig::default());
    let mut harness = Harness::new();
    let outcome = prune(&graph, &config, &mut harness).unwrap();
    for name in ["pw.w", "fc.w"] {
        let tensor = outcome.graph.initializer(outcome.graph.value(name).unwrap()).unwrap();
        assert_eq!(tensor.shape[2..].iter().product::<usize>(), 1, "so that groups are neighbours");
        for group in tensor.data.chunks(4) {
            assert_eq!(group.iter().filter(|w| w.to_bits() != 0).count(), 2, "{name}: {group:?}");
        }
    }
    assert_eq!(outcome.masks.get("stem.w").unwrap().kept(), 36, "one input channel: no groups");
    let changes = harness.events.iter().filter_map(|e| match e {
        Event::PruneStep { step, .. } => Some(*step),
        _ => None,
    });
    let (last, steps_per_epoch) = (changes.max().unwrap(), 180 / 16);
    assert!(last > 2 * steps_per_epoch, "masks moved for more than two epochs, until step {last}");
    let settled = outcome.epochs.iter().filter(|e| e.epoch * steps_per_epoch > last);
    let best = settled.filter_map(|e| e.val_accuracy).fold(0.0, f64::max);
    assert_eq!(outcome.history[0].accuracy_after, Some(best), "the weights are those of an epoch with the final masks");
}

#[test]
fn sr_ste_leaves_a_bad_first_mask_that_magnitude_at_the_start_is_bound_to() {
    // Of every four pixels the first two are noise, and have the large initial weights; the class is in the other two.
    let mut data = testing::dataset();
    let pixels = data.images.chunks_mut(16).zip(&data.labels).enumerate();
    for (sample, (image, label)) in pixels {
        for (p, pixel) in image.iter_mut().enumerate() {
            let template = if p % 4 < 2 { 0.0 } else { testing::noise(&format!("class {label}"), p) };
            *pixel = (128.0 + 60.0 * template + 60.0 * testing::noise(&format!("pixel {sample}"), p)) as u8;
        }
    }
    for seed in 0..3 {
        let mut graph = testing::mlp(&[16, 3], None);
        let weight = graph.value("fc0.w").unwrap();
        let scale = |i: usize| if i % 4 < 2 { 0.1 } else { 0.001 };
        let start = (0..48).map(|i| scale(i) * testing::noise(&format!("start {seed}"), i).signum()).collect();
        graph.set_initializer(weight, sentei_graph::Tensor::new([3, 16], start));
        let accuracy = |name: &str| {
            let config = method(name).unwrap().configure(&PruneConfig::default());
            let config = PruneConfig { granularity: Granularity::TWO_OF_FOUR, ..config };
            let outcome = prune(&graph, &config, &mut Harness::on(data.clone())).unwrap();
            let useful = outcome.masks.get("fc0.w").unwrap().bits().iter().enumerate();
            let useful = useful.filter(|(i, keep)| **keep && i % 4 >= 2).count();
            (outcome.history[0].accuracy_after.unwrap(), useful)
        };
        let (bound, kept) = accuracy("magnitude-init");
        assert!(kept == 0 && bound < 0.55, "{bound} with {kept} of 24 useful weights, chance is 0.33");
        let (free, kept) = accuracy("sr-ste");
        assert!(kept > 12 && free > bound + 0.25, "seed {seed}: {free} with {kept} useful weights, {bound} bound");
    }
}

#[test]
fn weight_rewinding_is_training_the_initial_weights_under_the_trained_masks() {
    let initial = testing::mlp(&[16, 24, 3], None);
    let dense = trained(&initial);
    let config = PruneConfig {
        sparsity: Some(0.8),
        retrain: Retrain { rewind: Some(1.0), rewind_weights: true, ..Retrain::default() },
        ..PruneConfig::default()
    };
    let train_config = train_config();
    let rewound = |run: &mut Run| prune_from(&initial, Some(&dense), &train_config, &config, &Device::Cpu, run);
    let rewound = Harness::new().with_run(rewound).unwrap();
    let masks = prune_only(&dense, &config, 0).unwrap().masks;
    assert_eq!(rewound.masks, masks);
    let mut net = Net::new(&initial, &Device::Cpu).unwrap();
    Harness::new().with_run(|run| train(&mut net, Plan::new("train", &train_config, &masks), run)).unwrap();
    assert!(bits(&net.to_graph().unwrap()) == bits(&rewound.graph));
    let alone = prune(&dense, &config, &mut Harness::new());
    assert!(matches!(alone, Err(TrainError::NoInitialWeights)), "{alone:?}");
}

#[test]
fn learning_rate_rewinding_replays_the_last_epochs() {
    let dense = trained(&testing::mlp(&[16, 24, 3], None));
    let config = PruneConfig { retrain: Retrain { rewind: Some(0.4), ..Retrain::default() }, ..iterative(0.8, 0) };
    let config = PruneConfig { schedule: Schedule::OneShot, ..config };
    let again = |rewind| PruneConfig { retrain: Retrain { rewind, ..Retrain::default() }, ..config.clone() };
    let rates = |rewind| {
        let outcome = prune(&dense, &again(Some(rewind)), &mut Harness::new()).unwrap();
        outcome.epochs.iter().map(|e| e.learning_rate).collect::<Vec<f64>>()
    };
    let (whole, end) = (rates(1.0), rates(0.4));
    assert_eq!((whole.len(), end.len()), (25, 10));
    assert_eq!(whole[15..], end[..]);
}

#[test]
fn a_teacher_changes_the_training_and_must_be_there() {
    let initial = testing::mlp(&[16, 24, 3], None);
    let dense = trained(&initial);
    let plain = fresh(Schedule::OneShot);
    let taught = PruneConfig { distill: Some(crate::Distill::default()), ..plain.clone() };
    let run = |config: &PruneConfig, trained: Option<&Graph>| {
        Harness::new().with_run(|run| prune_from(&initial, trained, &train_config(), config, &Device::Cpu, run))
    };
    let (alone, with) = (run(&plain, Some(&dense)).unwrap(), run(&taught, Some(&dense)).unwrap());
    assert_eq!(alone.masks, with.masks, "the teacher has no say in the masks");
    assert!(bits(&alone.graph) != bits(&with.graph));
    assert!(with.history[0].accuracy_after.unwrap() > 0.6);
    assert!(matches!(run(&taught, None), Err(TrainError::NoTrainedParent)));
}
