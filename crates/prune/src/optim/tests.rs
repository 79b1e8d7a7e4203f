use super::*;
use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use sentei_graph::Role;

pub(super) fn param(name: &str, role: Role, values: &[f32]) -> Param {
    Param { name: name.into(), role, var: Var::from_slice(values, values.len(), &Device::Cpu).unwrap() }
}

/// Gradients `grads[i]` for `params[i]`, by way of a linear loss.
pub(super) fn store(params: &[Param], grads: &[Vec<f32>]) -> GradStore {
    let term = |(p, g): (&Param, &Vec<f32>)| {
        (p.var.as_tensor() * Tensor::from_slice(g, g.len(), &Device::Cpu).unwrap()).unwrap().sum_all().unwrap()
    };
    let terms: Vec<Tensor> = params.iter().zip(grads).map(term).collect();
    terms.into_iter().reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap()
}

pub(super) fn values(param: &Param) -> Vec<f32> {
    param.var.to_vec1().unwrap()
}

pub(super) fn config(optimizer: OptimizerConfig) -> TrainConfig {
    TrainConfig { optimizer, weight_decay: 0.1, l1: 0.01, ..TrainConfig::default() }
}

pub(super) const SGD: OptimizerConfig = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false };
pub(super) const ADAMW: OptimizerConfig = OptimizerConfig::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

#[test]
fn two_sgd_steps_match_hand_computation() {
    let params = [param("w", Role::Weight, &[1.0])];
    let mut sgd = Optimizer::new(&TrainConfig { l1: 0.0, ..config(SGD) }, &params);
    // g = 0.5 + 0.1 * 1 = 0.6; v = 0.6; w = 1 - 0.1 * 0.6 = 0.94
    sgd.step(&params, &store(&params, &[vec![0.5]]), 0.1).unwrap();
    assert!((values(&params[0])[0] - 0.94).abs() < 1e-6);
    // g = 0.5 + 0.094 = 0.594; v = 0.54 + 0.594 = 1.134; w = 0.94 - 0.1134
    sgd.step(&params, &store(&params, &[vec![0.5]]), 0.1).unwrap();
    assert!((values(&params[0])[0] - 0.8266).abs() < 1e-6);
}

#[test]
fn nesterov_looks_ahead() {
    let params = [param("w", Role::Weight, &[0.0])];
    let rule = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true };
    let mut sgd = Optimizer::new(&config(rule), &params);
    sgd.step(&params, &store(&params, &[vec![1.0]]), 0.1).unwrap();
    assert!((values(&params[0])[0] + 0.19).abs() < 1e-6, "1 + 0.9 * 1 steps of 0.1");
}

