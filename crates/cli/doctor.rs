//! `sentei doctor`: what this machine and this build can do.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use sentei_report::record::Machine;
use sentei_report::table::Table;
use serde_json::{Value, json};

use crate::build::{Places, Target, Toolchain};
use crate::exit::Failure;
use crate::output::Output;

/// Lists the machine, the features of this build, the engines, libraries and providers found, and the kernels that run here.
#[derive(clap::Args)]
pub struct Args {
    /// ONNX Runtime library to look at, instead of every one found
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
    /// Print what this one library can do as JSON (what `doctor` starts itself for)
    #[arg(long, hide = true, value_name = "FILE")]
    probe: Option<PathBuf>,
}

/// One line of the table: what, and what was found.
type Row = (String, String);

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    if let Some(library) = &args.probe {
        return onnx_runtime::print(library);
    }
    let machine = Machine::here();
    let features = [
        ("prune", cfg!(feature = "prune"), "train, prune, compile, inspect, analyze, shrink"),
        ("tract", cfg!(feature = "tract"), "engine tract with the sparse kernels"),
        ("ort", cfg!(feature = "ort"), "engine ort (ONNX Runtime, library found at run time)"),
        ("cuda", cfg!(feature = "cuda"), "training on NVIDIA GPUs in this program, without a CUDA trainer beside it"),
    ];
    let onnx_runtime = onnx_runtime::find(args.ort_library.as_deref());
    let kernels = sentei_kernels::kernels();
    let boards = boards();
    let trainer = trainer();
    let sections: [Vec<Row>; 6] = [
        machine_rows(&machine),
        feature_rows(&features),
        trainer.iter().map(|found| ("CUDA trainer".into(), found_or_missing(found))).collect(),
        onnx_runtime::rows(&onnx_runtime),
        boards.iter().map(|(triple, found)| (format!("building for {triple}"), found_or_missing(found))).collect(),
        kernel_rows(&kernels),
    ];
    let mut table = Table::new(&["What", "Found"]);
    for (what, found) in sections.into_iter().flatten() {
        table.push([what.into(), found.into()]);
    }
    out.say(table.plain());
    let mut object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "features": features.iter().filter(|f| f.1).map(|f| f.0).collect::<Vec<_>>(),
        "cuda_trainer": trainer.as_ref().map(|found| json!({ "file": found.as_ref().ok(), "missing": found.as_ref().err() })),
        "boards": boards.iter().map(|(triple, found)| json!({
            "target": triple, "built_with": found.as_ref().ok(), "missing": found.as_ref().err(),
        })).collect::<Vec<_>>(),
        "kernels": kernels.iter().map(|(name, runs_here)| json!({ "name": name, "runs_here": runs_here })).collect::<Vec<_>>(),
    });
    if let (Value::Object(object), Value::Object(found)) = (&mut object, onnx_runtime::json(&onnx_runtime)) {
        object.extend(found);
    }
    out.object(&object);
    Ok(())
}

/// For each target of `sentei build`, what it would be built with, or what is missing.
fn boards() -> Vec<(&'static str, Result<String, Vec<String>>)> {
    let places = Places::of_environment();
    let found = |target: &Target| {
        let found = Toolchain::find(*target, &places).map(|toolchain| toolchain.describe());
        let missing = |error: anyhow::Error| match error.downcast_ref() {
            Some(Failure::Missing { missing, .. }) => missing.clone(),
            _ => vec![format!("{error:#}")],
        };
        (target.triple(), found.map_err(missing))
    };
    Target::value_variants().iter().map(found).collect()
}

/// The program that trains on a GPU, or what is missing for it; none where nothing can be trained.
fn trainer() -> Option<Result<String, Vec<String>>> {
    #[cfg(feature = "prune")]
    return Some(crate::trainer::find().map(|file| file.display().to_string()).map_err(|missing| vec![missing]));
    #[cfg(not(feature = "prune"))]
    None
}

fn found_or_missing(found: &Result<String, Vec<String>>) -> String {
    match found {
        Ok(built_with) => built_with.clone(),
        Err(missing) => format!("missing: {}", missing.join("; ")),
    }
}

fn machine_rows(machine: &Machine) -> Vec<Row> {
    vec![
        ("processor".into(), format!("{} ({} cores)", machine.cpu_model, machine.cores)),
        ("memory".into(), sentei_report::format::bytes(machine.memory_bytes)),
        ("system".into(), format!("{} {} {}", machine.os, machine.arch, machine.kernel)),
        ("frequency governor".into(), machine.governor.clone().unwrap_or_else(|| "not readable".into())),
    ]
}

fn feature_rows(features: &[(&str, bool, &str)]) -> Vec<Row> {
    let text = |(name, on, gives): &(&str, bool, &str)| match on {
        true => format!("in this build: {gives}"),
        false => format!("not in this build (cargo build --features {name}): {gives}"),
    };
    features.iter().map(|feature| (format!("feature {}", feature.0), text(feature))).collect()
}

fn kernel_rows(kernels: &[(String, bool)]) -> Vec<Row> {
    let text = |runs_here: bool| if runs_here { "runs here" } else { "needs another processor" };
    kernels.iter().map(|(name, runs_here)| (format!("kernel {name}"), text(*runs_here).into())).collect()
}

