//! Records, statistics, warnings, comparison and reports of a run.

pub mod compare;
mod error;
pub mod events;
pub mod export;
pub mod format;
pub mod record;
pub mod stats;
pub mod table;
pub mod tables;
pub mod verdict;
pub mod warning;

pub use error::ReportError;
