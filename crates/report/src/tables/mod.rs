//! The tables of a report, each a function of the record. A table without rows means there is nothing to say.

mod cost;
mod profile;
mod quality;
mod run;
mod sweep;
mod verdict;

pub(crate) use cost::size_parts;
pub use cost::{bench, bench_energy, bench_memory, energy, latency, layers, memory, memory_definitions, place, size};
pub use profile::profile;
pub use quality::{confusion, false_alarms, flips, recall, sensitivity, variants};
pub use run::{dataset, environment, equivalence, files, gate, phases};
pub use sweep::{sweep_cells, sweep_matrix};
pub use verdict::verdict;
