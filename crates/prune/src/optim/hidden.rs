//! Weights behind the network's own: what SR-STE trains, and the masked copy that the network sees.

use std::borrow::Cow;

/// Gradients of the hidden weights, given those of the masked copy: removed ones are also pulled towards 0.
pub(super) fn pull<'a>(hidden: &[f32], grads: &'a [f32], keep: Option<&[bool]>, lambda: f32) -> Cow<'a, [f32]> {
    let Some(keep) = keep.filter(|_| lambda != 0.0) else { return Cow::Borrowed(grads) };
    let each = hidden.iter().zip(grads).zip(keep);
    each.map(|((h, g), keep)| if *keep { *g } else { g + lambda * h }).collect()
}

/// Writes the kept hidden weights to `weights` and `+0.0` in the place of all others.
pub(super) fn project(hidden: &[f32], keep: Option<&[bool]>, weights: &mut [f32]) {
    for (i, (weight, hidden)) in weights.iter_mut().zip(hidden).enumerate() {
        // Adding 0 makes a kept -0.0 a +0.0, as everywhere else.
        *weight = if keep.is_none_or(|keep| keep[i]) { hidden + 0.0 } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use sentei_graph::{Mask, Role};

    use crate::Masks;
    use crate::config::{OptimizerConfig, TrainConfig};
    use crate::optim::Optimizer;
    use crate::optim::tests::{ADAMW, SGD, param, store, values};
    use crate::parameterisation::{Parameterisation, SrSte};

    fn sr_ste(lambda: f64) -> Parameterisation {
        Parameterisation::SrSte(SrSte { lambda })
    }

    fn masks(bits: [bool; 4]) -> Masks {
        [("w".to_string(), Mask::from_bits(bits.to_vec()))].into_iter().collect()
    }

    #[test]
    fn sr_ste_oracle_two_steps_on_one_group_match_hand_computation() {
        let params = [param("w", Role::Weight, &[0.5, -0.4, 0.3, 0.1])];
        let rule = OptimizerConfig::Sgd { momentum: 0.5, nesterov: false };
        let config = TrainConfig { optimizer: rule, weight_decay: 0.0, l1: 0.0, ..TrainConfig::default() };
        let mut sgd = Optimizer::new(&config, &params);
        sgd.parameterise(sr_ste(0.1), &params).unwrap();
        sgd.set_masks(&params, &masks([true, true, false, false])).unwrap();
        assert_eq!(values(&params[0]), [0.5, -0.4, 0.0, 0.0], "the network sees 2 of 4");
        assert_eq!(sgd.hidden("w").unwrap(), [0.5, -0.4, 0.3, 0.1], "the rest is covered, not gone");

        // Kept: v = g. Removed: v = g + 0.1 h = [-1 + 0.03, 0.2 + 0.01]. h <- h - 0.1 v.
        sgd.step(&params, &store(&params, &[vec![1.0, -0.5, -1.0, 0.2]]), 0.1).unwrap();
        let close = |found: &[f32], expected: [f64; 4]| {
            found.iter().zip(expected).for_each(|(f, e)| assert!((f64::from(*f) - e).abs() < 1e-7, "{found:?}"));
        };
        close(sgd.hidden("w").unwrap(), [0.4, -0.35, 0.397, 0.079]);
        close(&values(&params[0]), [0.4, -0.35, 0.0, 0.0]);

        // The third weight overtakes the second. It returns with the value and the momentum it has by now.
        sgd.set_masks(&params, &masks([true, false, true, false])).unwrap();
        close(&values(&params[0]), [0.4, 0.0, 0.397, 0.0]);
        // v = [0.5 * 1, 0.5 * -0.5 + 0.1 * -0.35, 0.5 * -0.97, 0.5 * 0.21 + 0.1 * 0.079].
        sgd.step(&params, &store(&params, &[vec![0.0; 4]]), 0.1).unwrap();
        close(sgd.hidden("w").unwrap(), [0.35, -0.3215, 0.4455, 0.06771]);
        let seen = values(&params[0]);
        close(&seen, [0.35, 0.0, 0.4455, 0.0]);
        assert_eq!([seen[1].to_bits(), seen[3].to_bits()], [0, 0], "covered weights are +0.0");
    }

    #[test]
    fn sr_ste_oracle_without_its_decay_it_is_the_plain_straight_through_estimator() {
        // Plain training moves a dense copy by the gradients that the masked network has; the hidden weights must do just that.
        for rule in [SGD, ADAMW] {
            let start = [0.5, -0.4, 0.3, 0.1];
            let config = TrainConfig { optimizer: rule, weight_decay: 0.05, l1: 1e-3, ..TrainConfig::default() };
            let (covered, dense) = ([param("w", Role::Weight, &start)], [param("w", Role::Weight, &start)]);
            let (mut ste, mut plain) = (Optimizer::new(&config, &covered), Optimizer::new(&config, &dense));
            ste.parameterise(sr_ste(0.0), &covered).unwrap();
            for step in 0..20 {
                let bits = [true, step % 3 == 0, step % 2 == 0, false];
                ste.set_masks(&covered, &masks(bits)).unwrap();
                let grads: Vec<f32> = (0..4).map(|i| crate::testing::noise("pull", 4 * step + i)).collect();
                ste.step(&covered, &store(&covered, std::slice::from_ref(&grads)), 0.1).unwrap();
                plain.step(&dense, &store(&dense, &[grads]), 0.1).unwrap();
                assert_eq!(ste.hidden("w").unwrap(), values(&dense[0]), "{rule:?} step {step}");
            }
            assert_ne!(values(&covered[0]), values(&dense[0]), "the network saw a masked copy");
        }
    }
}
