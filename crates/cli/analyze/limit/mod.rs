//! `sentei analyze limit`: how sparse a trained network can get under global magnitude order, predicted and measured.
//!
//! One job per training and seed; a study that was killed goes on after its last finished job.

mod advice;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sentei_data::Split;
use sentei_prune::Checkpointing;
use sentei_prune::config::TrainConfig;
use sentei_prune::limit::{LimitReport, LimitSettings};
use sentei_report::format;
use serde::{Deserialize, Serialize};

use crate::bench::at_least_one;
use crate::exit::usage;
use crate::jobs::{JobFolder, number_of_seeds};
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeArgs, TrainArgs};
use crate::training::Workbench;
use crate::{files, models};

/// Pruned networks that are fine-tuned unless told otherwise.
const FINE_TUNE_POINTS: usize = 6;

/// How sparse can this get before its loss must leave the noise, and does training with L1 move that?
#[derive(clap::Args)]
#[command(
    after_help = "Without MODEL the recipe's network is trained first:\n  sentei analyze limit --recipe lenet300-mnist --data mnist/ \
                        --compare-l1 5e-5 --seeds 3 -o limit/"
)]
pub struct Args {
    /// Trained ONNX model; without one the recipe's network is trained
    #[arg(value_name = "MODEL", conflicts_with_all = ["model", "epochs", "l1", "compare_l1", "seeds"])]
    input: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Train with this L1 penalty and without weight decay; it acts on biases too where the recipe's decay_bias_and_norm
    /// says so
    #[arg(long, value_name = "LAMBDA", conflicts_with = "compare_l1", help_heading = "Training")]
    l1: Option<f64>,
    /// Train both ways, as the recipe says and with this L1 penalty, and compare
    #[arg(long, value_name = "LAMBDA", help_heading = "Training")]
    compare_l1: Option<f64>,
    /// Trainings of each kind, with seeds counted up from --seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number_of_seeds, help_heading = "Training")]
    seeds: u64,
    /// Lanczos steps per probe, one Hessian-vector product each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    steps: usize,
    /// Random start vectors; their spread and that of the noise level are the band of the prediction
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one)]
    probes: usize,
    /// Training images for the curvature and the training loss
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = at_least_one)]
    samples: usize,
    /// Count weights whose row of the Hessian vanishes as flat (100 more products; for large convolutional networks)
    #[arg(long)]
    row_norm: bool,
    /// Let every bias and every layer compete, as in the paper; batch-norm scale and shift never do
    #[arg(long)]
    all_parameters: bool,
    /// Loss of validation accuracy that ends the measured curve, in percentage points
    #[arg(long, value_name = "POINTS", default_value_t = 0.5)]
    drop: f64,
    /// Epochs of training for each pruned network of the fine-tuned curve; 0 leaves that curve out
    #[arg(long, value_name = "N", default_value_t = 2)]
    fine_tune_epochs: u64,
    /// Pruned networks to fine-tune: the first at the predicted limit, then a bisection [default: 6]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    fine_tune_points: Option<usize>,
    /// Folder for the report, its plots, and the networks that were trained
    #[arg(long, short, value_name = "DIR", default_value = "limit")]
    output: PathBuf,
}

/// One way of getting a trained network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    /// `given`, `recipe` or `l1`.
    kind: String,
    seed: u64,
    /// Absent for a network that is given.
    train: Option<TrainConfig>,
    settings: LimitSettings,
}

/// All that decides the results.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    question: String,
    /// Name of an architecture, or the SHA-256 of the given file.
    model: String,
    data: String,
    /// Pixel scaling that the flags or the recipe give for an imported model, mean and deviation.
    scaling: [Option<Vec<f32>>; 2],
    jobs: Vec<Job>,
}

/// What a job leaves behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    /// `given`, `recipe` or `l1`.
    kind: String,
    seed: u64,
    /// The trained network, relative to the folder of the study; absent for one that was given.
    model: Option<String>,
    report: LimitReport,
}

/// Runs the question.
pub fn run(args: Args, out: Output) -> Result<()> {
    args.check()?;
    let mut recipe = args.recipe.resolve()?;
    args.train.overlay(&mut recipe);
    if let Some(input) = &args.input {
        recipe.model = input.display().to_string();
    }
    let jobs = args.jobs(&recipe)?;
    for train in jobs.iter().filter_map(|job| job.train.as_ref()) {
        train.check()?;
    }
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    let model = match &args.input {
        Some(path) => files::sha256(&files::read(path)?),
        None => bench.recipe.model.clone(),
    };
    let scaling = [bench.recipe.data.mean.clone(), bench.recipe.data.std.clone()];
    let plan = Plan { question: "limit".into(), model, data: bench.data.manifest_sha256(), scaling, jobs };
    let folder = JobFolder::open_or_create(&args.output, &plan)?;
    announce(&mut bench, &plan, &folder, out)?;
    let (mut failed, mut found) = (Vec::new(), Vec::new());
    for (index, job) in plan.jobs.iter().enumerate() {
        let waiting = || out.note("another process works on this job; waiting for it");
        match folder.run_one(index, waiting, |work| work_on(&mut bench, job, &args.output, work, out)) {
            Ok(_) => found.extend(folder.result::<Found>(index)?),
            Err(error) => {
                out.note(format!("{} failed: {error:#}", job.name()));
                failed.push((job, error));
            }
        }
    }
    if found.is_empty()
        && let Some((job, error)) = failed.pop()
    {
        return Err(error.context(job.name()));
    }
    let why: Vec<String> = failed.iter().map(|(job, error)| format!("{}: {error:#}", job.name())).collect();
    report::write(&args, &bench, &plan.jobs[0].settings, &found, &why, out)?;
    if !why.is_empty() {
        bail!("{} trainings failed (run the same again to try them again): {}", why.len(), why.join("; "));
    }
    Ok(())
}

