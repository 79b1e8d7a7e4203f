//! `sweep run`: one job, from images to scores.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use sentei_data::Split;
use sentei_graph::Graph;
use sentei_prune::{Checkpointing, Masks, prunable_layers};
use sentei_report::format;
use sentei_report::record::{SplitScores, SweepJob, SweepLayer, SweepResult};
use serde_json::json;

use super::plan::{SweepPlan, config};
use crate::jobs::{JobFolder, Ran};
use crate::models::Start as Model;
use crate::output::Output;
use crate::progress::Progress;
use crate::training::{self, Workbench};
use crate::{models, parents};

/// Does one job.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the plan
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Which job: its place in the plan, from 0
    #[arg(long, value_name = "I")]
    index: usize,
}

/// Runs the step.
pub fn run(args: Args, out: Output) -> Result<()> {
    let folder = JobFolder::open(&args.folder)?;
    let waiting = || out.note(format!("job {} is being done by another process; waiting for it", args.index));
    let ran = folder.run_one(args.index, waiting, |work| one(&folder, args.index, work, out))?;
    let Some(result) = folder.result::<SweepResult>(args.index)? else {
        bail!("the result of job {} vanished from {}", args.index, args.folder.display());
    };
    let SweepJob { method, sparsity, seed } = &result.job;
    let state = if ran == Ran::Now { "done" } else { "was done before, nothing to do" };
    out.say(format!("job {}: {method} at {}, seed {seed}: {state}", args.index, format::sparsity(*sparsity)));
    out.object(&json!({ "index": args.index, "ran": ran == Ran::Now, "result": result }));
    Ok(())
}

fn one(folder: &JobFolder, index: usize, work: &Path, out: Output) -> Result<SweepResult> {
    let plan = SweepPlan::of(folder)?;
    let job = plan.jobs[index].clone();
    let config = config(&plan.recipe, &job)?;
    let mut bench = Workbench::open(plan.recipe_of(&job), Progress::shown(out))?;
    bench.check_images(&plan.data)?;
    let model = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, job.seed, out)?;
    let trained = |bench: &mut Workbench| parents::dense(folder, bench, &model, job.seed, out);
    match config {
        None => {
            let started = Instant::now();
            let graph = trained(&mut bench)?;
            let masks = Masks::dense(&prunable_layers(&graph, bench.recipe.prune.prunable_set()));
            let epochs = bench.recipe.train.epochs;
            // Another job may have trained it.
            let seconds = parents::seconds(folder, job.seed).unwrap_or_else(|| started.elapsed().as_secs_f64());
            judged(&mut bench, job, &model, &graph, &masks, Cost { epochs, parent_epochs: 0, seconds })
        }
        Some(config) => {
            let parent = config.needs_trained().then(|| trained(&mut bench)).transpose()?;
            let checkpoint = Checkpointing { path: work.join("checkpoint.safetensors"), resume: true };
            let outcome =
                bench.prune_from(&model.graph, parent.as_ref(), &model.normalise, &config, Some(checkpoint))?;
            let cost = Cost {
                epochs: outcome.epochs.len() as u64,
                parent_epochs: if parent.is_some() { bench.recipe.train.epochs } else { 0 },
                // Epochs before a kill count too.
                seconds: outcome.epochs.iter().fold(0.0, |sum, row| sum + row.seconds),
            };
            let signs = outcome.signs.last().map(serde_json::to_value).transpose()?;
            let result = judged(&mut bench, job, &model, &outcome.graph, &outcome.masks, cost)?;
            Ok(SweepResult { signs, ..result })
        }
    }
}

struct Cost {
    epochs: u64,
    parent_epochs: u64,
    seconds: f64,
}

/// Scores the finished network; the only place of a sweep that reads the test split.
fn judged(
    bench: &mut Workbench,
    job: SweepJob,
    model: &Model,
    graph: &Graph,
    masks: &Masks,
    cost: Cost,
) -> Result<SweepResult> {
    let mut scores = |split| -> Result<Option<SplitScores>> {
        let found = training::evaluated(bench, graph, &model.normalise, split)?;
        Ok(found.map(|e| SplitScores {
            samples: e.labels.len() as u64,
            accuracy: e.accuracy(),
            balanced_accuracy: e.balanced_accuracy(),
            loss: e.loss,
        }))
    };
    let layer = |(name, mask): (&str, &sentei_graph::Mask)| SweepLayer {
        name: name.into(),
        weights: mask.len() as u64,
        kept: mask.kept() as u64,
    };
    Ok(SweepResult {
        job,
        val: scores(Split::Val)?,
        test: scores(Split::Test)?,
        density: masks.density(),
        nonzero: training::nonzero_parameters(graph) as u64,
        params: training::parameters(graph) as u64,
        layers: masks.iter().map(layer).collect(),
        epochs: cost.epochs,
        parent_epochs: cost.parent_epochs,
        seconds: cost.seconds,
        signs: None,
    })
}
