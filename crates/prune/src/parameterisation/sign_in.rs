//! Sign-In: a weight is the product of two trained factors, `theta = m * w`, so that it can cross zero at full speed.
//!
//! Under gradient flow `m^2 - w^2` is conserved and `theta` moves with `-sqrt(beta^2 + 4 theta^2)` times its gradient. Weight
//! decay, noise and step size shrink `m^2 - w^2`; at 0 signs are frozen. A reset splits `theta` anew and restores it.
//!
//! Source: Gadhikar, Jacobs, Zhou & Burkholz 2025, "Sign-In to the Lottery" (arXiv:2504.12801). The period of the resets,
//! when they end and what happens to momentum are choices made here.

use serde::{Deserialize, Serialize};

use super::require;
use crate::config::ConfigError;

/// Settings of Sign-In.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// `m^2 - w^2` after a split, more than 0: the speed of a weight at zero, relative to plain training.
    pub beta: f64,
    /// Epochs between two resets, at least 1.
    pub reset_period: u64,
    /// Share of the epochs after which nothing is reset any more, in `[0, 1]`; 0 never resets.
    pub last_reset: f64,
    /// What weight decay acts on.
    pub decay: FactorDecay,
    /// What a reset does to momentum or moments.
    pub momentum: ResetMomentum,
}

/// What weight decay acts on; it acts once. L1 always acts on the product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorDecay {
    /// On each factor, as in the paper: `lambda (m^2 + w^2) / 2`, which is L2-like near zero and L1-like far from it.
    #[default]
    Factors,
    /// On the product: `lambda theta^2 / 2`, as in plain training.
    Product,
}

/// What a reset does to the optimiser's state of the factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetMomentum {
    /// Leaves it as it is.
    #[default]
    Keep,
    /// Starts it afresh.
    Zero,
    /// Keeps what it means for the product: the velocity of `theta` (SGD), or the moments of its gradient (AdamW).
    Transform,
}

impl Default for SignIn {
    fn default() -> Self {
        SignIn {
            beta: 1.0,
            reset_period: 1,
            last_reset: 0.75,
            decay: FactorDecay::Factors,
            momentum: ResetMomentum::Keep,
        }
    }
}

impl SignIn {
    /// Whether the factors are split anew before `epoch` (from 0) of `epochs`.
    pub fn resets_before(&self, epoch: u64, epochs: u64) -> bool {
        epoch > 0 && epoch.is_multiple_of(self.reset_period) && epoch as f64 <= self.last_reset * epochs as f64
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let SignIn { beta, reset_period, last_reset, .. } = *self;
        require(beta.is_finite() && beta > 0.0, || format!("beta must be more than 0, found {beta}"))?;
        require(reset_period > 0, || "reset_period must be at least 1, found 0".into())?;
        require((0.0..=1.0).contains(&last_reset), || format!("last_reset must be in [0, 1], found {last_reset}"))
    }
}

/// The factors `(m, w)` of `theta` with `m * w = theta`, `m^2 - w^2 = beta` and `m >= sqrt(beta)`; `beta` at least 0.
///
/// `w` is a quotient: a second root would cancel near `theta = 0`.
pub fn split(theta: f64, beta: f64) -> (f64, f64) {
    let sum = (beta * beta + 4.0 * theta * theta).sqrt();
    let m = ((sum + beta) / 2.0).sqrt();
    (m, if m > 0.0 { theta / m } else { 0.0 })
}

/// [`split`], rounded so that the product of the rounded factors is off by at most one rounding of each.
pub(crate) fn split_f32(theta: f32, beta: f64) -> (f32, f32) {
    let m = split(f64::from(theta), beta).0 as f32;
    (m, if m > 0.0 { (f64::from(theta) / f64::from(m)) as f32 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 values of about normal distribution, some of them tiny.
    fn thetas() -> impl Iterator<Item = f64> {
        (0..1000).map(|i| {
            let sum: f64 = (0..12).map(|k| f64::from(crate::testing::noise("theta", i * 12 + k))).sum::<f64>() / 2.0;
            if i % 10 == 0 { sum * 1e-9 } else { sum }
        })
    }

    fn ulps_f64(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn sign_in_oracle_1_the_product_of_a_split_is_the_weight() {
        for theta in thetas().chain([0.0, 1.0, -3.0, 1e-30, 1e15]) {
            let (m, w) = split(theta, 1.0);
            assert!(ulps_f64(m * w, theta) <= 2, "{theta}: {}", m * w);
            let (m, w) = split(m * w, 1.0);
            assert!(ulps_f64(m * w, theta) <= 4, "{theta} after a reset: {}", m * w);
            let single = theta as f32;
            let (m, w) = split_f32(single, 1.0);
            assert!((m * w).to_bits().abs_diff(single.to_bits()) <= 2, "{single}: {}", m * w);
        }
    }

    #[test]
    fn sign_in_oracle_2_the_split_is_balanced() {
        for beta in [0.25, 1.0, 3.0] {
            for theta in thetas() {
                let (m, w) = split(theta, beta);
                let scale = (beta * beta + 4.0 * theta * theta).sqrt();
                assert!((m * m - w * w - beta).abs() <= 1e-14 * scale.max(1.0), "{theta}");
                assert!((m * m + w * w - scale).abs() <= 1e-14 * scale.max(1.0), "{theta}");
                assert!(m >= beta.sqrt() && w.signum() == theta.signum());
            }
        }
    }

    #[test]
    fn resets_come_every_period_until_the_last_one() {
        let at = |settings: SignIn| (0..20).filter(|e| settings.resets_before(*e, 20)).collect::<Vec<_>>();
        assert_eq!(at(SignIn { reset_period: 5, ..SignIn::default() }), [5, 10, 15]);
        assert_eq!(at(SignIn { reset_period: 1, last_reset: 0.2, ..SignIn::default() }), [1, 2, 3, 4]);
        assert!(at(SignIn { last_reset: 0.0, ..SignIn::default() }).is_empty());
    }
}
