//! Records, statistics, warnings, comparison and reports of a run.

pub mod compare;
mod error;
pub mod events;
pub mod record;
pub mod stats;
pub mod warning;

pub use error::ReportError;
