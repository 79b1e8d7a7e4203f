//! `sentei prune`: a trained ONNX model in, the same model with zeros out.

use std::path::PathBuf;

use anyhow::Result;
use sentei_prune::config::{PruneConfig, Start};
use sentei_prune::schedule::Schedule;
use sentei_prune::score::ScoreConfig;
use sentei_prune::{PruneOutcome, prunable_layers};
use sentei_report::format;
use sentei_report::table::Table;
use serde_json::json;

use crate::exit::usage;
use crate::method_args::{self, MethodArgs};
use crate::output::Output;
use crate::progress::Progress;
use crate::prune_blocks::{self, BlockArgs, Request};
use crate::recipe::RecipeArgs;
use crate::training::Workbench;
use crate::{files, models};

/// Removes weights and trains the rest; the mask is the zero pattern of the written weights.
#[derive(clap::Args)]
#[command(after_long_help = method_args::help())]
pub struct Args {
    /// ONNX model: trained, or with initial weights for a method that starts from those
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// Fraction of the prunable weights to keep, in (0, 1]
    #[arg(long, value_name = "D", conflicts_with = "sparsity")]
    density: Option<f64>,
    /// Fraction of the prunable weights to remove, in [0, 1)
    #[arg(long, value_name = "S")]
    sparsity: Option<f64>,
    /// Prune only, in one shot; no image is needed (nor can a method that looks at images be used)
    #[arg(long, conflicts_with_all = [
        "retrain_epochs", "epochs", "initial", "resume", "data", "split_file", "size", "channels", "train_limit", "mean", "std", "ok_class", "device",
    ])]
    no_retrain: bool,
    /// Epochs of retraining a trained model (per round, or in all when weights go while it trains)
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<u64>,
    /// Epochs of the whole training: of a method that starts from initial weights, and what rewinding replays a share of
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// The same network with its initial weights, for methods that go back to them (written by `train --initial`)
    #[arg(long, value_name = "ONNX")]
    initial: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
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
    let mut recipe = args.method.resolve(&args.recipe)?;
    recipe.model = args.input.display().to_string();
    if args.method.method.as_deref() == Some(prune_blocks::METHOD) {
        let mut alone = MethodArgs::default();
        alone.method.clone_from(&args.method.method);
        let unused = args.density.is_some() || args.sparsity.is_some() || args.epochs.is_some();
        if unused || args.initial.is_some() || args.method != alone {
            return usage(
                "--method sr-init removes whole blocks: give --blocks or --drop-blocks and --retrain-epochs, no density, \
                 granularity, distribution, schedule, parameterisation, --epochs or --initial",
            );
        }
        if args.no_retrain && args.recipe.seed.is_some() {
            return usage("--seed: nothing is drawn where blocks are only removed");
        }
        if args.retrain_epochs.is_some() && recipe.prune.retrain.rewind.is_some() {
            return usage("--retrain-epochs: the recipe replays a share of the training; take `rewind` out of it");
        }
        recipe.prune.retrain.epochs = args.retrain_epochs.unwrap_or(recipe.prune.retrain.epochs);
        let Args { input, blocks, no_retrain, resume, output, .. } = args;
        return prune_blocks::run(Request { input, args: blocks, recipe, no_retrain, resume, output }, out);
    }
    args.blocks.refuse_for(args.method.method.as_deref().unwrap_or("of the recipe"))?;
    args.method.overlay(&mut recipe)?;
    if let Some(density) = args.density {
        if !(density > 0.0 && density <= 1.0) {
            return usage(format!("--density expects a number in (0, 1], found {density}"));
        }
        recipe.prune.sparsity = Some(1.0 - density);
    } else if let Some(sparsity) = args.sparsity {
        recipe.prune.sparsity = Some(sparsity);
    } else if !recipe.prune.takes_a_target() {
        // Distribution or granularity say it; `PruneConfig::check` refuses a recipe that says it too.
    } else if args.no_retrain && args.recipe.recipe.is_none() {
        return usage("how much to keep? give --density or --sparsity, or a --recipe that says it");
    } else {
        recipe.prune.sparsity = recipe.prune.sparsity.or(recipe.sparsities.first().copied());
    }
    if args.no_retrain && recipe.prune.schedule.regrows() {
        return usage("--no-retrain: this method finds its mask while it trains, so there is nothing it could do");
    }
    if args.no_retrain {
        // One cut is all that is done, whatever schedule the recipe has for its training.
        recipe.prune.schedule = Schedule::OneShot;
    }
    if args.no_retrain && args.recipe.seed.is_some() && recipe.prune.score != ScoreConfig::Random {
        return usage("--seed: without retraining only a random choice draws anything");
    }
    let fresh = recipe.prune.start == Start::Fresh;
    match args.retrain_epochs {
        Some(_) if fresh => {
            return usage("--retrain-epochs: this method trains once, from initial weights; use --epochs");
        }
        Some(_) if recipe.prune.retrain.rewind.is_some() => {
            return usage("--retrain-epochs: this method replays a share of the training; use --epochs");
        }
        Some(epochs) => recipe.prune.retrain.epochs = epochs,
        None => {}
    }
    if args.epochs.is_some() && !fresh && recipe.prune.retrain.rewind.is_none() {
        return usage("--epochs: this method retrains a trained model; use --retrain-epochs");
    }
    recipe.train.epochs = args.epochs.unwrap_or(recipe.train.epochs);
    if args.initial.is_some() != prune_needs_initial(&recipe.prune) && !args.no_retrain {
        return usage(match args.initial {
            Some(_) => "--initial belongs to methods that go back to initial weights: weight-rewind, lottery",
            None => {
                "this method goes back to initial weights: give the file that `train --initial` wrote with --initial"
            }
        });
    }
    if fresh && recipe.prune.distill.is_some() {
        return usage(
            "a method that starts from initial weights has no teacher here; `shrink` has one, the dense baseline",
        );
    }
    let named = recipe.method.clone();
    let prune = recipe.prune.clone();
    let outcome = if args.no_retrain {
        let graph = sentei_graph::passes::for_training(models::read(&args.input)?)?.graph;
        sentei_prune::prune_only(&graph, &recipe.prune, recipe.seed)?
    } else {
        let path = args.output.with_extension("checkpoint.safetensors");
        let checkpoint = sentei_prune::Checkpointing { path: path.clone(), resume: args.resume };
        let mut bench = Workbench::open(recipe, Progress::shown(out))?;
        let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
        let epochs = prune.training_epochs(&bench.recipe.train);
        bench.announce(&start.graph, epochs, out)?;
        let initial = match &args.initial {
            None => None,
            Some(path) => Some(sentei_graph::passes::for_training(models::read(path)?)?.graph),
        };
        let (initial, trained) = match fresh {
            true => (&start.graph, None),
            false => (initial.as_ref().unwrap_or(&start.graph), Some(&start.graph)),
        };
        let outcome = bench.prune_from(initial, trained, &start.normalise, &prune, Some(checkpoint))?;
        let _ = std::fs::remove_file(path);
        outcome
    };
    let bytes = models::to_onnx(&outcome.graph)?;
    files::write_atomic(&args.output, &bytes)?;
    out.say(layers(&outcome).plain());
    if let Some(sentence) = method_args::left_dense(&outcome.graph, &prune) {
        out.say(sentence);
    }
    out.say(format!(
        "{}: {} of {} prunable weights kept (density {:.4})",
        args.output.display(),
        outcome.masks.kept(),
        outcome.masks.prunable(),
        outcome.masks.density()
    ));
    if let Some(row) = outcome.history.iter().find(|row| row.undone) {
        out.say(format!(
            "round {} ({}) cost more than error_budget_points and was undone; pruning ended there",
            row.round, row.group
        ));
    }
    let collapsed = outcome.masks.collapsed();
    if !collapsed.is_empty() {
        out.say(format!("ALARM layer collapse: {} kept no weight; nothing passes through", collapsed.join(", ")));
    }
    if let Some(last) = outcome.signs.last() {
        let [flipped, stable] = [last.flipped(), last.stable()].map(format::percent);
        out.say(format!(
            "signs: {flipped} of the kept weights changed theirs while training, {stable} kept it in the last epoch"
        ));
    }
    out.object(&json!({
        "model": args.output,
        "sha256": files::sha256(&bytes),
        "method": named,
        "prune": prune,
        "density": outcome.masks.density(),
        "left_dense": prune.granularity.left_dense(&prunable_layers(&outcome.graph, prune.prunable_set())),
        "collapsed": outcome.masks.collapsed(),
        "kept": outcome.masks.kept(),
        "prunable": outcome.masks.prunable(),
        "history": outcome.history,
        "signs": outcome.signs.last(),
    }));
    Ok(())
}

fn prune_needs_initial(prune: &PruneConfig) -> bool {
    prune.start == Start::Trained && prune.retrain.rewind_weights
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
