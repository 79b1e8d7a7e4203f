use super::sgd::Sgd;
use super::tests::{ADAMW, SGD, config, param, store, values};
use super::*;
use crate::config::TrainConfig;
use crate::parameterisation::{Ham, ResetMomentum, SignIn, split};
use crate::testing::noise;
use factored::update;
use proptest::prelude::*;
use sentei_graph::Role;

fn plain_sgd(learning_rate: f32, weight_decay: f32) -> Sgd {
    Sgd { step: Step { learning_rate, weight_decay, l1: 0.0 }, momentum: 0.0, nesterov: false }
}

/// Gradient descent on `(theta - 1)^2 / 2` from `theta` with factors split at `beta`: final theta, largest theta, invariant.
fn descend(theta: f32, beta: f64, weight_decay: f32, steps: usize) -> (f64, f64, f64) {
    let mut factors = Factors::of(&[theta], beta, false);
    let (mut at, mut first, mut highest) = ([theta], [0.0], theta);
    for _ in 0..steps {
        let grad = [at[0] - 1.0];
        let slot = (&mut first[..], &mut [][..], &mut factors);
        update(plain_sgd(1e-4, weight_decay), FactorDecay::Factors, slot, &mut at, &grad, None);
        highest = highest.max(at[0]);
    }
    let (m, w) = (f64::from(factors.m[0]), f64::from(factors.w[0]));
    (f64::from(at[0]), f64::from(highest), m * m - w * w)
}

/// What f32 adds to `m^2 - w^2` in 20,000 steps: half an ulp of numbers near 1 per step, in random directions.
const ROUNDING: f64 = 1e-4;

#[test]
fn sign_in_oracle_3_a_step_follows_the_chain_rule() {
    let theta: Vec<f32> = (0..40).map(|i| noise("theta", i)).collect();
    let grads: Vec<f32> = (0..40).map(|i| noise("grad", i)).collect();
    let mut factors = Factors::of(&theta, 1.0, false);
    let before = factors.clone();
    let slot = (&mut [0.0; 40][..], &mut [][..], &mut factors);
    update(plain_sgd(1.0, 0.0), FactorDecay::Factors, slot, &mut theta.clone(), &grads, None);
    // The loss whose gradient is `grads`: a cubic, so that the finite difference is no accident of linearity.
    let loss = |i: usize, m: f64, w: f64| {
        let (t0, g) = (f64::from(before.m[i]) * f64::from(before.w[i]), f64::from(grads[i]));
        g * (m * w - t0) + (m * w - t0).powi(3)
    };
    let h = 1e-5;
    for i in 0..40 {
        let (m, w) = (f64::from(before.m[i]), f64::from(before.w[i]));
        let by_m = (loss(i, m + h, w) - loss(i, m - h, w)) / (2.0 * h);
        let by_w = (loss(i, m, w + h) - loss(i, m, w - h)) / (2.0 * h);
        assert!((m - f64::from(factors.m[i]) - by_m).abs() < 1e-6, "dL/dm = w G");
        assert!((w - f64::from(factors.w[i]) - by_w).abs() < 1e-6, "dL/dw = m G");
    }
}

#[test]
fn sign_in_oracle_4_gradient_descent_conserves_the_balance() {
    let (theta, _, balance) = descend(-0.5, 1.0, 0.0, 20_000);
    assert!((theta - 0.9255).abs() < 2e-4, "{theta}");
    assert!((balance - 0.99990).abs() < ROUNDING, "{balance}");
}

#[test]
fn sign_in_oracle_5_weight_decay_eats_the_balance_exponentially() {
    let (_, _, balance) = descend(-0.5, 1.0, 0.1, 20_000);
    assert!((balance - 0.67025).abs() < ROUNDING, "{balance}");
    assert!((balance - (-0.4f64).exp()).abs() < 2.0 * ROUNDING, "{balance}");
}

#[test]
fn sign_in_oracle_6_a_weight_crosses_zero_with_beta_1_and_never_with_beta_0() {
    let (theta, highest, _) = descend(-0.5, 0.0, 0.0, 60_000);
    assert!(highest < 0.0 && theta > -0.01, "{theta} {highest}");
    assert!(descend(-0.5, 1.0, 0.0, 20_000).0 > 0.5);
}

