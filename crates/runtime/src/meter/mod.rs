//! Meters: raw samples of time, where the bytes of one process are, and energy where the machine has a meter.

mod energy;
mod latency;
mod memory;

pub use energy::EnergyMeter;
pub use latency::{Contender, LatencyPlan, Timing, measure_latency, timed_load};
pub use memory::{HeapMeter, MemoryPlan, measure_memory, resident_bytes};
