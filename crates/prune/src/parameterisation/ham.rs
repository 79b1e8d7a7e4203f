//! HAM: after each ordinary step a multiplicative one, the geometry of Sign-In without its second factor.
//!
//! `theta <- theta * exp(clamp(eta * (-alpha * sign(theta) * G - b), -c, c))`. It cannot flip a sign: flips happen in the
//! ordinary step, this one speeds weights toward zero or away from it.
//!
//! Source: Jacobs, Gadhikar, Rubio-Madrigal & Burkholz 2026 (arXiv:2506.02630). Its `alpha = 200` is tied to the gradients
//! of ResNet-50; the calibration here is not from there.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::require;
use crate::config::ConfigError;
use crate::threads::{CHUNK, for_each};

/// What [`Alpha::Auto`] makes of the median of `eta * alpha * |G|` at the first step.
const TYPICAL_EXPONENT: f64 = 0.01;

/// Settings of HAM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ham {
    /// Strength of the gradient in the exponent.
    pub alpha: Alpha,
    /// Multiplicative decay, at least 0, times the learning rate.
    pub b: f64,
    /// Largest magnitude of the exponent, more than 0.
    pub clamp: f64,
}

/// Strength of the gradient in the exponent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Alpha {
    /// Chosen at the first step, so that the median of `eta * alpha * |G|` over the kept weights is 0.01, with the peak
    /// learning rate as `eta`: the rate of a first step of warm-up would make it too large for all later ones.
    #[default]
    Auto,
    /// This number, at least 0.
    Fixed(f64),
}

/// How [`Alpha`] stands in a recipe: `"auto"` or a number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Name(String),
}

impl TryFrom<Written> for Alpha {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(alpha) => Ok(Alpha::Fixed(alpha)),
            Written::Name(name) if name == "auto" => Ok(Alpha::Auto),
            Written::Name(name) => Err(format!("alpha is \"auto\" or a number, found \"{name}\"")),
        }
    }
}

impl From<Alpha> for Written {
    fn from(alpha: Alpha) -> Self {
        match alpha {
            Alpha::Auto => Written::Name("auto".into()),
            Alpha::Fixed(alpha) => Written::Number(alpha),
        }
    }
}

impl Default for Ham {
    fn default() -> Self {
        Ham { alpha: Alpha::Auto, b: 1e-3, clamp: 5.0 }
    }
}

impl Ham {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let amount = |v: f64| v.is_finite() && v >= 0.0;
        if let Alpha::Fixed(alpha) = self.alpha {
            require(amount(alpha), || format!("alpha must be at least 0, found {alpha}"))?;
        }
        require(amount(self.b), || format!("b must be at least 0, found {}", self.b))?;
        let clamp = self.clamp;
        require(amount(clamp) && clamp > 0.0, || format!("clamp must be more than 0, found {clamp}"))
    }

    /// The multiplicative half-step. Zeros stay as they are; a layer whose weights or gradients have no finite norm above
    /// zero is left alone.
    pub(crate) fn half_step(&self, weights: &mut [f32], grads: &[f32], learning_rate: f64, alpha: f64) {
        let usable = |norm: f64| norm.is_finite() && norm > 0.0;
        if !usable(square_norm(weights)) || !usable(square_norm(grads)) {
            return;
        }
        let (rate, alpha, b, clamp) = (learning_rate as f32, alpha as f32, self.b as f32, self.clamp as f32);
        for_each(weights.chunks_mut(CHUNK).zip(grads.chunks(CHUNK)).collect(), |(weights, grads)| {
            for (w, g) in weights.iter_mut().zip(grads) {
                if *w != 0.0 {
                    let exponent = rate * (-alpha * w.signum() * g - b);
                    // A weight that would underflow keeps its value: zero means pruned.
                    let moved = *w * exponent.clamp(-clamp, clamp).exp();
                    *w = if moved != 0.0 && moved.is_finite() { moved } else { *w };
                }
            }
        });
    }
}

/// Sum of squares in an order that no number of threads changes.
fn square_norm(values: &[f32]) -> f64 {
    let part = |chunk: &[f32]| chunk.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    values.par_chunks(CHUNK).map(part).collect::<Vec<_>>().into_iter().sum()
}

/// The `alpha` of [`Alpha::Auto`], from the gradients of the kept weights; `None` when there is none above 0 or the median
/// is not finite. Where most gradients are 0, as in a very sparse network with dead units, the median is that of the rest.
pub(crate) fn calibrate(mut magnitudes: Vec<f32>, peak_learning_rate: f64) -> Option<f64> {
    let median = |values: &mut Vec<f32>| {
        let middle = values.len() / 2;
        (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
    };
    let mut found = median(&mut magnitudes)?;
    if found == 0.0 {
        magnitudes.retain(|g| *g > 0.0);
        found = median(&mut magnitudes)?;
    }
    let alpha = TYPICAL_EXPONENT / (peak_learning_rate * f64::from(found));
    alpha.is_finite().then_some(alpha)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn ham_oracle_the_update_is_multiplicative_and_clamped() {
        let ham = Ham { alpha: Alpha::Fixed(2.0), b: 0.5, clamp: 5.0 };
        let mut weights = [0.5, -0.5, 0.0, 1.0, -0.0];
        ham.half_step(&mut weights, &[1.0, 1.0, 7.0, -1e6, 1.0], 0.1, 2.0);
        let expected = [0.5 * (-0.25f64).exp(), -0.5 * 0.15f64.exp(), 0.0, 5f64.exp(), 0.0];
        for (found, expected) in weights.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
        }
        assert_eq!(weights[2].to_bits(), 0);
    }

    #[test]
    fn ham_oracle_no_sign_changes_in_the_half_step() {
        let mut weights: Vec<f32> = (0..20_000).map(|i| noise("w", i) * 1e-37).collect();
        let before = weights.clone();
        let grads: Vec<f32> = (0..20_000).map(|i| noise("g", i) * 1e5).collect();
        Ham::default().half_step(&mut weights, &grads, 0.1, 200.0);
        assert!(weights.iter().zip(&before).all(|(a, b)| (*a > 0.0, *a < 0.0) == (*b > 0.0, *b < 0.0)));
        assert_ne!(weights, before);
    }

    #[test]
    fn ham_oracle_pruned_weights_stay_zero_and_unusable_norms_change_nothing() {
        let mut pruned = [0.0, 2.0, 0.0];
        Ham::default().half_step(&mut pruned, &[1.0, 1.0, -1.0], 0.1, 10.0);
        assert_eq!([pruned[0].to_bits(), pruned[2].to_bits()], [0, 0]);
        for grads in [[f32::NAN, 1.0], [f32::INFINITY, 0.0], [0.0, 0.0]] {
            let mut weights = [1.0, -2.0];
            Ham::default().half_step(&mut weights, &grads, 0.1, 10.0);
            assert_eq!(weights, [1.0, -2.0]);
        }
    }

    #[test]
    fn the_calibrated_alpha_makes_the_median_exponent_a_hundredth() {
        let alpha = calibrate(vec![0.5, 100.0, 0.25], 0.1).unwrap();
        assert!((alpha * 0.1 * 0.5 - 0.01).abs() < 1e-12);
        let mostly_dead = calibrate(vec![0.0, 0.0, 0.0, 1.0], 0.1).unwrap();
        assert!((mostly_dead * 0.1 - 0.01).abs() < 1e-12, "HAM does not silently do nothing");
        assert_eq!(calibrate(vec![0.0, 0.0], 0.1), None);
        assert_eq!(calibrate(vec![], 0.1), None);
    }
}
