//! `sentei analyze signs`: does a sparse network owe what it learned to its signs or to its magnitudes, and does Sign-In
//! help one that starts sparse? Paired by seed, one job per network, in a folder that goes on where it was.

mod collect;
mod job;

use std::path::PathBuf;

use anyhow::{Context, Result};
use sentei_data::Split;
use sentei_prune::methods::{method, methods};
use serde::{Deserialize, Serialize};

use crate::bench::at_least_one;
use crate::exit::usage;
use crate::jobs::{JobFolder, none_failed, number_of_seeds};
use crate::method_args::obeys_retrain_epochs;
use crate::models;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeArgs, TrainArgs};
use crate::training::Workbench;

/// Tells signs and magnitudes apart: a learned mask is trained again from the learned signs, the learned magnitudes, both
/// or neither. With --sign-in: random ERK masks trained plainly and by Sign-In.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Fractions of the prunable weights to remove, each in (0, 1)
    #[arg(long, value_name = "S", num_args = 1.., value_delimiter = ',', default_values_t = [0.9])]
    sparsity: Vec<f64>,
    /// Number of seeds: the recipe's and the ones after it
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number_of_seeds)]
    seeds: u64,
    /// Method whose mask and weights are taken apart
    #[arg(long, value_name = "M", default_value = "magnitude", conflicts_with = "sign_in")]
    mask: String,
    /// Epochs of retraining of the method, where it retrains
    #[arg(long, value_name = "N", conflicts_with = "sign_in")]
    retrain_epochs: Option<u64>,
    /// Compare Sign-In with plain training on random ERK masks instead
    #[arg(long)]
    sign_in: bool,
    /// And HAM as a third
    #[arg(long, requires = "sign_in")]
    ham: bool,
    /// Jobs at a time; the cores are divided among them
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    jobs: usize,
    /// Folder for the report; with the same settings it goes on where it was
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Do this one job of the folder
    #[arg(long, hide = true, value_name = "I")]
    job: Option<usize>,
}

/// How one network comes to be. The first of a comparison is what the others are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Arm {
    /// Learned mask, fresh weights.
    Neither,
    /// Learned mask, fresh magnitudes with the learned signs.
    Signs,
    /// Learned mask, learned magnitudes with fresh signs.
    Magnitudes,
    /// Learned mask, learned weights.
    Both,
    /// Learned mask, the weights that the learning began with.
    Original,
    /// The network that the mask comes from, not trained again.
    Learned,
    /// Random ERK mask, plain training.
    Plain,
    /// Random ERK mask, Sign-In.
    SignIn,
    /// Random ERK mask, HAM.
    Ham,
}

impl Arm {
    const APART: [Arm; 6] = [Arm::Neither, Arm::Signs, Arm::Magnitudes, Arm::Both, Arm::Original, Arm::Learned];

    fn about(self) -> &'static str {
        match self {
            Arm::Neither => "learned mask, fresh weights",
            Arm::Signs => "learned mask and signs, fresh magnitudes",
            Arm::Magnitudes => "learned mask and magnitudes, fresh signs",
            Arm::Both => "learned mask and weights, trained again",
            Arm::Original => "learned mask, original initial weights",
            Arm::Learned => "as learned, not trained again",
            Arm::Plain => "random ERK mask, plain",
            Arm::SignIn => "random ERK mask, Sign-In",
            Arm::Ham => "random ERK mask, HAM",
        }
    }
}

/// One network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    arm: Arm,
    sparsity: f64,
    seed: u64,
}

/// Everything that decides the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    question: String,
    recipe: Recipe,
    /// SHA-256 of the data set.
    data: String,
    /// Method whose mask is taken apart.
    mask: String,
    /// Seeds lie innermost, so that jobs side by side seldom wait for the same parent.
    jobs: Vec<Job>,
}

