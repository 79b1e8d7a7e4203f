//! Fundamental limit: how sparse one trained network can get under global magnitude order before its training loss must
//! leave the noise level. In go weights, the curvature of the loss and its spread over mini-batches; out comes a share.
//!
//! The theory asks whether *some* values of the surviving weights stay within the noise, not whether the present ones do:
//! a place to start a search from, never a promise.
//!
//! Source: Zhang et al. 2024, "How Sparse Can We Prune A Deep Network: A Fundamental Limit Perspective" (arXiv:2306.05857).

mod analysis;
mod curve;
mod epsilon;
mod fixed_point;
mod knee;
mod lanczos;
mod spectrum;
#[cfg(test)]
mod testing;
mod tridiagonal;

pub use analysis::{LimitCost, LimitLayer, LimitReport, LimitSettings, analyse, cost};
pub use curve::{Measure, Removal, TunedPoint};
pub use epsilon::{BATCH, Noise, batch_noise, sample_losses};
pub use fixed_point::{Prediction, RemovedNorms, crossing, predict, width};
pub use knee::{CurvePoint, Knee, keeps_accuracy, keeps_loss, knee, last_fine};
pub use lanczos::{LanczosError, Probe, Real, lanczos, signs};
pub use spectrum::{Hessian, Spectrum};
pub use tridiagonal::{Node, eigen};
