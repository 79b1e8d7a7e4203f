//! What holds for every schedule, whatever it is called: these tests walk over all of them.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use sentei_graph::Mask;

use super::*;
use crate::Net;
use crate::config::{OptimizerConfig, TrainConfig};
use crate::distribution::Distribution;
use crate::granularity::Granularity;
use crate::layers::{Layer, PrunableSet, prunable_layers};
use crate::masks::Masks;
use crate::net::Param;
use crate::optim::Optimizer;
use crate::parameterisation::{Alpha, Ham, Parameterisation, SignIn, SrSte};
use crate::score::Magnitude;
use crate::testing;

const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
const ADAMW: OptimizerConfig = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

/// Gradients of a linear loss: dense, so that every removed weight is pulled at every step. An odd seed pulls exactly
/// against the even one before it: HAM multiplies, and would grow without bound under a pull that never turns.
fn pulls(params: &[Param], seed: usize) -> GradStore {
    let term = |p: &Param| {
        let (len, name) = (p.var.elem_count(), format!("pull {} {}", seed / 2, p.name));
        let sign = if seed.is_multiple_of(2) { 1.0 } else { -1.0 };
        let pull: Vec<f32> = (0..len).map(|i| sign * testing::noise(&name, i)).collect();
        let pull = Tensor::from_vec(pull, p.var.shape(), &Device::Cpu).unwrap();
        (p.var.as_tensor() * pull).unwrap().sum_all().unwrap()
    };
    params.iter().map(term).reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap()
}

/// Takes `steps` optimiser steps under a schedule and calls `look` after each with the masks before and after it. The
/// density at the end is a quarter, or that of the pattern.
fn walk(
    schedule: Schedule,
    granularity: Granularity,
    (config, parameterisation): (&TrainConfig, Parameterisation),
    steps: u64,
    mut look: impl FnMut(u64, &Net, &Optimizer, &Masks, &Masks),
) -> Masks {
    let graph = testing::mlp(&[9, 4, 3], None);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let layers: Vec<Layer> = prunable_layers(&graph, PrunableSet::ALL);
    let distribution = Distribution::default();
    let pruner = Pruner { seed: 3, granularity, ..Pruner::new(&layers, &Magnitude, &distribution) };
    let target = granularity.density().unwrap_or(0.25);
    let mut optimizer = Optimizer::new(config, net.vars());
    optimizer.parameterise(parameterisation, net.vars()).unwrap();
    let grads: Vec<GradStore> = (0..62).map(|seed| pulls(net.vars(), seed)).collect();
    // Hidden weights overtake each other only where pulls do not cancel out in pairs.
    let stride = if matches!(schedule, Schedule::Reselect { .. }) { 2 } else { 1 };
    let pull = |step: u64| &grads[(stride * step as usize) % grads.len()];
    let rounds = schedule.rounds(1.0, target);
    let policy = schedule.policy(&pruner, [1.0, target], steps);
    let mut masks = Masks::dense(&layers);
    for step in 0..steps {
        let before = masks.clone();
        // Sign-In balances its factors between epochs; forty of them here.
        if step.is_multiple_of(steps / 40) {
            optimizer.start_epoch(net.vars(), step / (steps / 40), 40).unwrap();
        }
        let mut new = None;
        if let Some(policy) = &policy {
            let view = StepView { step, net: &mut net, grads: pull(step), optimizer: &optimizer, masks: &masks };
            new = policy.remask(view).unwrap().map(|remask| remask.masks);
        }
        let per_round = steps / rounds.len() as u64;
        if schedule.cuts_first() && step % per_round == 0 && step / per_round < rounds.len() as u64 {
            new = Some(pruner.masks(&mut net, &masks, rounds[(step / per_round) as usize]).unwrap());
        }
        if let Some(new) = new {
            optimizer.set_masks(net.vars(), &new).unwrap();
            masks = new;
        }
        optimizer.step(net.vars(), pull(step), 0.01).unwrap();
        look(step, &net, &optimizer, &before, &masks);
    }
    masks
}

/// Panics unless every removed weight is `+0.0`, with its optimiser state.
fn assert_removed_are_zero(step: u64, net: &Net, optimizer: &Optimizer, masks: &Masks) {
    for (param, slot) in net.vars().iter().zip(optimizer.slots()) {
        let Some(mask) = masks.get(&param.name) else { continue };
        let weights = param.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let state = slot.state();
        for (i, keep) in mask.bits().iter().enumerate().filter(|(_, keep)| !**keep) {
            assert!(!keep && weights[i].to_bits() == 0, "step {step}: weight {i} of {} came back", param.name);
            // the factors themselves are another test's
            let moments = state.iter().filter(|(group, _)| group.ends_with("moment"));
            let bits = moments.fold(0, |bits, (_, s)| bits | s.get(i).map_or(0, |v| v.to_bits()));
            assert_eq!(bits, 0, "step {step}: state of weight {i} of {} came back", param.name);
        }
    }
}

