//! `sentei prune`: a trained ONNX model in, the same model with zeros out.

use std::path::PathBuf;

use anyhow::Result;
use sentei_prune::PruneOutcome;
use sentei_prune::score::ScoreConfig;
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::json;

use crate::exit::usage;
use crate::output::Output;
use crate::progress::Progress;
use crate::prune_blocks::{self, BlockArgs};
use crate::recipe::RecipeArgs;
use crate::training::Workbench;
use crate::{files, models};

/// Removes weights and retrains the rest; the mask is the zero pattern of the written weights.
#[derive(clap::Args)]
pub struct Args {
    /// Trained ONNX model
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// What makes a weight worth keeping: magnitude
    #[arg(long, value_name = "M", default_value = "magnitude")]
    method: String,
    /// Fraction of the prunable weights to keep, in (0, 1]
    #[arg(long, value_name = "D", conflicts_with = "sparsity")]
    density: Option<f64>,
    /// Fraction of the prunable weights to remove, in [0, 1)
    #[arg(long, value_name = "S")]
    sparsity: Option<f64>,
    /// Prune only, in one shot; no image is needed
    #[arg(long, conflicts_with_all = [
        "retrain_epochs", "resume", "data", "split_file", "size", "channels", "train_limit", "mean", "std", "ok_class", "device", "seed",
    ])]
    no_retrain: bool,
    /// Epochs of retraining (per round, or in all for a cubic ramp)
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<u64>,
    #[command(flatten)]
    blocks: BlockArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Where to write the pruned model
    #[arg(long, short, value_name = "ONNX")]
    output: PathBuf,
    /// Go on from the checkpoint beside the output, if there is one
    #[arg(long)]
    resume: bool,
}

/// Runs the verb.
pub fn run(args: Args, out: Output) -> Result<()> {
    files::check_writable(&args.output)?;
    if args.method == prune_blocks::METHOD {
        return prune_blocks::surgery(&args.input, &args.blocks, &args.output, out);
    }
    args.blocks.refuse_for(&args.method)?;
    let mut recipe = args.recipe.resolve()?;
    recipe.model = args.input.display().to_string();
    recipe.prune.score = score(&args.method)?;
    if let Some(density) = args.density {
        if !(density > 0.0 && density <= 1.0) {
            return usage(format!("--density expects a number in (0, 1], found {density}"));
        }
        recipe.prune.sparsity = Some(1.0 - density);
    } else if let Some(sparsity) = args.sparsity {
        recipe.prune.sparsity = Some(sparsity);
    } else if args.no_retrain && args.recipe.recipe.is_none() {
        return usage("how much to keep? give --density or --sparsity, or a --recipe that says it");
    } else if recipe.prune.distribution.takes_a_target() {
        recipe.prune.sparsity = recipe.prune.sparsity.or(recipe.sparsities.first().copied());
    }
    if let Some(epochs) = args.retrain_epochs {
        recipe.prune.retrain.epochs = epochs;
    }
    let outcome = if args.no_retrain {
        let graph = sentei_graph::passes::for_training(models::read(&args.input)?)?.graph;
        sentei_prune::prune_only(&graph, &recipe.prune, recipe.seed)?
    } else {
        let path = args.output.with_extension("checkpoint.safetensors");
        let checkpoint = sentei_prune::Checkpointing { path: path.clone(), resume: args.resume };
        let prune = recipe.prune.clone();
        let mut bench = Workbench::open(recipe, Progress::shown(out))?;
        let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
        let epochs = prune.training_epochs(&bench.recipe.train);
        bench.announce(&start.graph, epochs, out)?;
        let outcome = bench.prune_from(&start.graph, Some(&start.graph), &start.normalise, &prune, Some(checkpoint))?;
        let _ = std::fs::remove_file(path);
        outcome
    };
    let bytes = models::to_onnx(&outcome.graph)?;
    files::write_atomic(&args.output, &bytes)?;
    out.say(layers(&outcome).markdown());
    out.say(format!(
        "{}: {} of {} prunable weights kept (density {:.4})",
        args.output.display(),
        outcome.masks.kept(),
        outcome.masks.prunable(),
        outcome.masks.density()
    ));
    if let Some(last) = outcome.signs.last() {
        let [flipped, stable] = [last.flipped(), last.stable()].map(format::percent);
        out.say(format!(
            "signs: {flipped} of the kept weights changed theirs while training, {stable} kept it in the last epoch"
        ));
    }
    out.object(&json!({
        "model": args.output,
        "sha256": files::sha256(&bytes),
        "method": args.method,
        "density": outcome.masks.density(),
        "kept": outcome.masks.kept(),
        "prunable": outcome.masks.prunable(),
        "history": outcome.history,
        "signs": outcome.signs.last(),
    }));
    Ok(())
}

/// A score by its name on the command line.
fn score(name: &str) -> Result<ScoreConfig> {
    let unknown = || usage(format!("--method `{name}` is unknown; there are: {}", ScoreConfig::names().join(", ")));
    ScoreConfig::named(name).map_or_else(unknown, Ok)
}

/// Kept weights per prunable layer, in graph order.
pub fn layers(outcome: &PruneOutcome) -> Table {
    let mut table = Table::new(&["Layer", "#Weights", "#Kept", "#Density"]);
    for (name, mask) in outcome.masks.iter() {
        let cells =
            [format::large(mask.len() as u64), format::large(mask.kept() as u64), format::percent(mask.density())];
        let [weights, kept, density] = cells.map(Into::into);
        table.push([name.to_string().into(), weights, kept, density]);
    }
    table
}
