//! The memory and the voice of a run. In go raw measurements: predictions, latency samples, bytes, layers, epochs. Out
//! come one versioned record, statistics derived from it, warnings, a before/after comparison with a gate, and reports:
//! `report.json`, Markdown, CSV and one self-contained HTML page. Events of a run in progress pass through here too.
//!
//! ```
//! use sentei_report::record::{Bench, BenchRow, Latency, Machine};
//! use sentei_report::tables;
//!
//! let row = |model: &str, ns: u64| BenchRow {
//!     model: model.into(),
//!     latency: Latency { warmup: 3, samples_ns: (0..100).map(|i| ns + i * 37 % 11).collect() },
//!     ..BenchRow::default()
//! };
//! let bench = Bench {
//!     machine: Machine::here(),
//!     threads: 1,
//!     interleaved: true,
//!     rows: vec![row("dense.onnx", 4_000_000), row("packed.onnx", 2_000_000)],
//!     ..Bench::default()
//! };
//! println!("{}", tables::bench(&bench).markdown());
//! let ratio = bench.to_json()["rows"][1]["ratio"].as_f64();
//! assert!(ratio.is_some_and(|ratio| (ratio - 2.0).abs() < 0.01));
//! ```
//!
//! **Invariants**
//!
//! - Depends on no other room and does not know who measured; nothing here takes a measurement, but
//!   [`record::Machine::here`] reads what the system says about itself.
//! - Exporters return text; no file is written here.
//! - Raw samples and counts are stored; every rate, ratio and interval is a function of them.
//! - What is undefined or was not measured is `None` and prints as `n/a`: never 0, infinity or NaN.
//! - Equal records give equal reports: no clock, no random source but a fixed seed, no hash order.
//! - The page loads nothing, runs no script, and escapes every name it is given.

pub mod ablation;
pub mod compare;
mod error;
pub mod events;
pub mod export;
pub mod format;
pub mod plot;
pub mod record;
pub mod stats;
pub mod sweep;
pub mod table;
pub mod tables;
pub mod verdict;
pub mod warning;

pub use error::ReportError;
