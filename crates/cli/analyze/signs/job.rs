//! One network of the question: what it starts from, its training, and its validation accuracy.

use std::path::Path;

use anyhow::{Context, Result};
use sentei_data::derive_seed;
use sentei_graph::Graph;
use sentei_prune::ablation::reinitialise;
use sentei_prune::config::PruneConfig;
use sentei_prune::methods::method;
use sentei_prune::{Checkpointing, Masks, SignRow, prunable_layers, recombine};
use serde::{Deserialize, Serialize};

use super::{Arm, Job, Plan};
use crate::jobs::JobFolder;
use crate::models::{self, Start};
use crate::output::Output;
use crate::parents;
use crate::progress::Progress;
use crate::training::{self, Workbench};

/// What a job leaves behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Validation accuracy of the kept epoch.
    pub accuracy: f64,
    /// Kept fraction of the prunable weights.
    pub density: f64,
    /// Signs in every epoch; empty where nothing was trained.
    pub signs: Vec<SignRow>,
}

/// Does job `index` of the folder unless it is done.
pub fn run(dir: &Path, index: usize, out: Output) -> Result<()> {
    let folder = JobFolder::open(dir)?;
    let plan: Plan = folder.plan()?;
    let waiting = || out.note(format!("job {index} is being done by another process; waiting for it"));
    folder.run_one(index, waiting, |work| one(&folder, &plan, plan.jobs[index], work, out))?;
    Ok(())
}

fn one(folder: &JobFolder, plan: &Plan, job: Job, work: &Path, out: Output) -> Result<Done> {
    let mut recipe = plan.recipe.clone();
    (recipe.seed, recipe.train.seed) = (job.seed, job.seed);
    let mut bench = Workbench::open(recipe, Progress::shown(out))?;
    bench.check_images(&plan.data)?;
    let start = models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, job.seed, out)?;
    let checkpoint = Some(Checkpointing { path: work.join("checkpoint.safetensors"), resume: true });
    let (graph, masks, signs) = match job.arm {
        Arm::Plain | Arm::SignIn | Arm::Ham => {
            let name = match job.arm {
                Arm::SignIn => "sign-in",
                Arm::Ham => "ham",
                _ => "random-erk",
            };
            let config = configured(&bench, name, job.sparsity)?;
            let outcome = bench.prune_from(&start.graph, None, &start.normalise, &config, checkpoint)?;
            (outcome.graph, outcome.masks, outcome.signs)
        }
        _ => {
            let learned = learned(folder, plan, &mut bench, &start, job, out)?;
            let masks = Masks::of_zeros(&learned, &prunable_layers(&learned, bench.recipe.prune.prunable_set()));
            let fresh = fresh(&bench, &start, job.seed, out)?;
            let from = match job.arm {
                Arm::Learned => None,
                Arm::Signs => Some(recombine(&fresh, &fresh, &learned)?),
                Arm::Magnitudes => Some(recombine(&fresh, &learned, &fresh)?),
                Arm::Both => Some(recombine(&fresh, &learned, &learned)?),
                Arm::Original => Some(start.graph.clone()),
                _ => Some(fresh),
            };
            let (graph, signs) = match from {
                None => (learned, Vec::new()),
                Some(from) => bench.train_masked(&from, &masks, &start.normalise, checkpoint)?,
            };
            (graph, masks, signs)
        }
    };
    let accuracy = training::val_accuracy(&mut bench, &graph, &start.normalise)?.context("no validation split")?;
    Ok(Done { accuracy, density: masks.density(), signs })
}

/// How the method `name` prunes to `sparsity`.
pub(super) fn configured(bench: &Workbench, name: &str, sparsity: f64) -> Result<PruneConfig> {
    let method = method(name).with_context(|| format!("no method is called {name}"))?;
    Ok(method.configure(&PruneConfig { sparsity: Some(sparsity), ..bench.recipe.prune.clone() }))
}

/// Initial weights that have nothing to do with those of the seed's own network.
fn fresh(bench: &Workbench, start: &Start, seed: u64, out: Output) -> Result<Graph> {
    let seed = derive_seed(seed, "fresh weights", "");
    if start.imported {
        return Ok(reinitialise(&start.graph, seed));
    }
    Ok(models::start(&bench.recipe.model, &bench.data, &bench.recipe.data, seed, out)?.graph)
}

/// The network whose mask and weights are taken apart; made by whichever job needs it first.
fn learned(
    folder: &JobFolder,
    plan: &Plan,
    bench: &mut Workbench,
    start: &Start,
    job: Job,
    out: Output,
) -> Result<Graph> {
    let Job { seed, sparsity, .. } = job;
    let config = configured(bench, &plan.mask, sparsity)?;
    let name = format!("{}-{sparsity}-seed-{seed}", plan.mask);
    parents::made(folder, &name, &name, out, |checkpoint| {
        let dense = match config.start {
            sentei_prune::config::Start::Fresh => None,
            sentei_prune::config::Start::Trained => {
                let name = format!("dense-seed-{seed}");
                let train = |own| bench.train(&start.graph, &start.normalise, Some(own));
                Some(parents::made(folder, &name, &name, out, train)?)
            }
        };
        let outcome = bench.prune_from(&start.graph, dense.as_ref(), &start.normalise, &config, Some(checkpoint))?;
        Ok(outcome.graph)
    })
}
