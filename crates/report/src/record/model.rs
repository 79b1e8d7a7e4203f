//! What one model costs: work, memory, layers, bytes by kind.

use serde::{Deserialize, Serialize};

/// Where the bytes of one model are. Each column answers a different question and they never add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes of the model file on disk.
    pub file_bytes: u64,
    /// Bytes of the same file after gzip: what an over-the-air update would send.
    pub gzip_bytes: Option<u64>,
    /// Bytes of weights the loaded engine holds in memory; `None` if the engine does not tell.
    pub weight_bytes: Option<u64>,
    /// Bytes of the buffers that activations live in during a run.
    pub arena_bytes: Option<u64>,
    /// Largest total of live heap allocations from before loading to after the last run.
    pub peak_heap_bytes: Option<u64>,
    /// Resident set size of the process while it runs the model repeatedly.
    pub steady_rss_bytes: Option<u64>,
    /// Largest resident set size of the process, loading included.
    pub peak_rss_bytes: Option<u64>,
    /// Resident set size before the model was loaded: the program itself.
    pub baseline_rss_bytes: Option<u64>,
}

impl Memory {
    /// Column title and definition of each field, in order, as printed in reports.
    pub const DEFINITIONS: [(&'static str, &'static str); 8] = [
        ("File", "Bytes of the model file on disk."),
        ("gzip", "Bytes of that file after gzip: what an over-the-air update would send."),
        ("Weights", "Bytes of weights that the loaded engine keeps in memory."),
        ("Arena", "Bytes of the buffers that hold activations during a run."),
        ("Peak heap", "Largest total of live heap allocations from before loading to after the last run."),
        ("Steady RSS", "Resident memory of the whole process while it runs the model repeatedly."),
        ("Peak RSS", "Largest resident memory of the process, loading included."),
        ("RSS before", "Resident memory before the model was loaded: the program itself."),
    ];

    /// The fields in the order of [`Memory::DEFINITIONS`].
    pub fn columns(&self) -> [Option<u64>; 8] {
        [
            Some(self.file_bytes),
            self.gzip_bytes,
            self.weight_bytes,
            self.arena_bytes,
            self.peak_heap_bytes,
            self.steady_rss_bytes,
            self.peak_rss_bytes,
            self.baseline_rss_bytes,
        ]
    }
}

/// How much a model computes for one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Trainable parameters: weights, biases, batch-norm scale and shift.
    pub params: u64,
    /// Those that are not zero.
    pub nonzero: u64,
    /// Multiply-adds executed when zero weights are skipped.
    pub macs: u64,
    /// Multiply-adds a dense model of the same shapes executes.
    pub dense_macs: u64,
}

/// One layer of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Name of the node.
    pub name: String,
    /// Operator, for example `Conv`.
    pub op: String,
    /// Shape of the weight, or of the output when there is none.
    pub shape: Vec<usize>,
    /// Weights of the layer.
    pub weights: u64,
    /// Weights that are not zero.
    pub nonzero: u64,
    /// Bytes the layer takes in the model file.
    pub bytes: u64,
    /// Multiply-adds executed, non-zero weights only.
    pub macs: u64,
    /// Multiply-adds of the dense layer.
    pub dense_macs: u64,
    /// Kernel that ran the layer.
    pub kernel: Option<String>,
    /// Median time of the layer in one run, in nanoseconds.
    pub time_ns: Option<u64>,
    /// Why this kernel ran.
    pub reason: Option<String>,
}

/// Bytes of a model file that serve one purpose, for example `values` or `positions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizePart {
    /// Purpose of the bytes.
    pub part: String,
    /// Number of bytes.
    pub bytes: u64,
}

/// The engine that really ran a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Engine, for example `tract`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Execution provider that really ran, for example `cpu`.
    pub provider: String,
    /// Threads it used.
    pub threads: usize,
}
