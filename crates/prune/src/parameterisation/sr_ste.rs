//! SR-STE: every weight keeps a hidden value, the network sees it through the mask, the gradient passes straight through.
//!
//! `h <- h - eta * (g(mask * h) + lambda * (1 - mask) * h)`: a removed weight still feels the gradient, so that it can come
//! back with the value it has by then, and `lambda` shrinks it meanwhile, so that masks settle. Without that term
//! (`lambda = 0`) it is the plain straight-through estimator. The term is part of the gradient, as in the paper's equation
//! 9: momentum and moments take it in.
//!
//! Source: Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch" (arXiv:2102.04010).

use serde::{Deserialize, Serialize};

use super::require;
use crate::config::ConfigError;

/// Settings of SR-STE.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SrSte {
    /// Decay of the removed weights, at least 0; 0 is the plain straight-through estimator.
    pub lambda: f64,
}

impl Default for SrSte {
    fn default() -> Self {
        SrSte { lambda: 2e-4 }
    }
}

impl SrSte {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let lambda = self.lambda;
        require(lambda.is_finite() && lambda >= 0.0, || format!("lambda must be at least 0, found {lambda}"))
    }
}
