//! Which blocks a network can lose: each is replaced by a freshly initialised one, and what that costs is its worth.
//!
//! In goes a trained graph; out come the drops of its blocks ([`rank`]), a selection ([`select`], [`greedy`]), and with
//! [`sentei_graph::passes::remove_blocks`] a smaller graph. Fine-tuning is the ordinary training loop. Only validation
//! images rank, and training images calibrate; the network measured is never changed.
//!
//! Source: Tang, Lu & Xuan 2023, "SR-init" (arXiv:2303.07677).

mod cost;
mod drops;
mod fresh;
mod greedy;
mod metric;
mod removed;
mod select;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require};

pub use cost::estimate;
pub use drops::{BlockDrop, Ranking, Which, rank};
pub use fresh::fresh_graph;
pub use greedy::{Greedy, Removal, greedy};
pub use metric::Metric;
pub use removed::without;
pub use select::{Selection, cheapest_first, largest_gap, random_blocks, select};

/// How the worth of blocks is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SrInit {
    /// What the batch norms of a fresh block normalise by.
    pub mode: BnMode,
    /// Fresh draws per block, at least 1.
    pub repeats: usize,
    /// What a drop is a drop of.
    pub metric: Metric,
    /// Validation images to rank on, drawn by the seed; absent takes all of them.
    pub samples: Option<usize>,
    /// So many of the cheapest candidates are measured again on all validation images when `samples` left some out.
    pub rerank: usize,
    /// Training batches of 256 that `recalibrated-bn` estimates statistics on.
    pub calibration_batches: usize,
    /// Seed of fresh weights, of the validation subset and of the calibration images.
    pub seed: u64,
}

/// What the batch norms of a fresh block normalise by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BnMode {
    /// Mean 0 and variance 1, as in the paper; the scale of the block's output then depends on the architecture.
    #[default]
    FreshBn,
    /// The statistics that the fresh block has on a few training batches.
    RecalibratedBn,
}

impl BnMode {
    /// `fresh-bn` or `recalibrated-bn`.
    pub fn name(self) -> &'static str {
        match self {
            BnMode::FreshBn => "fresh-bn",
            BnMode::RecalibratedBn => "recalibrated-bn",
        }
    }
}

impl Default for SrInit {
    fn default() -> Self {
        SrInit {
            mode: BnMode::FreshBn,
            repeats: 3,
            metric: Metric::Accuracy,
            samples: None,
            rerank: 10,
            calibration_batches: 4,
            seed: 0,
        }
    }
}

impl SrInit {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first value out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        require(self.repeats > 0, "repeats", || "expected at least 1, found 0".into())?;
        require(self.samples != Some(0), "samples", || "expected at least 1, found 0".into())?;
        let calibrated = self.mode == BnMode::FreshBn || self.calibration_batches > 0;
        require(calibrated, "calibration_batches", || "recalibrated-bn needs at least 1".into())
    }
}
