//! `sentei analyze init`: what masks found before training are worth, and whether more than their layer densities is.

mod arm;
mod collect;
mod page;
mod plan;
mod plots;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use sentei_data::Split;
use sentei_prune::config::SelectBy;
use sentei_report::format;

use crate::bench::at_least_one;
use crate::jobs::{JobFolder, none_failed, number_of_seeds};
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{RecipeArgs, TrainArgs};
use crate::study::Study;
use crate::training::Workbench;
use crate::{files, models};

use collect::Results;
use plan::{InitPlan, Variant, Wish};

/// Trains every method with its mask as found, shuffled, under fresh weights and inverted; all with the same recipe.
#[derive(clap::Args)]
pub struct Args {
    /// Masks to look at: snip, grasp, grasp-abs, synflow, magnitude (of initial weights), random-erk, random-uniform
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "snip,grasp,synflow,random-erk,random-uniform,magnitude"
    )]
    methods: Vec<String>,
    /// What to do to the masks; the original is always trained
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "original,shuffle,reinit,inversion")]
    variants: Vec<Variant>,
    /// Removed fraction of the prunable weights
    #[arg(long, value_name = "S", default_value_t = 0.95)]
    sparsity: f64,
    /// Seeds, from --seed on: each gives initial weights, masks, shuffles and data order to all arms alike
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number_of_seeds)]
    seeds: u64,
    /// Least density of a layer where weights are ranked over the whole network; 0 lets layers collapse, as in the papers
    #[arg(long, value_name = "D", default_value_t = 0.0)]
    floor: f64,
    /// Epochs after pruning in the control, the masks of a trained network [default: half of --epochs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fine_tune_epochs: Option<u64>,
    /// Trainings at a time
    #[arg(long, short = 'j', value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    jobs: usize,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Folder for the results; run the same again to go on after a kill
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Do this one training of a folder that has a plan; used by the program itself
    #[arg(long, value_name = "I", hide = true)]
    job: Option<usize>,
}

/// Runs the question.
pub fn run(args: Args, out: Output) -> Result<()> {
    if let Some(index) = args.job {
        return one(&args, index, out);
    }
    let mut recipe = args.recipe.resolve_without_method()?;
    args.train.overlay(&mut recipe);
    let fine_tune_epochs = args.fine_tune_epochs.unwrap_or(recipe.train.epochs.div_ceil(2));
    let mut bench = Workbench::open(recipe.clone(), Progress::shown(out))?;
    let wish = Wish {
        methods: &args.methods,
        variants: &args.variants,
        seeds: args.seeds,
        sparsity: args.sparsity,
        floor: args.floor,
        fine_tune_epochs,
    };
    let plan = InitPlan::new(recipe, bench.data.manifest_sha256(), &wish)?;
    let recipe = &bench.recipe;
    plan.check_floors(&models::start(&recipe.model, &bench.data, &recipe.data, recipe.seed, out)?.graph)?;
    let folder = JobFolder::open_or_create(&args.output, &plan)?;
    files::check_writable(&args.output.join("report.md"))?;
    announce(&plan, &folder, &mut bench, args.jobs, out)?;

    let arguments = |index: usize| {
        let words = ["analyze", "init", "--quiet", "--job", &index.to_string(), "--output"];
        words.iter().map(Into::into).chain([args.output.clone().into()]).collect()
    };
    let failed = folder.run_local(args.jobs, folder.pending(), arguments, out)?;

    let results = Results::read(&plan, &folder, chance(&bench), bench.data.indices(Split::Val).len())?;
    let page = page::page(&plan, &results, &bench.data);
    let plots = plots::plots(&plan, &results);
    let plots: Vec<(&str, _)> = plots.iter().map(|(name, plot)| (name.as_str(), plot.clone())).collect();
    let numbers = results.json(&plan);
    Study::write(&args.output, &page.markdown, &numbers, &plots)?;
    out.say(page.summary);
    out.say(format!("Report: {}", args.output.join("report.md").display()));
    out.object(&results.brief(&plan, &args.output));
    none_failed(&failed)
}

/// Accuracy of always naming the most frequent class; balanced accuracy counts every class alike.
fn chance(bench: &Workbench) -> f64 {
    let counts = bench.data.class_counts(Split::Val);
    if bench.recipe.train.select_by == SelectBy::BalancedAccuracy {
        return 1.0 / counts.iter().filter(|c| **c > 0).count().max(1) as f64;
    }
    counts.iter().copied().max().unwrap_or(0) as f64 / counts.iter().sum::<usize>().max(1) as f64
}

/// One training, in a process of its own.
fn one(args: &Args, index: usize, out: Output) -> Result<()> {
    let folder = JobFolder::open(&args.output)?;
    let plan: InitPlan = folder.plan()?;
    let waiting = || out.note(format!("job {index} is being done by another process; waiting for it"));
    folder.run_one(index, waiting, |work| arm::run(&plan, &folder, index, work, out))?;
    Ok(())
}

/// Says what is to be done and how long it will take, before it starts.
fn announce(plan: &InitPlan, folder: &JobFolder, bench: &mut Workbench, parallel: usize, out: Output) -> Result<()> {
    let pending = folder.pending();
    let done = plan.jobs.len() - pending.len();
    let epochs: u64 = pending.iter().map(|i| plan.epochs_of(&plan.jobs[*i])).sum();
    if epochs == 0 || out.quiet {
        return Ok(());
    }
    let recipe = &bench.recipe;
    let start = models::start(&recipe.model, &bench.data, &recipe.data, recipe.seed, out)?;
    let time = bench.estimate(&start.graph, epochs)?;
    // Jobs share the cores, so running several at a time does not make the whole shorter than this by much.
    let time = Duration::from_secs(time.as_secs().max(1));
    let weights: usize = sentei_prune::layers(&start.graph).iter().map(sentei_prune::Layer::len).sum();
    out.note(format!(
        "{} trainings ({done} done before), {epochs} epochs in all: about {} of computing on this machine, {parallel} at a \
         time; {} of the {} trainings are controls; about {} of weights, scores and optimiser state each",
        plan.jobs.len(),
        format::seconds(time.as_secs_f64()),
        plan.jobs.iter().filter(|j| j.method == plan::CONTROL || j.method == plan::DENSE).count(),
        plan.jobs.len(),
        format::bytes(weights as u64 * 4 * 6),
    ));
    Ok(())
}
