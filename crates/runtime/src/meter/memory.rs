//! Memory of one model in one process.
//!
//! A process remembers what it did before, so [`measure_memory`] is meant to be called once, early, in a fresh process
//! that the caller spawns for the purpose.

use std::fs;
use std::io;

use sentei_report::record::Memory;

use crate::engine::{Engine, LoadOptions, noise_inputs};
use crate::error::RuntimeError;

/// Readings of the counting allocator that the binary installed; `unsafe` is forbidden here, so it is handed in.
#[derive(Clone, Copy, Debug)]
pub struct HeapMeter {
    /// Makes the peak start again from what is live now.
    pub reset_peak: fn(),
    /// Largest total of live allocations since the last reset, in bytes.
    pub peak_bytes: fn() -> u64,
}

/// How memory is measured.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    /// Runs before resident memory is read, at least 1.
    pub runs: usize,
    /// Counting allocator, if the binary has one.
    pub heap: Option<HeapMeter>,
}

impl Default for MemoryPlan {
    /// 20 runs, no counting allocator.
    fn default() -> Self {
        Self { runs: 20, heap: None }
    }
}

/// Loads and runs one model and says where its bytes are.
///
/// * `read`: fetches the file; called after the baseline was read, and its bytes are dropped after loading, as on a board.
/// * `options`: says how to load these bytes.
///
/// [`Memory::gzip_bytes`] is left to whoever has the file. What the system does not tell is `None`.
///
/// # Errors
/// [`RuntimeError::Read`], or as [`Engine::load`] and [`crate::Session::run`].
pub fn measure_memory(
    engine: &dyn Engine,
    read: impl FnOnce() -> io::Result<Vec<u8>>,
    options: impl FnOnce(&[u8]) -> LoadOptions,
    plan: &MemoryPlan,
) -> Result<Memory, RuntimeError> {
    // makes the peak start again from now; where the kernel refuses, it counts from the start of the process
    let _ = fs::write("/proc/self/clear_refs", "5");
    let baseline = resident_bytes();
    if let Some(heap) = plan.heap {
        (heap.reset_peak)();
    }
    let bytes = read()?;
    let file_bytes = bytes.len() as u64;
    let mut session = engine.load(&bytes, &options(&bytes))?;
    drop(bytes);
    // glibc keeps a file of some megabytes in its heap, where the engine could not give it back while it was in use
    sentei_kernels::return_freed_memory();
    let inputs = noise_inputs(&*session, 1);
    for _ in 0..plan.runs.max(1) {
        session.run(&inputs)?;
    }
    let steady = resident_bytes();
    let facts = session.facts();
    Ok(Memory {
        file_bytes,
        gzip_bytes: None,
        weight_bytes: facts.weight_bytes,
        arena_bytes: facts.arena_bytes,
        peak_heap_bytes: plan.heap.map(|heap| (heap.peak_bytes)()),
        steady_rss_bytes: steady.map(|(now, _)| now),
        peak_rss_bytes: steady.map(|(_, peak)| peak),
        baseline_rss_bytes: baseline.map(|(now, _)| now),
    })
}

/// Resident memory of this process now and at its peak, in bytes; `None` where `/proc` does not tell.
pub fn resident_bytes() -> Option<(u64, u64)> {
    parse_status(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_status(status: &str) -> Option<(u64, u64)> {
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("VmRSS")? * 1024, kib("VmHWM")? * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t     512 kB\nThreads:\t1\n";
        assert_eq!(parse_status(status), Some((524_288, 2_097_152)));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn touched_memory_shows_in_the_resident_set() {
        let before = resident_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let after = resident_bytes().unwrap();
        assert!(after.0 >= before.0 + (24 << 20), "{before:?} {after:?} {}", block[0]);
        assert!(after.1 >= after.0);
    }
}
