//! Meters: raw samples of time, and where the bytes of one process are.

mod latency;
mod memory;

pub use latency::{Contender, LatencyPlan, Timing, measure_latency, timed_load};
pub use memory::{HeapMeter, MemoryPlan, measure_memory, resident_bytes};
