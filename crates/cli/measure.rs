//! Models loaded and timed side by side; memory read in a fresh process per model.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use peakmem_alloc::{INSTRUMENTED_SYSTEM, PeakMemAlloc, PeakMemAllocTrait};
use sentei_report::record::Memory;
use sentei_runner::{measure, sidecar};
use sentei_runtime::meter::{HeapMeter, MemoryPlan, measure_memory};
use sentei_runtime::{Engine, KernelChoice, LoadOptions};
use serde::{Deserialize, Serialize};

use crate::files;

pub use sentei_runner::measure::{Measured, Subject, TUNING, check_seconds, kernel_choices};

/// The program's allocator: the system's, with a counter of live bytes.
pub type Heap = &'static PeakMemAlloc<std::alloc::System>;

/// See [`Heap`].
pub const HEAP: Heap = &INSTRUMENTED_SYSTEM;

/// An engine that a flag or a recipe can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// tract with the sparse kernels
    Tract,
    /// ONNX Runtime
    Ort,
}

impl EngineName {
    /// `tract` or `ort`.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Tract => "tract",
            EngineName::Ort => "ort",
        }
    }

    /// The engine.
    ///
    /// # Errors
    /// When this build does not contain it: exit code 5.
    pub fn engine(self) -> Result<Box<dyn Engine>> {
        Ok(sentei_runtime::engine_named(self.name())?)
    }
}

/// The one choice that `--kernels` names.
///
/// # Errors
/// A sentence that says what is expected.
pub fn kernel_choice(text: &str) -> Result<KernelChoice, String> {
    match kernel_choices(text)?[..] {
        [choice] => Ok(choice),
        _ => Err("expected one choice".into()),
    }
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Engine to measure in.
    pub engine: EngineName,
    /// How models are loaded.
    pub options: LoadOptions,
    /// What every model is measured with; [`Subject::kernels`] says it of each.
    pub kernels: Vec<KernelChoice>,
    /// Seconds for all models together.
    pub seconds: f64,
    /// Rounds to measure at least.
    pub rounds: usize,
    /// Rounds before measuring starts.
    pub warmup: u32,
    /// Whether memory is measured too, in a process per model.
    pub memory: bool,
    /// Kernels are timed for up to [`TUNING`], and what was decided is written beside each model.
    pub tune: bool,
}

/// Measures all subjects in interleaved rounds of this process; the first one is the baseline of every ratio.
///
/// # Errors
/// When a model cannot be loaded or run; the error names its file.
pub fn bench(subjects: &[Subject], plan: &Plan) -> Result<Measured> {
    let how = measure::Plan {
        options: plan.options.clone(),
        seconds: plan.seconds,
        rounds: plan.rounds,
        warmup: plan.warmup,
        tune: plan.tune,
        self_test: false,
    };
    let mut measured = measure::bench(&*plan.engine.engine()?, subjects, &how)?;
    for (row, subject) in measured.bench.rows.iter_mut().zip(subjects).filter(|_| plan.memory) {
        row.memory = Some(memory(subject, plan)?);
    }
    Ok(measured)
}

/// The layer that a node of an engine's plan belongs to. Engines cut a layer into nodes named after it, as tract does
/// with `conv1.pad` and `conv1.matmatmul`; the longest layer name that fits owns the node.
pub fn owner<'a>(node: &str, layers: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let owns = |layer: &&str| node.strip_prefix(*layer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    layers.filter(owns).max_by_key(|layer| layer.len())
}

/// Memory of one model, read in a process of its own: this program called again.
fn memory(subject: &Subject, plan: &Plan) -> Result<Memory> {
    let program = std::env::current_exe().context("finding this program to start it again")?;
    let mut child = Command::new(program);
    child.arg("bench").arg("--memory-of").arg(&subject.path);
    child.args(["--engine", plan.engine.name(), "--threads", &plan.options.threads.to_string()]);
    child.args(["--batch", &plan.options.batch.to_string(), "--kernels", subject.kernels.name()]);
    child.args(["--byte-budget", &plan.options.byte_budget.to_string()]);
    child.args(["--time-budget", &plan.options.time_budget.as_secs().to_string()]);
    if plan.options.pin {
        child.arg("--pin");
    }
    child.args(crate::ort_args::flags(&plan.options.ort));
    if let Some(library) = &plan.options.library {
        child.arg("--ort-library").arg(library);
    }
    let out = child.stdin(Stdio::null()).stderr(Stdio::piped()).output().context("starting this program again")?;
    if !out.status.success() {
        bail!("measuring the memory of {}: {}", subject.path.display(), String::from_utf8_lossy(&out.stderr).trim());
    }
    let mut memory: Memory = serde_json::from_slice(&out.stdout).context("reading the memory measurement")?;
    memory.gzip_bytes = Some(gzip_bytes(&files::read(&subject.path)?)?);
    Ok(memory)
}

/// What the child process of [`bench`] does: loads, runs, prints one JSON object.
///
/// # Errors
/// As [`bench`].
pub fn print_memory(path: &Path, engine: EngineName, options: &LoadOptions) -> Result<()> {
    let heap = HeapMeter { reset_peak: || HEAP.reset_peak_memory(), peak_bytes: || HEAP.get_peak_memory() as u64 };
    let plan = MemoryPlan { heap: Some(heap), ..MemoryPlan::default() };
    let options = |bytes: &[u8]| sidecar::follow(options, engine.name(), path, bytes).0;
    // loading does the same; what it gives back of this process's start must not make the model look smaller
    sentei_kernels::return_freed_memory();
    sentei_kernels::forget_idle_code();
    let memory = measure_memory(&*engine.engine()?, || std::fs::read(path), options, &plan)
        .with_context(|| format!("loading {}", path.display()))?;
    println!("{}", serde_json::to_string(&memory)?);
    Ok(())
}

/// Size of `bytes` after gzip at its best level: the honest rival of any packed format.
///
/// # Errors
/// None in practice: the sink is memory.
pub fn gzip_bytes(bytes: &[u8]) -> Result<u64> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_belongs_to_the_layer_it_is_named_after() {
        let layers = ["conv1", "conv1.bn", "conv10"];
        let found = |node| owner(node, layers.into_iter());
        assert_eq!(found("conv1.bn.matmatmul"), Some("conv1.bn"));
        assert_eq!(found("conv1"), Some("conv1"));
        assert_eq!(found("conv10.sparse"), Some("conv10"));
        assert_eq!(found("conv11"), None);
    }

    #[test]
    fn gzip_shrinks_zeros_to_next_to_nothing() {
        assert!(gzip_bytes(&[0; 100_000]).expect("in memory") < 300);
    }
}