/// Runs the question.
///
/// # Errors
/// When jobs failed; the others were done and collected.
pub fn run(args: Args, out: Output) -> Result<()> {
    if let Some(index) = args.job {
        return job::run(&args.output, index, out);
    }
    let path = std::path::absolute(&args.output)?;
    let (jobs, output) = (args.jobs, args.output.clone());
    let mut bench = Workbench::open(recipe(&args)?, Progress::shown(out))?;
    if bench.data.indices(Split::Val).is_empty() {
        return usage("this question is judged on the validation split, and the images have none");
    }
    let plan = plan(&args, &bench)?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, bench.recipe.seed, out)?;
    if !args.sign_in {
        for sparsity in &args.sparsity {
            let config = job::configured(&bench, &plan.mask, *sparsity)?;
            let fits =
                config.check().map_err(anyhow::Error::from).and_then(|()| Ok(config.check_floors(&start.graph)?));
            fits.with_context(|| format!("--mask {} at --sparsity {sparsity}", plan.mask))?;
        }
    }
    let folder = JobFolder::open_or_create(&output, &plan)?;
    bench.announce(&start.graph, plan.epochs(&folder.pending()), out)?;
    let arguments = |index: usize| {
        let flags = ["--quiet", "analyze", "signs", "--job"].map(Into::into);
        flags.into_iter().chain([index.to_string().into(), "-o".into(), path.clone().into()]).collect()
    };
    let failed = folder.run_local(jobs, folder.pending(), arguments, out)?;
    collect::run(&folder, &plan, bench.data.indices(Split::Val).len(), out)?;
    none_failed(&failed)
}

fn recipe(args: &Args) -> Result<Recipe> {
    let mut recipe = args.recipe.resolve_without_method()?;
    recipe.method = None;
    args.train.overlay(&mut recipe);
    // Sparsities and parameterisations are what is compared.
    recipe.prune.sparsity = None;
    recipe.prune.parameterisation = Default::default();
    if let Some(bad) = args.sparsity.iter().find(|s| !(**s > 0.0 && **s < 1.0)) {
        return usage(format!("--sparsity expects numbers in (0, 1), found {bad}"));
    }
    // A network counted twice would make every interval narrower than it is.
    if let Some((_, twice)) = args.sparsity.iter().enumerate().find(|(i, s)| args.sparsity[..*i].contains(s)) {
        return usage(format!("--sparsity names {twice} twice"));
    }
    let Some(mask) = method(&args.mask) else {
        let known: Vec<&str> = methods().iter().map(|m| m.name).collect();
        return usage(format!("--mask `{}` is unknown; there are: {}", args.mask, known.join(", ")));
    };
    if let Some(epochs) = args.retrain_epochs {
        if !obeys_retrain_epochs(mask, &recipe) {
            return usage(format!("--retrain-epochs: `{}` retrains for no epochs of its own", args.mask));
        }
        recipe.prune.retrain.epochs = epochs;
    }
    Ok(recipe)
}

fn plan(args: &Args, bench: &Workbench) -> Result<Plan> {
    let arms = match (args.sign_in, args.ham) {
        (false, _) => Arm::APART.to_vec(),
        (true, false) => vec![Arm::Plain, Arm::SignIn],
        (true, true) => vec![Arm::Plain, Arm::SignIn, Arm::Ham],
    };
    let seeds = bench.recipe.seeds(args.seeds)?;
    let mut jobs = Vec::new();
    for arm in arms {
        for sparsity in &args.sparsity {
            jobs.extend(seeds.clone().map(|seed| Job { arm, sparsity: *sparsity, seed }));
        }
    }
    let (question, mask) = ("signs".into(), args.mask.clone());
    Ok(Plan { question, recipe: bench.recipe.clone(), data: bench.data.manifest_sha256(), mask, jobs })
}

impl Plan {
    /// Epochs of the jobs `pending`, those of the dense and pruned networks that they need included.
    fn epochs(&self, pending: &[usize]) -> u64 {
        let dense = self.recipe.train.epochs;
        let learning = method(&self.mask).map(|m| m.configure(&self.recipe.prune));
        let retrain = learning.as_ref().map_or(0, |c| c.training_epochs(&self.recipe.train));
        let needs_trained = learning.is_none_or(|c| c.needs_trained());
        let (mut seeds, mut parents, mut total) = (Vec::new(), Vec::new(), 0);
        for index in pending {
            let Job { arm, sparsity, seed } = self.jobs[*index];
            total += if arm == Arm::Learned { 0 } else { dense };
            if Arm::APART.contains(&arm) && !parents.contains(&(seed, sparsity.to_bits())) {
                parents.push((seed, sparsity.to_bits()));
                total += retrain;
                if needs_trained && !seeds.contains(&seed) {
                    seeds.push(seed);
                    total += dense;
                }
            }
        }
        total
    }
}
