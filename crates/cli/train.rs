//! `sentei train`: images in, a trained dense ONNX model out.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{RecipeArgs, TrainArgs};
use crate::training::{self, Workbench};
use crate::{files, models};

/// Trains a network on the training split, keeps the epoch that is best on the validation split.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Where to write the model
    #[arg(long, short, value_name = "ONNX", default_value = "baseline.onnx")]
    output: PathBuf,
    /// Where to write the network as it was before training, for methods that start from initial weights or go back to them
    #[arg(long, value_name = "ONNX")]
    initial: Option<PathBuf>,
    /// Go on from the checkpoint beside the output, if there is one
    #[arg(long)]
    resume: bool,
    /// Print where the time went at the end: op by op, forward and gradients, and what lies around them
    #[arg(long)]
    profile: bool,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    files::check_writable(&args.output)?;
    let mut recipe = args.recipe.resolve()?;
    args.train.overlay(&mut recipe);
    let mut bench = Workbench::open(recipe, Progress::shown(out).with_profile(args.profile))?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
    let checkpoint_path = args.output.with_extension("checkpoint.safetensors");
    let checkpoint = sentei_prune::Checkpointing { path: checkpoint_path.clone(), resume: args.resume };
    if let Some(path) = &args.initial {
        files::write_atomic(path, &models::to_onnx(&start.graph)?)?;
    }
    let epochs = bench.recipe.train.epochs;
    bench.announce(&start.graph, epochs, out)?;
    let graph = bench.train(&start.graph, &start.normalise, Some(checkpoint))?;
    let bytes = models::to_onnx(&graph)?;
    files::write_atomic(&args.output, &bytes)?;
    let _ = std::fs::remove_file(checkpoint_path);
    let accuracy = training::val_accuracy(&mut bench, &graph, &start.normalise)?;
    out.say(format!(
        "{}: {} parameters, validation accuracy {}",
        args.output.display(),
        training::parameters(&graph),
        accuracy.map_or("n/a (no validation split)".into(), |a| format!("{:.2} %", a * 100.0)),
    ));
    out.object(&json!({
        "model": args.output,
        "sha256": files::sha256(&bytes),
        "params": training::parameters(&graph),
        "val_accuracy": accuracy,
        "data": bench.data.manifest_sha256(),
        "seed": bench.recipe.seed,
    }));
    Ok(())
}