/// Libraries of ONNX Runtime: where they are, what they were compiled with, and which providers can really be used.
#[cfg(feature = "ort")]
mod onnx_runtime {
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use anyhow::{Context, Result};
    use sentei_runtime::ort::{LibrariesFound, LibraryReport, ProviderReport, library_info, probe};
    use serde_json::{Value, json};

    use super::Row;

    /// Every library that was found.
    pub struct Found {
        /// Each with its report, or with why there is none.
        libraries: Vec<(PathBuf, Result<LibraryReport, String>)>,
        /// The one that `--engine ort` uses.
        used: Option<usize>,
        /// Why `--engine ort` has none to use.
        missing: Option<String>,
    }

    pub fn find(only: Option<&Path>) -> Found {
        let here = match only {
            Some(path) => LibrariesFound { paths: vec![path.to_owned()], named: true },
            None => LibrariesFound::here(),
        };
        let report = |path: PathBuf| {
            let report = ask(&path).map_err(|error| format!("{error:#}"));
            (path, report)
        };
        let libraries: Vec<_> = here.paths.into_iter().map(report).collect();
        let tried = if here.named { 1 } else { libraries.len() };
        let used = libraries.iter().take(tried).position(|(_, report)| report.is_ok());
        let missing = match (used, libraries.first()) {
            (Some(_), _) => None,
            (None, Some((_, report))) => report.as_ref().err().cloned(),
            (None, None) => library_info(None).err().map(|error| error.to_string()),
        };
        Found { libraries, used, missing }
    }

    /// A process can load one library, and one that crashes must not take `doctor` with it: this program called again.
    fn ask(library: &Path) -> Result<LibraryReport> {
        let program = std::env::current_exe().context("finding this program to start it again")?;
        let mut child = Command::new(program);
        let out = child.args(["doctor", "--probe"]).arg(library).stdin(Stdio::null()).output();
        let out = out.context("starting this program again")?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim().trim_start_matches("error: ");
            anyhow::bail!(
                "{}",
                if said.is_empty() { format!("loading it ended with {}", out.status) } else { said.into() }
            );
        }
        // a library may write lines of its own
        let text = String::from_utf8_lossy(&out.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).context("reading what the library can do")
    }

    /// What the child process of [`find`] does.
    pub fn print(library: &Path) -> Result<()> {
        println!("{}", serde_json::to_string(&probe(library)?)?);
        Ok(())
    }

    pub fn rows(found: &Found) -> Vec<Row> {
        let mut rows = Vec::new();
        if let (true, Some(missing)) = (found.libraries.is_empty(), &found.missing) {
            rows.push(("ONNX Runtime".into(), missing.clone()));
        }
        for (index, (path, report)) in found.libraries.iter().enumerate() {
            let use_of = if found.used == Some(index) {
                ""
            } else {
                " (not used: ORT_DYLIB_PATH or the search path names another first)"
            };
            match report {
                Ok(report) => {
                    let names: Vec<&str> =
                        report.compiled_in.iter().map(|name| name.trim_end_matches("ExecutionProvider")).collect();
                    let (version, compiled_in) = (&report.version, names.join(", "));
                    let text = format!("{version} at {}{use_of}, compiled with {compiled_in}", path.display());
                    rows.push(("ONNX Runtime".into(), text));
                    rows.extend(report.providers.iter().map(provider));
                }
                Err(error) => rows.push(("ONNX Runtime".into(), format!("{} cannot be used: {error}", path.display()))),
            }
        }
        rows
    }

    fn provider(report: &ProviderReport) -> Row {
        let found = match &report.refused {
            None => "works: it ran a convolution".to_owned(),
            Some(_) if !report.missing.is_empty() => format!("missing {}", report.missing.join(", ")),
            Some(refused) => refused.clone(),
        };
        let how = report.how_to_get_it.iter().map(|how| format!("; {how}")).collect::<String>();
        (format!("  provider {}", report.provider), found + &how)
    }

    pub fn json(found: &Found) -> Value {
        let used = found.used.and_then(|index| found.libraries[index].1.as_ref().ok());
        let libraries = found.libraries.iter().map(|(path, report)| match report {
            Ok(report) => json!(report),
            Err(error) => json!({ "path": path, "error": error }),
        });
        json!({
            "onnxruntime": used.map(|report| json!({ "version": report.version, "path": report.path })),
            "onnxruntime_missing": found.missing,
            "onnxruntime_libraries": libraries.collect::<Vec<_>>(),
        })
    }
}

#[cfg(not(feature = "ort"))]
mod onnx_runtime {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::Row;

    const ABSENT: &str = "not searched for: the feature `ort` is not in this build";

    pub struct Found;

    pub fn find(_: Option<&Path>) -> Found {
        Found
    }

    pub fn print(_: &Path) -> anyhow::Result<()> {
        anyhow::bail!(ABSENT)
    }

    pub fn rows(_: &Found) -> Vec<Row> {
        vec![("ONNX Runtime".into(), ABSENT.into())]
    }

    pub fn json(_: &Found) -> Value {
        json!({ "onnxruntime": null, "onnxruntime_missing": ABSENT, "onnxruntime_libraries": [] })
    }
}
