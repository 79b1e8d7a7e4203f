//! The one versioned schema in which measurements are kept. Raw samples and counts are stored; rates and ratios are
//! methods.

mod bench;
mod condition;
mod curve;
mod false_alarm;
mod latency;
mod machine;
mod model;
mod profile;
mod quality;
mod run;
mod sweep;

pub use bench::{BOOTSTRAP_SEED, Bench, BenchRow, Board, SelfTest};
pub use condition::Condition;
pub use curve::{EpochRow, SensitivityPoint, SensitivityScan};
pub use false_alarm::{DefectScores, FalseAlarmPoint, recall_at_false_alarm};
pub use latency::{Latency, LatencySummary};
pub use machine::Machine;
pub use model::{Engine, LayerRow, Memory, SizePart, Work};
pub use profile::ProfileRow;
pub use quality::{FALSE_ALARM_RATES, Flip, Predictions, Quality, flipped};
pub use run::{Dataset, Equivalence, FileHash, LatencyPair, LayerError, PhaseTime, RunRecord, SCHEMA, Split, Variant};
pub use sweep::{DENSE, SplitScores, SweepJob, SweepLayer, SweepResult};