#[test]
fn the_first_adamw_step_has_the_length_of_the_learning_rate() {
    let params = [param("w", Role::Weight, &[1.0, -2.0, 3.0])];
    let mut adamw = Optimizer::new(&TrainConfig { l1: 0.0, ..config(ADAMW) }, &params);
    adamw.step(&params, &store(&params, &[vec![7.0, -0.03, 0.0]]), 0.01).unwrap();
    // Decay takes 0.1 * 0.01 of each weight; the bias-corrected step is the sign of the gradient.
    for (found, expected) in values(&params[0]).iter().zip([0.999 - 0.01, -1.998 + 0.01, 2.997]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn penalties_leave_biases_alone_unless_asked() {
    for (decay_bias_and_norm, moves) in [(false, false), (true, true)] {
        let params = [param("b", Role::Bias, &[1.0])];
        let mut sgd = Optimizer::new(&TrainConfig { decay_bias_and_norm, ..config(SGD) }, &params);
        sgd.step(&params, &store(&params, &[vec![0.0]]), 0.1).unwrap();
        assert_eq!(values(&params[0])[0] != 1.0, moves);
    }
}

#[test]
fn a_frozen_parameter_does_not_move() {
    let params = [param("a", Role::Weight, &[1.0]), param("b", Role::Weight, &[1.0])];
    let mut sgd = Optimizer::new(&config(SGD), &params);
    sgd.freeze(&["a".into()]);
    sgd.step(&params, &store(&params, &[vec![1.0], vec![1.0]]), 0.1).unwrap();
    assert_eq!(values(&params[0]), [1.0]);
    assert!(values(&params[1])[0] < 1.0);
}

#[test]
fn a_parameter_may_lose_all_its_weights_and_get_them_back() {
    for rule in [SGD, ADAMW] {
        let params = [param("w", Role::Weight, &[1.0, -2.0, 3.0])];
        let mut optimizer = Optimizer::new(&config(rule), &params);
        let step = |optimizer: &mut Optimizer| optimizer.step(&params, &store(&params, &[vec![1.0; 3]]), 0.1).unwrap();
        step(&mut optimizer);
        let none = Mask::from_bits(vec![false; 3]);
        optimizer.set_masks(&params, &[("w".to_string(), none)].into_iter().collect()).unwrap();
        step(&mut optimizer);
        assert_eq!(values(&params[0]), [0.0; 3]);
        let moments = if rule == ADAMW { 3 } else { 0 };
        let state = optimizer.slots()[0].state();
        assert_eq!(state.iter().map(|(_, values)| values.len()).collect::<Vec<_>>(), [3, moments], "{rule:?}");
        assert!(state.iter().all(|(_, values)| values.iter().all(|v| v.to_bits() == 0)));
        optimizer.set_masks(&params, &Masks::default()).unwrap();
        step(&mut optimizer);
        assert!(values(&params[0]).iter().all(|w| *w < 0.0), "all weights follow their gradient again");
    }
}

#[test]
fn one_and_two_threads_give_the_same_bytes() {
    let run = |threads: usize| {
        let start: Vec<f32> = (0..40_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let params = [param("w", Role::Weight, &start)];
        let mut adamw = Optimizer::new(&config(ADAMW), &params);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for step in 0..3 {
            let grads = store(&params, &[start.iter().map(|v| v * step as f32).collect()]);
            pool.install(|| adamw.step(&params, &grads, 0.01)).unwrap();
        }
        values(&params[0]).iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn magnitude_oracle_5_no_weight_returns_while_masks_shrink_mid_way(
        seed in 0u64..1000, adam in prop::bool::ANY, nesterov in prop::bool::ANY,
        removals in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.7), 64), 1..4),
    ) {
        let rule = if adam { ADAMW } else { OptimizerConfig::Sgd { momentum: 0.9, nesterov } };
        let noise = |step: usize, i: usize| (((seed + 1) as f32 * 12.9 + step as f32 * 78.2 + i as f32 * 3.7).sin() * 437.5).fract();
        let params = [param("w", Role::Weight, &(0..64).map(|i| noise(0, i)).collect::<Vec<_>>())];
        let mut optimizer = Optimizer::new(&config(rule), &params);
        let mut mask = Mask::dense(64);
        for (round, bits) in removals.into_iter().enumerate() {
            for step in 0..60 {
                if step == 20 {
                    mask = mask.and(&Mask::from_bits(bits.clone()));
                    optimizer.set_masks(&params, &[("w".to_string(), mask.clone())].into_iter().collect()).unwrap();
                }
                let grads = (0..64).map(|i| noise(1 + round * 60 + step, i)).collect();
                optimizer.step(&params, &store(&params, &[grads]), 0.05).unwrap();
                let state = optimizer.slots()[0].state();
                for (i, keep) in mask.bits().iter().enumerate() {
                    prop_assert!(*keep || values(&params[0])[i].to_bits() == 0, "weight {i} came back");
                    prop_assert!(*keep || state.iter().all(|(_, s)| s.get(i).is_none_or(|v| v.to_bits() == 0)));
                }
            }
        }
        prop_assert!(values(&params[0]).iter().zip(mask.bits()).all(|(w, keep)| !keep || *w != 0.0));
    }
}