impl Job {
    fn name(&self) -> String {
        format!("{}, seed {}", self.kind, self.seed)
    }
}

impl Args {
    fn check(&self) -> Result<()> {
        if !self.drop.is_finite() || self.drop < 0.0 {
            return usage(format!("--drop expects percentage points of at least 0, found {}", self.drop));
        }
        if self.fine_tune_epochs == 0 {
            let training = [
                ("--fine-tune-points", self.fine_tune_points.is_some()),
                ("--learning-rate", self.input.is_some() && self.train.learning_rate.is_some()),
                ("--batch-size", self.input.is_some() && self.train.batch_size.is_some()),
            ];
            if let Some((flag, _)) = training.into_iter().find(|(_, given)| *given) {
                return usage(format!("{flag}: with --fine-tune-epochs 0 there is no training that it could change"));
            }
        }
        for (flag, lambda) in [("--l1", self.l1), ("--compare-l1", self.compare_l1)] {
            if let Some(lambda) = lambda.filter(|l| !(l.is_finite() && *l > 0.0)) {
                return usage(format!("{flag} expects a number above 0, found {lambda}"));
            }
        }
        Ok(())
    }

    fn jobs(&self, recipe: &Recipe) -> Result<Vec<Job>> {
        let job = |kind: &str, seed: u64, train: Option<TrainConfig>| {
            let base = train.clone().unwrap_or_else(|| recipe.train.clone());
            let tuning = TrainConfig { epochs: self.fine_tune_epochs, ..recipe.prune.retrain.train_config(&base) };
            let settings = LimitSettings {
                set: recipe.prune.prunable_set(),
                all_parameters: self.all_parameters,
                steps: self.steps,
                probes: self.probes,
                samples: self.samples,
                row_norms: self.row_norm,
                grid: LimitSettings::default().grid,
                drop_points: self.drop,
                fine_tune: (self.fine_tune_epochs > 0).then_some(tuning),
                fine_tune_tries: self.fine_tune_points.unwrap_or(FINE_TUNE_POINTS),
                smoothing: base.label_smoothing,
                seed,
            };
            Job { kind: kind.into(), seed, train, settings }
        };
        if self.input.is_some() {
            return Ok(vec![job("given", recipe.seed, None)]);
        }
        let with_l1 = |l1: f64| TrainConfig { l1, weight_decay: 0.0, ..recipe.train.clone() };
        let kinds: Vec<(&str, TrainConfig)> = match (self.l1, self.compare_l1) {
            (Some(lambda), _) => vec![("l1", with_l1(lambda))],
            (None, Some(lambda)) => vec![("recipe", recipe.train.clone()), ("l1", with_l1(lambda))],
            (None, None) => vec![("recipe", recipe.train.clone())],
        };
        // All kinds of one seed together: a study that is cut short still compares.
        let of_seed = |seed: u64| {
            kinds.iter().map(move |(kind, train)| job(kind, seed, Some(TrainConfig { seed, ..train.clone() })))
        };
        Ok(recipe.seeds(self.seeds)?.flat_map(of_seed).collect())
    }
}

/// The network that a job starts from: fresh for one that is trained, else the given one.
fn start(bench: &Workbench, job: &Job, out: Output) -> Result<models::Start> {
    models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, job.seed, out)
}

/// Says what the unfinished jobs will take.
fn announce(bench: &mut Workbench, plan: &Plan, folder: &JobFolder, out: Output) -> Result<()> {
    let pending = folder.pending();
    let Some(first) = pending.first().map(|index| &plan.jobs[*index]) else { return Ok(()) };
    if out.quiet {
        return Ok(());
    }
    let from = start(bench, first, out)?;
    let cost = bench.limit_cost(&from.graph, &from.normalise, &first.settings)?;
    let jobs = pending.len();
    out.note(format!(
        "{jobs} networks of {} weights, each {} Hessian-vector products over {} images and {} for Lanczos vectors: about {} \
         for all, without training",
        format::large(cost.parameters as u64),
        cost.products,
        first.settings.samples.min(bench.data.indices(Split::Train).len()),
        format::bytes(cost.bytes),
        format::seconds(cost.time.as_secs_f64() * jobs as f64),
    ));
    let epochs = |job: &Job| {
        let tuning = job.settings.fine_tune.as_ref().map_or(0, |t| t.epochs * job.settings.fine_tune_tries as u64);
        tuning + job.train.as_ref().map_or(0, |t| t.epochs)
    };
    bench.announce(&from.graph, pending.iter().map(|index| epochs(&plan.jobs[*index])).sum(), out)
}

fn work_on(bench: &mut Workbench, job: &Job, study: &Path, work: &Path, out: Output) -> Result<Found> {
    let from = start(bench, job, out)?;
    out.note(job.name());
    let (graph, model) = match &job.train {
        None => (from.graph, None),
        Some(train) => {
            bench.recipe.train = train.clone();
            let checkpoint = Checkpointing { path: work.join("train.safetensors"), resume: true };
            let graph = bench.train(&from.graph, &from.normalise, Some(checkpoint))?;
            let name = format!("{}-{}.onnx", job.kind, job.seed);
            files::write_atomic(&study.join(&name), &models::to_onnx(&graph)?)?;
            (graph, Some(name))
        }
    };
    let report = bench.limit(&graph, &from.normalise, &job.settings)?;
    Ok(Found { kind: job.kind.clone(), seed: job.seed, model, report })
}