/// Every update rule with every penalty and every parameterisation.
fn optimisers() -> Vec<(TrainConfig, Parameterisation)> {
    let ways = [
        Parameterisation::Plain,
        Parameterisation::SignIn(SignIn::default()),
        Parameterisation::Ham(Ham { alpha: Alpha::Fixed(5.0), ..Ham::default() }),
    ];
    let config = |optimizer| TrainConfig { optimizer, weight_decay: 0.01, l1: 1e-4, ..TrainConfig::default() };
    [SGD, ADAMW].into_iter().flat_map(|rule| ways.map(|how| (config(rule), how))).collect()
}

#[test]
fn no_weight_returns_in_100_000_steps_of_any_schedule_that_does_not_regrow() {
    const STEPS: u64 = 100_000;
    for schedule in [Schedule::OneShot, Schedule::Iterative { rounds: 5 }, Schedule::CUBIC] {
        assert!(!schedule.regrows());
        for (config, how) in optimisers() {
            let masks = walk(
                schedule,
                Granularity::Unstructured,
                (&config, how),
                STEPS,
                |step, net, optimizer, before, now| {
                    assert!(now.is_subset_of(before), "{schedule:?} step {step}");
                    assert_removed_are_zero(step, net, optimizer, now);
                },
            );
            assert_eq!(masks.kept(), 12, "a quarter of 48");
        }
    }
}

#[test]
fn schedules_that_regrow_change_the_kept_set_and_keep_exact_counts() {
    const STEPS: u64 = 2_000;
    for schedule in [Schedule::AC_DC, Schedule::RIGL, Schedule::SET] {
        assert!(schedule.regrows());
        for (config, how) in optimisers() {
            let (mut changes, mut returned) = (0, 0);
            let masks = walk(
                schedule,
                Granularity::Unstructured,
                (&config, how),
                STEPS,
                |step, net, optimizer, before, now| {
                    assert_removed_are_zero(step, net, optimizer, now);
                    let counts = |masks: &Masks| masks.iter().map(|(_, m)| m.kept()).collect::<Vec<_>>();
                    if before != now {
                        changes += 1;
                        returned += usize::from(!now.is_subset_of(before));
                        let exchange = matches!(schedule, Schedule::Rigl(_) | Schedule::Set(_)) && step > 0;
                        assert!(!exchange || counts(before) == counts(now), "{schedule:?} step {step}");
                    }
                    let dense_phase = matches!(schedule, Schedule::AcDc { .. }) && now.kept() == 48;
                    assert!(now.kept() == 12 || dense_phase, "{schedule:?} step {step}: {}", now.kept());
                    let settled = step as f64 >= 0.76 * STEPS as f64;
                    assert!(!settled || (before == now && now.kept() == 12), "{schedule:?} step {step}");
                },
            );
            assert!(changes > 5 && returned > 5, "{schedule:?}: {changes} changes, {returned} with returns");
            assert_eq!(masks.kept(), 12);
        }
    }
}

#[test]
fn groups_hold_at_every_one_of_300_steps_of_every_schedule() {
    const STEPS: u64 = 320;
    let (blocks, pattern) = (Granularity::Block { rows: 2, columns: 1 }, Granularity::TWO_OF_FOUR);
    let all = [
        Schedule::OneShot,
        Schedule::Iterative { rounds: 2 },
        Schedule::Cubic { start: 0.1, end: 0.75, every_steps: 10 },
        Schedule::AC_DC,
        Schedule::RIGL,
        Schedule::SET,
    ];
    let (config, how) = optimisers().remove(3);
    for schedule in all {
        let mut changes = 0;
        // fc0.w [4, 9] and fc1.w [3, 4]: in blocks of two rows 18 and 8 groups, the last 4 of them of one weight.
        let masks = walk(schedule, blocks, (&config, how), STEPS, |step, net, optimizer, before, now| {
            assert_removed_are_zero(step, net, optimizer, now);
            changes += usize::from(before != now);
            for (name, inputs) in [("fc0.w", 9), ("fc1.w", 4)] {
                let bits = now.get(name).unwrap().bits();
                for (i, bit) in bits.iter().enumerate().filter(|(i, _)| i / inputs % 2 == 1) {
                    assert_eq!(*bit, bits[i - inputs], "{schedule:?} step {step}: {name} {i}");
                }
            }
        });
        let blocks_of = |name: &str, inputs: usize| {
            let bits = masks.get(name).unwrap().bits().iter().enumerate();
            bits.filter(|(i, keep)| **keep && (i / inputs).is_multiple_of(2)).count()
        };
        assert_eq!(blocks_of("fc0.w", 9) + blocks_of("fc1.w", 4), 7, "{schedule:?}: a quarter of 26, rounded");
        assert!(changes > 0, "{schedule:?}");
        if matches!(schedule, Schedule::Rigl(_) | Schedule::Set(_)) {
            assert!(changes > 3, "{schedule:?} moved blocks, found {changes} changes");
            continue;
        }
        let masks = walk(schedule, pattern, (&config, how), STEPS, |step, net, optimizer, _, now| {
            assert_removed_are_zero(step, net, optimizer, now);
        });
        // Nine inputs keep 2 + 2 + 1, four keep 2.
        let per_row = |name: &str, inputs: usize| {
            masks
                .get(name)
                .unwrap()
                .bits()
                .chunks(inputs)
                .map(|row| row.iter().filter(|b| **b).count())
                .collect::<Vec<_>>()
        };
        assert_eq!((per_row("fc0.w", 9), per_row("fc1.w", 4)), (vec![5; 4], vec![2; 3]), "{schedule:?}");
    }
}

