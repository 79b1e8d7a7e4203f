//! `sentei doctor`: what this machine and this build can do.

use anyhow::Result;
use sentei_report::record::Machine;
use sentei_report::table::Table;
use serde_json::json;

use crate::output::Output;

/// Lists the machine, the features of this build, the engines and libraries found, and the kernels that run here.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: Args, out: Output) -> Result<()> {
    let machine = Machine::here();
    let features = [
        ("prune", cfg!(feature = "prune"), "train, prune, compile, inspect, analyze, shrink"),
        ("tract", cfg!(feature = "tract"), "engine tract with the sparse kernels"),
        ("ort", cfg!(feature = "ort"), "engine ort (ONNX Runtime, library found at run time)"),
        ("cuda", cfg!(feature = "cuda"), "training on NVIDIA GPUs"),
    ];
    let mut table = Table::new(&["What", "Found"]);
    let mut row = |what: &str, found: String| table.push([what.into(), found.into()]);
    row("processor", format!("{} ({} cores)", machine.cpu_model, machine.cores));
    row("memory", sentei_report::format::bytes(machine.memory_bytes));
    row("system", format!("{} {} {}", machine.os, machine.arch, machine.kernel));
    row("frequency governor", machine.governor.clone().unwrap_or_else(|| "not readable".into()));
    for (name, on, gives) in features {
        let text = if on {
            format!("in this build: {gives}")
        } else {
            format!("not in this build (cargo build --features {name}): {gives}")
        };
        row(&format!("feature {name}"), text);
    }
    let library = onnx_runtime();
    match &library {
        Ok((version, path)) => row("ONNX Runtime", format!("{version} at {path}")),
        Err(missing) => row("ONNX Runtime", missing.clone()),
    }
    let kernels = sentei_kernels::kernels();
    for (name, runs_here) in &kernels {
        row(&format!("kernel {name}"), if *runs_here { "runs here" } else { "needs another processor" }.into());
    }
    out.say(table.plain());
    out.object(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "features": features.iter().filter(|f| f.1).map(|f| f.0).collect::<Vec<_>>(),
        "onnxruntime": library.as_ref().ok().map(|(version, path)| json!({ "version": version, "path": path })),
        "onnxruntime_missing": library.as_ref().err(),
        "kernels": kernels.iter().map(|(name, runs_here)| json!({ "name": name, "runs_here": runs_here })).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// Version and path of the ONNX Runtime library, or what is missing.
#[cfg(feature = "ort")]
fn onnx_runtime() -> std::result::Result<(String, String), String> {
    let found = sentei_runtime::ort::library_info(None).map_err(|missing| missing.to_string())?;
    Ok((found.version, found.path.display().to_string()))
}

#[cfg(not(feature = "ort"))]
fn onnx_runtime() -> std::result::Result<(String, String), String> {
    Err("not searched for: the feature `ort` is not in this build".into())
}
