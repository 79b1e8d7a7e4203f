//! Where the time of a training went.

use serde::{Deserialize, Serialize};

/// Time of one part of the work of training: of a layer, or of what lies around the layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileRow {
    /// The layer, by the name of its output; empty for what belongs to no layer, as the optimiser.
    pub layer: String,
    /// Its op, with those that run in it, or what it is.
    pub op: String,
    /// `forward`, `input gradient` (all gradients, for an op without weights), `weight gradient`; empty without a layer.
    pub part: String,
    /// What ran.
    pub kernel: String,
    /// How often it ran.
    pub runs: u64,
    /// In all.
    pub seconds: f64,
}
