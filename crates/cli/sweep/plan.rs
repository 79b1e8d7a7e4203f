//! `sweep plan`: which networks to make, in which order, and what that costs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sentei_prune::config::PruneConfig;
use sentei_prune::distribution::Collapse;
use sentei_prune::methods::{Method, method, methods};
use sentei_report::record::{DENSE, SweepJob};
use sentei_report::table::Table;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data_recipe::EMBEDDED;
use crate::exit::usage;
use crate::jobs::{JobFolder, number_of_seeds};
use crate::method_args::obeys_retrain_epochs;
use crate::models;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeArgs, TrainArgs};
use crate::training::Workbench;

/// Layout of `plan.json`; a reader refuses others.
const SCHEMA: u32 = 1;

/// Plans a sweep.
#[derive(clap::Args)]
#[command(after_long_help = crate::method_args::sweep_help())]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Methods to compare, or `all`; an unknown one is answered with the list
    #[arg(long, value_name = "M", required = true, num_args = 1.., value_delimiter = ',')]
    methods: Vec<String>,
    /// Fractions of the prunable weights to remove, each in (0, 1)
    #[arg(long, value_name = "S", num_args = 1.., value_delimiter = ',', default_values_t = [0.8, 0.9, 0.95, 0.98])]
    sparsities: Vec<f64>,
    /// Let a method empty a layer, and report what the network then does; otherwise such a job fails
    #[arg(long)]
    allow_collapse: bool,
    /// Number of seeds: the recipe's and the ones after it
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = number_of_seeds)]
    seeds: u64,
    /// Epochs of retraining (per round, or in all for a cubic ramp) of methods that start from the trained network
    #[arg(long, value_name = "N")]
    retrain_epochs: Option<u64>,
    /// Folder for plan and results
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

/// Everything that decides the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepPlan {
    schema: u32,
    /// The recipe, complete; each job takes its own seed, method and sparsity instead.
    pub recipe: Recipe,
    /// SHA-256 of the data set.
    pub data: String,
    /// The jobs; an index is a place in this list.
    pub jobs: Vec<SweepJob>,
}

impl SweepPlan {
    /// Reads the plan of a folder.
    ///
    /// # Errors
    /// When it was made by another verb or version.
    pub fn of(folder: &JobFolder) -> Result<Self> {
        let plan: SweepPlan = folder.plan()?;
        if plan.schema != SCHEMA {
            return usage(format!("the plan has layout {}, this sentei reads {SCHEMA}: plan again", plan.schema));
        }
        Ok(plan)
    }

    /// What makes a method of the plan other than its paper means it, if anything does.
    pub fn doubt(&self) -> Option<String> {
        let has_lomp = self.jobs.iter().any(|job| job.method == "lomp");
        (has_lomp && self.recipe.train.l1 == 0.0).then(|| {
            "`lomp` cuts a network trained with L1, and this recipe trains without ([train] l1 = 0): here it is one global cut of \
             an ordinary network, not retrained"
                .into()
        })
    }

    /// The recipe of one job: its seed stands wherever a seed stands.
    pub fn recipe_of(&self, job: &SweepJob) -> Recipe {
        let mut recipe = self.recipe.clone();
        recipe.seed = job.seed;
        recipe.train.seed = job.seed;
        recipe
    }
}

/// How `job` prunes; `None` for the dense network.
///
/// # Errors
/// When this sentei does not know the method.
pub fn config(recipe: &Recipe, job: &SweepJob) -> Result<Option<PruneConfig>> {
    if job.method == DENSE {
        return Ok(None);
    }
    let Some(method) = method(&job.method) else {
        if job.method == crate::prune_blocks::METHOD {
            return usage(
                "a sweep compares methods at sparsities, and sr-init removes whole blocks: prune --method sr-init --controls",
            );
        }
        return usage(format!("method `{}` is unknown; there are: {}", job.method, names()));
    };
    let base = PruneConfig { sparsity: Some(job.sparsity), ..recipe.prune.clone() };
    Ok(Some(method.configure(&base)))
}

