//! Granularity: which weights of a layer are kept or removed together.
//!
//! Single weights, blocks of neighbouring channels ([`Grouping`]), or N of every M input channels ([`n_m`]). Every
//! score, distribution and schedule works on any of them: [`crate::score::Pruner`] turns scores of weights into scores
//! of groups and masks of groups into masks of weights.

mod grouping;
pub mod n_m;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require};
use crate::layers::Layer;

pub use grouping::Grouping;

/// What is kept or removed as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Granularity {
    /// Each weight by itself.
    #[default]
    Unstructured,
    /// N of every M weights in a row along the input channels, for each output channel and kernel position: the pattern
    /// that sparse tensor cores run. It says how much every layer keeps, so it takes neither a target nor a distribution.
    ///
    /// Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378), section 3.
    #[serde(rename = "n_m")]
    NM {
        /// Weights kept in each group, at least 1 and fewer than `m`.
        #[serde(default = "n")]
        n: usize,
        /// Weights of a group, at least 2.
        #[serde(default = "m")]
        m: usize,
    },
    /// Weights of neighbouring channels at the same kernel position; see [`Grouping`].
    Block {
        /// Output channels of a block, at least 1; the last block of a layer has what is left.
        #[serde(default = "rows")]
        rows: usize,
        /// Input channels of a block, likewise; a block has at least 2 weights.
        #[serde(default = "columns")]
        columns: usize,
    },
}

fn n() -> usize {
    2
}
fn m() -> usize {
    4
}
fn rows() -> usize {
    4
}
fn columns() -> usize {
    1
}

impl Granularity {
    /// 2 of every 4.
    pub const TWO_OF_FOUR: Granularity = Granularity::NM { n: 2, m: 4 };

    /// The density that it implies where it applies, or `None` when the density is chosen from outside.
    pub fn density(&self) -> Option<f64> {
        match *self {
            Granularity::NM { n, m } => Some(n as f64 / m as f64),
            Granularity::Unstructured | Granularity::Block { .. } => None,
        }
    }

    /// What the distribution counts in `layer`: blocks, or single weights.
    pub fn groups(&self, layer: &Layer) -> Grouping {
        match *self {
            Granularity::Block { rows, columns } => Grouping::blocks(layer, rows, columns),
            Granularity::Unstructured | Granularity::NM { .. } => Grouping::single(layer.len()),
        }
    }

    /// Names of the layers that have too few input channels for a single group, and therefore stay dense.
    pub fn left_dense<'a>(&self, layers: &'a [Layer]) -> Vec<&'a str> {
        match *self {
            Granularity::NM { m, .. } => layers.iter().filter(|l| !n_m::fits(l, m)).map(|l| l.name.as_str()).collect(),
            Granularity::Unstructured | Granularity::Block { .. } => Vec::new(),
        }
    }

    /// Sets of groups of `layer`, by index, that can change places without breaking the pattern.
    pub(crate) fn interchangeable(&self, layer: &Layer) -> Vec<Vec<usize>> {
        match *self {
            Granularity::NM { m, .. } if n_m::fits(layer, m) => n_m::groups(layer, m).collect(),
            _ => self.groups(layer).of_equal_size(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Granularity::NM { n, m } => require(0 < n && n < m, "granularity", || {
                format!("n_m keeps n of every m weights: expected 1 <= n < m, found n = {n} and m = {m}")
            }),
            Granularity::Block { rows, columns } => require(rows.saturating_mul(columns) >= 2, "granularity", || {
                format!("block needs at least 2 weights, found {rows} x {columns}; single weights are \"unstructured\"")
            }),
            Granularity::Unstructured => Ok(()),
        }
    }
}

/// As a person says it: `unstructured`, `2:4`, `blocks of 4`.
impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Unstructured => f.write_str("unstructured"),
            Granularity::NM { n, m } => write!(f, "{n}:{m}"),
            Granularity::Block { rows, columns: 1 } => write!(f, "blocks of {rows}"),
            Granularity::Block { rows, columns } => write!(f, "blocks of {rows}x{columns}"),
        }
    }
}

#[cfg(test)]
mod tests;
