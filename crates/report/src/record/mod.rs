//! The one versioned schema in which measurements are kept.

mod curve;

pub use curve::{EpochRow, SensitivityPoint, SensitivityScan};