#[test]
fn sign_in_oracle_7_one_step_shrinks_the_balance_by_one_minus_eta_g_squared() {
    for (i, beta) in [0.5, 1.0, 2.0, 0.25].into_iter().enumerate() {
        let (theta, grad, rate) = (noise("theta", i), 3.0 * noise("grad", i), 0.2);
        let mut factors = Factors::of(&[theta], beta, false);
        let slot = (&mut [0.0][..], &mut [][..], &mut factors);
        update(plain_sgd(rate, 0.0), FactorDecay::Factors, slot, &mut [theta], &[grad], None);
        let (m, w) = (f64::from(factors.m[0]), f64::from(factors.w[0]));
        let expected = beta * (1.0 - f64::from(rate * grad).powi(2));
        assert!((m * m - w * w - expected).abs() < 1e-5, "{} {expected}", m * m - w * w);
    }
}

#[test]
fn sign_in_oracle_9_pruned_weights_stay_zero_and_returning_ones_start_balanced() {
    for (rule, momentum) in [(SGD, ResetMomentum::Keep), (SGD, ResetMomentum::Transform), (ADAMW, ResetMomentum::Zero)]
    {
        for decay in [FactorDecay::Factors, FactorDecay::Product] {
            let params = [param("w", Role::Weight, &(0..64).map(|i| noise("w", i)).collect::<Vec<_>>())];
            let mut optimizer = Optimizer::new(&config(rule), &params);
            let settings = SignIn { beta: 0.7, decay, momentum, last_reset: 1.0, ..SignIn::default() };
            optimizer.parameterise(Parameterisation::SignIn(settings), &params).unwrap();
            let mask = |keep: &dyn Fn(usize) -> bool| Mask::from_bits((0..64).map(keep).collect());
            let masks = |mask: &Mask| [("w".to_string(), mask.clone())].into_iter().collect::<Masks>();
            let some = mask(&|i| i % 3 != 0);
            optimizer.set_masks(&params, &masks(&some)).unwrap();
            for step in 0..40u64 {
                if step % 10 == 0 {
                    optimizer.start_epoch(&params, step / 10, 4).unwrap();
                }
                let grads = (0..64).map(|i| noise("g", i + 64 * step as usize)).collect();
                optimizer.step(&params, &store(&params, &[grads]), 0.05).unwrap();
                let slot = &optimizer.slots()[0];
                for i in (0..64).filter(|i| !some.bits()[*i]) {
                    assert_eq!(values(&params[0])[i].to_bits(), 0);
                    assert!(slot.state().iter().all(|(_, s)| s.get(i).is_none_or(|v| v.to_bits() == 0)));
                }
                assert_eq!(values(&params[0]).iter().filter(|v| **v != 0.0).count(), some.kept());
            }
            // Regrowth, both by a mask and by its absence: at zero, with the balance that lets it leave.
            for returned in [masks(&mask(&|i| i != 3)), Masks::default()] {
                optimizer.set_masks(&params, &masks(&some)).unwrap();
                optimizer.set_masks(&params, &returned).unwrap();
                let slot = &optimizer.slots()[0];
                let factors = slot.factors.as_ref().unwrap();
                assert_eq!((factors.m[6], factors.w[6]), (0.7f64.sqrt() as f32, 0.0));
                assert_eq!((slot.first[6], factors.first[6], values(&params[0])[6].to_bits()), (0.0, 0.0, 0));
                let kept = (factors.m[1] * factors.w[1] - values(&params[0])[1]).abs();
                assert_eq!(kept, 0.0, "others go on where they were");
            }
            optimizer.step(&params, &store(&params, &[vec![1.0; 64]]), 0.05).unwrap();
            assert!(values(&params[0])[6] < 0.0);
        }
    }
}

#[test]
fn sign_in_oracle_10_a_weight_at_zero_moves_as_in_plain_sgd() {
    for grad in [1.0f32, -0.3] {
        for rate in [1e-1f32, 1e-3] {
            let mut factors = Factors::of(&[0.0], 1.0, false);
            let mut theta = [0.0];
            let slot = (&mut [0.0][..], &mut [][..], &mut factors);
            update(plain_sgd(rate, 0.0), FactorDecay::Factors, slot, &mut theta, &[grad], None);
            assert!((theta[0] + rate * grad).abs() <= (rate * grad).powi(2) * 1e-3 + f32::EPSILON * rate);
        }
    }
}