/// Runs the step.
pub fn run(args: Args, out: Output) -> Result<()> {
    let mut recipe = args.recipe.resolve_without_method()?;
    args.train.overlay(&mut recipe);
    let jobs = jobs(&args, &recipe)?;
    if let Some(epochs) = args.retrain_epochs {
        let obeys = |job: &SweepJob| method(&job.method).is_some_and(|m| obeys_retrain_epochs(m, &recipe));
        if !jobs.iter().any(obeys) {
            return usage("--retrain-epochs: none of these methods retrains for epochs of its own");
        }
        recipe.prune.retrain.epochs = epochs;
    }
    // The jobs name their methods.
    recipe.method = None;
    if args.allow_collapse {
        recipe.prune.collapse = Collapse::Allow;
    }
    if !sentei_models::names().contains(&recipe.model.as_str()) {
        return usage(format!(
            "a sweep starts from seeds, so --model must be one of {}; found {}",
            sentei_models::names().join(", "),
            recipe.model
        ));
    }
    if let Some(file) = &mut recipe.data.split_file {
        // Workers may have another current folder.
        *file = std::path::absolute(&*file).with_context(|| format!("finding {}", file.display()))?;
    }
    if recipe.prune.error_budget_points.is_some() {
        return usage(
            "the recipe's `error_budget_points` undoes prunings that lose much, so that networks would not have the sparsity \
             that they are compared at: remove it from [prune] for a sweep",
        );
    }
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    let plan = SweepPlan { schema: SCHEMA, data: bench.data.manifest_sha256(), recipe: bench.recipe.clone(), jobs };
    // A network that does not fit the images must not leave a plan behind that refuses the next try.
    let model = models::start(&plan.recipe.model, &bench.data, &plan.recipe.data, plan.recipe.seed, out)?;
    for job in &plan.jobs {
        if let Some(config) = config(&plan.recipe, job)? {
            let cut = config.check_floors(&model.graph);
            cut.with_context(|| format!("method {} at sparsity {}", job.method, job.sparsity))?;
        }
    }
    let folder = JobFolder::open_or_create(&args.output, &plan)?;
    let epoch = bench.estimate(&model.graph, 1)?;
    let (table, total) = costs(&plan, epoch)?;
    out.say(table.plain());
    out.say(format!(
        "{}: {} jobs, {} of them to do; about {} when all are done one after another on this machine",
        args.output.display(),
        folder.jobs(),
        folder.pending().len(),
        words(total)
    ));
    if args.seeds < 3 {
        out.note(
            "fewer than 3 seeds: intervals will be very wide (two values) or absent (one); --seeds 3 says far more",
        );
    }
    if let Some(doubt) = plan.doubt() {
        out.note(format!("note: {doubt}"));
    }
    if plan.recipe.data.source != EMBEDDED {
        out.note(format!("every worker needs the images at {}", plan.recipe.data.source));
    }
    out.object(&json!({
        "plan": args.output,
        "jobs": folder.jobs(),
        "pending": folder.pending(),
        "epoch_seconds": epoch.as_secs_f64(),
        "estimated_seconds": total.as_secs_f64(),
        "data": plan.data,
    }));
    Ok(())
}

/// The dense networks first, since others wait for them; then seed by seed, so that what is done early is a whole table.
fn jobs(args: &Args, recipe: &Recipe) -> Result<Vec<SweepJob>> {
    if let Some(bad) = args.sparsities.iter().find(|s| !(**s > 0.0 && **s < 1.0)) {
        return usage(format!("--sparsities expects numbers in (0, 1), found {bad}"));
    }
    let all = args.methods.iter().any(|name| name == "all");
    let asked = args.methods.iter().map(String::as_str).filter(|name| !matches!(*name, "all" | DENSE));
    // A method that fixes the density itself has no place on a curve over sparsities, and is an error when it is asked for.
    let varies = |m: &&Method| m.configure(&recipe.prune).granularity.density().is_none();
    let listed = methods().iter().filter(|_| all).filter(varies).map(|m| m.name);
    let names = asked.chain(listed).fold(Vec::new(), |mut names, name| {
        if !names.contains(&name) {
            names.push(name);
        }
        names
    });
    if names.is_empty() {
        return usage(format!(
            "--methods names no method to compare with the dense network; there are: {}",
            self::names()
        ));
    }
    let mut sparsities = args.sparsities.clone();
    sparsities.sort_by(f64::total_cmp);
    sparsities.dedup();

    let seeds = recipe.seeds(args.seeds)?;
    let dense = |seed| SweepJob { method: DENSE.into(), sparsity: 0.0, seed };
    let mut jobs: Vec<SweepJob> = seeds.clone().map(dense).collect();
    for seed in seeds {
        for &sparsity in &sparsities {
            for name in &names {
                let job = SweepJob { method: name.to_string(), sparsity, seed };
                if let Some(config) = config(recipe, &job)? {
                    config.check().with_context(|| format!("method {name} at sparsity {sparsity}"))?;
                }
                jobs.push(job);
            }
        }
    }
    Ok(jobs)
}

/// Epochs and time per method and in all; the time of one epoch is taken to be the same for all of them.
fn costs(plan: &SweepPlan, epoch: Duration) -> Result<(Table, Duration)> {
    let mut rows: Vec<(String, String, usize, u64)> = Vec::new();
    for job in &plan.jobs {
        let (epochs, from) = match config(&plan.recipe, job)? {
            None => (plan.recipe.train.epochs, "initial weights"),
            Some(config) => {
                let from = if config.needs_trained() { "the dense network" } else { "initial weights" };
                (config.training_epochs(&plan.recipe.train), from)
            }
        };
        match rows.iter_mut().find(|row| row.0 == job.method) {
            Some(row) => row.2 += 1,
            None => rows.push((job.method.clone(), from.into(), 1, epochs)),
        }
    }
    let mut table = Table::new(&["Method", "Starts from", "#Jobs", "#Epochs each", "#About"]);
    let mut total = Duration::ZERO;
    for (name, from, jobs, epochs) in rows {
        let time = epoch.mul_f64(jobs as f64 * epochs as f64);
        total += time;
        table.push([name.into(), from.into(), jobs.to_string().into(), epochs.to_string().into(), words(time).into()]);
    }
    Ok((table, total))
}

fn words(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs().max(1))).to_string()
}

fn names() -> String {
    methods().iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
}