#[test]
fn reselection_keeps_the_largest_hidden_weights_at_every_step_until_its_masks_stand_still() {
    const STEPS: u64 = 400;
    let how = Parameterisation::SrSte(SrSte { lambda: 0.01 });
    for (config, _) in optimisers().into_iter().step_by(3) {
        for granularity in [Granularity::TWO_OF_FOUR, Granularity::Unstructured] {
            let (mut changes, mut returned) = (0, 0);
            let masks =
                walk(Schedule::RESELECT, granularity, (&config, how), STEPS, |step, net, optimizer, before, now| {
                    changes += usize::from(before != now);
                    returned += usize::from(!now.is_subset_of(before));
                    assert!(step <= STEPS * 3 / 4 || before == now, "step {step}: the masks moved after their end");
                    for (param, slot) in net.vars().iter().zip(optimizer.slots()) {
                        let Some(mask) = now.get(&param.name) else { continue };
                        let weights = param.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                        let hidden = slot.hidden.as_ref().unwrap();
                        for (i, keep) in mask.bits().iter().enumerate() {
                            let seen = if *keep { hidden[i] + 0.0 } else { 0.0 };
                            assert_eq!(weights[i].to_bits(), seen.to_bits(), "step {step}: weight {i}");
                        }
                    }
                });
            assert!(changes > 5 && returned > 5, "{granularity}: {changes} changes, {returned} with returns");
            match granularity {
                Granularity::Unstructured => assert_eq!(masks.kept(), 12),
                // Nine inputs keep 2 + 2 + 1, four keep 2.
                _ => assert_eq!(masks.iter().map(|(_, m)| m.kept()).collect::<Vec<_>>(), [4 * 5, 3 * 2]),
            }
        }
    }
}

#[test]
fn rigl_grows_the_largest_gradients_and_set_does_not_look_at_them() {
    let graph = testing::mlp(&[9, 4, 3], None);
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let grads = pulls(net.vars(), 1);
    let optimizer = Optimizer::new(&TrainConfig::default(), net.vars());
    let bits: Vec<bool> = (0..36).map(|i| i % 3 == 0).collect();
    let masks: Masks = [("fc0.w".to_string(), Mask::from_bits(bits.clone()))].into_iter().collect();
    let exchanges = Exchanges { every_steps: 1, end: 100 };
    let distribution = Distribution::default();
    let pruner = |seed| Pruner { seed, ..Pruner::new(&[], &Magnitude, &distribution) };
    let grown = |net: &mut Net, policy: &dyn MaskPolicy| {
        let view = StepView { step: 1, net, grads: &grads, optimizer: &optimizer, masks: &masks };
        policy.remask(view).unwrap().unwrap().masks.get("fc0.w").unwrap().bits().to_vec()
    };
    let by_gradient = grown(&mut net, &Rigl { pruner: &pruner(0), exchanges, fraction: 0.5 });
    let pull = |i: usize| testing::noise("pull 0 fc0.w", i).abs();
    let away = (0..36).filter(|i| !by_gradient[*i]).map(pull).fold(0.0, f32::max);
    for i in (0..36).filter(|i| by_gradient[*i] && !bits[*i]) {
        assert!(pull(i) >= away, "weight {i} was grown before one with a larger gradient");
    }
    let random = |net: &mut Net, seed| grown(net, &Set { pruner: &pruner(seed), exchanges, fraction: 0.5 });
    assert_eq!(random(&mut net, 1), random(&mut net, 1));
    assert_ne!(random(&mut net, 1), random(&mut net, 2));
}

#[test]
fn rounds_keep_the_same_fraction_each_and_end_exactly() {
    let densities = Schedule::Iterative { rounds: 3 }.rounds(1.0, 0.001);
    for (found, expected) in densities.iter().zip([0.1, 0.01, 0.001]) {
        assert!((found - expected).abs() < 1e-12);
    }
    assert_eq!(densities[2], 0.001);
    assert_eq!(Schedule::OneShot.rounds(1.0, 0.3), [0.3]);
}

#[test]
fn ramps_that_run_backwards_are_refused() {
    assert!(Schedule::Cubic { start: 0.8, end: 0.2, every_steps: 1 }.check().is_err());
    assert!(Schedule::Iterative { rounds: 0 }.check().is_err());
    assert_eq!(Schedule::Cubic { start: 0.0, end: 1.0, every_steps: 1 }.check(), Ok(()));
}