#[test]
fn a_step_moves_the_product_with_the_speed_of_the_flow() {
    let (theta, grad, rate) = (0.8f32, 0.5f32, 1e-4f32);
    let mut factors = Factors::of(&[theta], 1.0, false);
    let mut at = [theta];
    let slot = (&mut [0.0][..], &mut [][..], &mut factors);
    update(plain_sgd(rate, 0.0), FactorDecay::Factors, slot, &mut at, &[grad], None);
    let speed = f64::from(at[0] - theta) / f64::from(-rate * grad);
    assert!((speed - (1.0f64 + 4.0 * 0.64).sqrt()).abs() < 1e-2, "{speed}");
}

#[test]
fn decay_of_the_product_acts_once_and_like_plain_decay() {
    // Without a gradient: AdamW takes eta * lambda of theta and leaves the balance; SGD follows the gradient of the penalty.
    for (rule, share) in [(ADAMW, 0.1 * 0.1), (SGD, 0.1 * 0.1 * (1.0f64 + 4.0 * 0.25).sqrt())] {
        let params = [param("w", Role::Weight, &[0.5])];
        let mut optimizer = Optimizer::new(&TrainConfig { l1: 0.0, ..config(rule) }, &params);
        let product = SignIn { decay: FactorDecay::Product, ..SignIn::default() };
        optimizer.parameterise(Parameterisation::SignIn(product), &params).unwrap();
        optimizer.step(&params, &store(&params, &[vec![0.0]]), 0.1).unwrap();
        let left = f64::from(values(&params[0])[0]) / 0.5;
        assert!((left - (1.0 - share)).abs() < 1e-4, "{left}");
        let factors = optimizer.slots()[0].factors.as_ref().unwrap();
        assert!((factors.m[0].powi(2) - factors.w[0].powi(2) - 1.0).abs() < 1e-4);
    }
}

#[test]
fn a_reset_keeps_the_product_and_momentum_is_kept_dropped_or_carried_over() {
    for (momentum, rule) in [ResetMomentum::Keep, ResetMomentum::Zero, ResetMomentum::Transform]
        .into_iter()
        .flat_map(|m| [(m, SGD), (m, ADAMW)])
    {
        let params = [param("w", Role::Weight, &[0.3, -0.9, 0.02])];
        let mut optimizer = Optimizer::new(&config(rule), &params);
        let settings = SignIn { momentum, reset_period: 2, last_reset: 0.5, ..SignIn::default() };
        optimizer.parameterise(Parameterisation::SignIn(settings), &params).unwrap();
        for step in 0..30 {
            let grads = (0..3).map(|i| noise("g", i + 3 * step) + 0.2).collect();
            optimizer.step(&params, &store(&params, &[grads]), 0.05).unwrap();
        }
        let (before, theta) = (optimizer.slots()[0].clone(), values(&params[0]));
        for epoch in [0, 1, 3, 4, 6] {
            optimizer.start_epoch(&params, epoch, 7).unwrap();
            assert_eq!(optimizer.slots()[0], before, "no reset before epoch {epoch}");
        }
        optimizer.start_epoch(&params, 2, 7).unwrap();
        let (after, moved) = (&optimizer.slots()[0], values(&params[0]));
        let (old, new) = (before.factors.as_ref().unwrap(), after.factors.as_ref().unwrap());
        for i in 0..3 {
            assert!(theta[i].to_bits().abs_diff(moved[i].to_bits()) <= 2, "{} {}", theta[i], moved[i]);
            let (m, w) = split(f64::from(theta[i]), 1.0);
            assert!((f64::from(new.m[i]) - m).abs() < 1e-6 && (f64::from(new.w[i]) - w).abs() < 1e-6);
            assert!((old.m[i].powi(2) - old.w[i].powi(2) - 1.0).abs() > 1e-3, "there was something to restore");
            let toward = |slot: &Slot, f: &Factors| f.m[i] * f.first[i] + f.w[i] * slot.first[i];
            let scale = |f: &Factors| f.m[i].powi(2) + f.w[i].powi(2);
            match momentum {
                ResetMomentum::Keep => assert_eq!((after.first[i], new.first[i]), (before.first[i], old.first[i])),
                ResetMomentum::Zero => assert_eq!((after.first[i], new.first[i]), (0.0, 0.0)),
                ResetMomentum::Transform if rule == SGD => {
                    assert!((toward(after, new) - toward(&before, old)).abs() < 1e-4, "the product's velocity");
                }
                ResetMomentum::Transform => {
                    let gradient = (toward(after, new) / scale(new), toward(&before, old) / scale(old));
                    assert!((gradient.0 - gradient.1).abs() < 1e-4, "the mean gradient of the product");
                    let square = |slot: &Slot, f: &Factors| (slot.second[i] + f.second[i]) / scale(f);
                    assert!((square(after, new) - square(&before, old)).abs() < 1e-4);
                }
            }
        }
    }
}

