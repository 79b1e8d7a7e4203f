//! Records, statistics, warnings, comparison and reports of a run.

pub mod events;
pub mod record;
pub mod warning;
