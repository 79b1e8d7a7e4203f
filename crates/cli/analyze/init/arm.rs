//! One training of a study: a mask, what is done to it, and what comes out.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sentei_data::{Split, derive_seed};
use sentei_graph::Graph;
use sentei_prune::ablation::{reinitialise, shuffle};
use sentei_prune::config::SelectBy;
use sentei_prune::score::passes_signal;
use sentei_prune::survivors::{Survivors, survivors};
use sentei_prune::{Checkpointing, Device, Masks, Net, prunable_layers};
use serde::{Deserialize, Serialize};

use super::plan::{CONTROL, DENSE, InitPlan, Job, Variant};
use crate::jobs::JobFolder;
use crate::models::{self, Start};
use crate::output::Output;
use crate::parents;
use crate::progress::Progress;
use crate::training::{Workbench, evaluated};

/// What one training led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Accuracy on the validation split, balanced when the recipe selects by that; in `[0, 1]`.
    pub accuracy: f64,
    /// Weights that the mask keeps.
    pub kept: u64,
    /// Weights that it could keep.
    pub prunable: u64,
    /// Layers that keep no weight.
    pub collapsed: Vec<String>,
    /// Whether any path from input to output is left.
    pub passes_signal: bool,
    /// Weights that the shuffle moved; absent without one.
    pub moved: Option<u64>,
    /// The kept weights before training.
    pub before: Vec<Survivors>,
    /// The same after training.
    pub after: Vec<Survivors>,
    /// Duration of the training since it was last resumed.
    pub seconds: f64,
}

/// Does job `index`.
///
/// # Errors
/// When the images changed since the plan, training diverges, or a density cannot be met.
pub fn run(plan: &InitPlan, folder: &JobFolder, index: usize, work: &Path, out: Output) -> Result<Arm> {
    let job = plan.jobs.get(index).context("no such job")?;
    let mut bench = Workbench::open(plan.recipe_of(job), Progress::shown(out))?;
    bench.check_images(&plan.data)?;
    let recipe = &bench.recipe;
    let start = models::start(&recipe.model, &bench.data, &recipe.data, job.seed, out)?;
    let started = Instant::now();
    let checkpoint = Checkpointing { path: work.join("checkpoint.safetensors"), resume: true };
    match job.method.as_str() {
        DENSE => {
            let trained = parents::dense(folder, &mut bench, &start, job.seed, out)?;
            let masks = Masks::dense(&prunable_layers(&trained, bench.recipe.prune.prunable_set()));
            let arm = Case { graph: &start.graph, masks: &masks, moved: None, scale: &start.graph };
            arm.judge(&trained, &mut bench, &start, started)
        }
        CONTROL => {
            let parent = values_of(&start.graph, &parents::dense(folder, &mut bench, &start, job.seed, out)?)?;
            let masks = bench.masks(&parent, &start.normalise, &plan.control, false)?;
            bench.recipe.train = plan.control.retrain.train_config(&bench.recipe.train);
            train_variant(&parent, masks, job, checkpoint, &mut bench, &start, started, out)
        }
        name => {
            let method = plan.methods.iter().find(|m| m.name == name);
            let method = method.with_context(|| format!("the plan has no method `{name}`"))?;
            let inverted = job.variant == Variant::Inversion;
            let masks = bench.masks(&start.graph, &start.normalise, &method.prune, inverted)?;
            train_variant(&start.graph, masks, job, checkpoint, &mut bench, &start, started, out)
        }
    }
}

/// Trains what `masks` keep of `graph`, after the variant has had its way.
#[expect(clippy::too_many_arguments, reason = "everything that the three variants may need, once")]
fn train_variant(
    graph: &Graph,
    masks: Masks,
    job: &Job,
    checkpoint: Checkpointing,
    bench: &mut Workbench,
    start: &Start,
    started: Instant,
    out: Output,
) -> Result<Arm> {
    let (mut masks, mut moved, mut fresh) = (masks, None, None);
    match job.variant {
        Variant::Original | Variant::Inversion => {}
        Variant::Shuffle => {
            // Every arm prunes what the recipe says, in its groups.
            let prune = &bench.recipe.prune;
            let layers = prunable_layers(graph, prune.prunable_set());
            let seed = derive_seed(job.seed, "ablation", &job.method);
            let shuffled = shuffle(&masks, &layers, prune.granularity, seed);
            if shuffled.moved == 0 {
                bail!("the shuffle moved nothing: no layer has both kept and removed weights; raise --sparsity");
            }
            (masks, moved) = (shuffled.masks, Some(shuffled.moved as u64));
        }
        Variant::Reinit => fresh = Some(fresh_weights(bench, start, job.seed, out)?),
    }
    let initial = fresh.as_ref().unwrap_or(graph);
    let (trained, _) = bench.train_masked(initial, &masks, &start.normalise, Some(checkpoint))?;
    Case { graph: initial, masks: &masks, moved, scale: graph }.judge(&trained, bench, start, started)
}

/// Other initial weights: the same architecture built with another seed, or an imported network redrawn layer by layer.
fn fresh_weights(bench: &Workbench, start: &Start, seed: u64, out: Output) -> Result<Graph> {
    let other = derive_seed(seed, "ablation", "fresh weights");
    if start.imported {
        return Ok(reinitialise(&start.graph, other));
    }
    let recipe = &bench.recipe;
    Ok(models::start(&recipe.model, &bench.data, &recipe.data, other, out)?.graph)
}

/// `graph` with the values that `trained` has under the same names.
fn values_of(graph: &Graph, trained: &Graph) -> Result<Graph> {
    let mut net = Net::new(graph, &Device::Cpu)?;
    net.load_graph_values(trained).context("taking the weights of the trained network")?;
    Ok(net.to_graph()?)
}

/// What was trained.
struct Case<'a> {
    graph: &'a Graph,
    masks: &'a Masks,
    moved: Option<u64>,
    /// Its weights set the scale of the histograms.
    scale: &'a Graph,
}

impl Case<'_> {
    fn judge(&self, trained: &Graph, bench: &mut Workbench, start: &Start, started: Instant) -> Result<Arm> {
        let Some(found) = evaluated(bench, trained, &start.normalise, Split::Val)? else {
            bail!("`{}` has no validation split to compare on; give one with --split-file", bench.data.name);
        };
        let balanced = bench.recipe.train.select_by == SelectBy::BalancedAccuracy;
        Ok(Arm {
            accuracy: if balanced { found.balanced_accuracy() } else { found.accuracy() },
            kept: self.masks.kept() as u64,
            prunable: self.masks.prunable() as u64,
            collapsed: self.masks.collapsed().into_iter().map(String::from).collect(),
            passes_signal: passes_signal(trained)?,
            moved: self.moved,
            before: survivors(self.graph, self.masks, self.scale),
            after: survivors(trained, self.masks, self.scale),
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}