#[test]
fn biases_batch_norm_and_frozen_weights_stay_plain() {
    let run = |how: Parameterisation| {
        let params = [
            param("b", Role::Bias, &[0.5, -0.5]),
            param("frozen", Role::Weight, &[0.1, 0.7]),
            param("w", Role::Weight, &[0.1, 0.7]),
        ];
        let mut optimizer = Optimizer::new(&config(SGD), &params);
        optimizer.freeze(&["frozen".into()]);
        optimizer.parameterise(how, &params).unwrap();
        for _ in 0..3 {
            optimizer.start_epoch(&params, 1, 4).unwrap();
            optimizer.step(&params, &store(&params, &[vec![1.0; 2], vec![1.0; 2], vec![1.0; 2]]), 0.1).unwrap();
        }
        [0, 1, 2].map(|i| values(&params[i]))
    };
    let plain = run(Parameterisation::Plain);
    for how in [Parameterisation::SignIn(SignIn::default()), Parameterisation::Ham(Ham::default())] {
        let [bias, frozen, weight] = run(how);
        assert_eq!((&bias, &frozen), (&plain[0], &vec![0.1, 0.7]));
        assert_ne!(weight, plain[2]);
    }
}

#[test]
fn ham_oracle_without_alpha_and_b_it_is_the_base_optimiser_bit_for_bit() {
    for rule in [SGD, ADAMW] {
        let run = |how: Parameterisation| {
            let params = [param("w", Role::Weight, &(0..50).map(|i| noise("w", i)).collect::<Vec<_>>())];
            let mut optimizer = Optimizer::new(&config(rule), &params);
            optimizer.parameterise(how, &params).unwrap();
            for step in 0..20 {
                let grads = (0..50).map(|i| noise("g", i + 50 * step)).collect();
                optimizer.step(&params, &store(&params, &[grads]), 0.05).unwrap();
            }
            values(&params[0]).iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let nothing = Ham { alpha: Alpha::Fixed(0.0), b: 0.0, ..Ham::default() };
        assert_eq!(run(Parameterisation::Ham(nothing)), run(Parameterisation::Plain));
        assert_ne!(run(Parameterisation::Ham(Ham::default())), run(Parameterisation::Plain));
    }
}

#[test]
fn one_and_two_threads_move_factors_to_the_same_bytes() {
    for how in [Parameterisation::SignIn(SignIn::default()), Parameterisation::Ham(Ham::default())] {
        let run = |threads: usize| {
            let start: Vec<f32> = (0..40_000).map(|i| noise("w", i)).collect();
            let params = [param("w", Role::Weight, &start)];
            let mut optimizer = Optimizer::new(&config(ADAMW), &params);
            optimizer.parameterise(how, &params).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for step in 0..3 {
                let grads = store(&params, &[start.iter().map(|v| v * step as f32 + 0.1).collect()]);
                pool.install(|| optimizer.step(&params, &grads, 0.01)).unwrap();
            }
            values(&params[0]).iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_weight_returns_while_masks_shrink_mid_way_whatever_is_trained(
        adam in prop::bool::ANY, ham in prop::bool::ANY, bits in prop::collection::vec(prop::bool::weighted(0.7), 64),
    ) {
        let params = [param("w", Role::Weight, &(0..64).map(|i| noise("w", i)).collect::<Vec<_>>())];
        let mut optimizer = Optimizer::new(&config(if adam { ADAMW } else { SGD }), &params);
        let sign_in = Parameterisation::SignIn(SignIn::default());
        optimizer.parameterise(if ham { Parameterisation::Ham(Ham::default()) } else { sign_in }, &params).unwrap();
        let mask = Mask::from_bits(bits);
        for step in 0..60 {
            if step == 20 {
                optimizer.set_masks(&params, &[("w".to_string(), mask.clone())].into_iter().collect()).unwrap();
            }
            if step % 7 == 0 {
                optimizer.start_epoch(&params, step as u64 / 7, 20).unwrap();
            }
            let grads = (0..64).map(|i| noise("g", i + 64 * step)).collect();
            optimizer.step(&params, &store(&params, &[grads]), 0.05).unwrap();
            for (value, keep) in values(&params[0]).iter().zip(mask.bits()) {
                prop_assert!(step < 20 || *keep || value.to_bits() == 0);
            }
        }
    }
}
