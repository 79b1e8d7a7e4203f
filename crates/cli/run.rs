//! `sentei run`: images in, verdicts out.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use sentei_runner::classify::{Classifier, images};
use sentei_runner::sidecar;
use sentei_runtime::{KernelChoice, LoadOptions};
use serde_json::json;

use crate::bench::at_least_one;
use crate::files;
use crate::measure::{self, EngineName};
use crate::ort_args::OrtArgs;
use crate::output::Output;

/// Classifies images with a model made by sentei (its classes and pixel scaling are in the file).
#[derive(clap::Args)]
pub struct Args {
    /// ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Images (PNG, JPEG, BMP, PNM), or folders of them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Engine that runs the model
    #[arg(long, value_enum, value_name = "ENGINE", default_value = "tract")]
    engine: EngineName,
    /// Threads of the engine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// Tie every thread of the tract engine to a core of its own
    #[arg(long)]
    pin: bool,
    /// Kernels of the tract engine: measure, sparse, dense, or int8 for convolutions in bytes (see `sentei bench --help`)
    #[arg(long, value_name = "CHOICE", default_value = "measure", value_parser = measure::kernel_choice)]
    kernels: KernelChoice,
    /// Classes to print per image, best first
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = at_least_one)]
    top: usize,
    /// Most seconds that loading the model may take; TensorRT may need minutes
    #[arg(long, value_name = "S", default_value_t = 60)]
    time_budget: u64,
    #[command(flatten)]
    ort: OrtArgs,
    /// ONNX Runtime library to use instead of searching for one
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    let ort = args.ort.resolve(args.engine)?;
    let bytes = files::read(&args.model)?;
    let options = LoadOptions {
        threads: args.threads,
        pin: args.pin,
        time_budget: Duration::from_secs(args.time_budget),
        ort,
        kernel_choice: args.kernels,
        library: args.ort_library.clone(),
        ..LoadOptions::default()
    };
    let (options, note) = sidecar::follow(&options, args.engine.name(), &args.model, &bytes);
    note.into_iter().for_each(|note| out.note(format!("note: {note}")));
    let mut classifier = Classifier::load(&args.model, &bytes, &*args.engine.engine()?, &options)?;
    drop(bytes);
    classifier.session().facts().notes.iter().for_each(|note| out.note(format!("note: {note}")));
    let mut verdicts = Vec::new();
    for path in images(&args.images)? {
        let verdict = classifier.classify(&path)?;
        let ranked = &verdict.ranked;
        let top: Vec<String> = ranked.iter().take(args.top).map(|(c, p)| format!("{c} {:.1} %", p * 100.0)).collect();
        out.say(format!("{}: {}", path.display(), top.join(", ")));
        let classes: serde_json::Map<String, serde_json::Value> =
            ranked.iter().map(|(class, p)| (class.clone(), json!(p))).collect();
        verdicts.push(json!({
            "image": path, "class": ranked[0].0, "probabilities": classes, "ms": verdict.milliseconds,
        }));
    }
    let facts = classifier.session().facts();
    out.object(&json!({ "model": args.model, "engine": facts.engine.name, "provider": facts.engine.provider, "verdicts": verdicts }));
    Ok(())
}
