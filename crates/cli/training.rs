//! What the verbs that train share: data, device, events, and the calls into `prune`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sentei_data::{Dataset, Normalise, Split};
use sentei_graph::Graph;
use sentei_prune::ablation::Inverted;
use sentei_prune::config::{PruneConfig, TrainConfig};
use sentei_prune::limit::{self, LimitCost, LimitReport, LimitSettings};
use sentei_prune::score::{Magnitude, Pruner, Score, ScoreData};
use sentei_prune::sensitivity::sensitivity;
use sentei_prune::train::{Plan, Run, Stop, epoch_duration, train};
use sentei_prune::{
    Checkpointing, Device, Evaluation, Masks, Net, PruneOutcome, SignRow, dropout_rules, evaluate, prunable_layers,
    prune_from,
};
use sentei_report::record::SensitivityScan;

use crate::data_recipe;
use crate::output::Output;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::trainer;

/// Everything that training needs beside a graph.
pub struct Workbench {
    /// The run's recipe.
    pub recipe: Recipe,
    /// The images.
    pub data: Arc<Dataset>,
    /// Where events go.
    pub progress: Progress,
    /// Where training computes.
    pub device: Device,
    stop: Stop,
}

impl Workbench {
    /// Reads the images and finds the device.
    ///
    /// # Errors
    /// When the recipe is out of range, the images cannot be read, or the device is not there (exit code 5).
    pub fn open(recipe: Recipe, progress: Progress) -> Result<Self> {
        recipe.check()?;
        let device = trainer::device(&recipe.device)?;
        let data = data_recipe::open(&recipe.data)?;
        Ok(Workbench { recipe, data, progress, device, stop: Stop::never() })
    }

    /// Refuses images other than those that a study was planned with.
    ///
    /// * `planned`: their hash in the plan.
    ///
    /// # Errors
    /// When they are others.
    pub fn check_images(&self, planned: &str) -> Result<()> {
        let found = self.data.manifest_sha256();
        if found != planned {
            let source = &self.recipe.data.source;
            bail!("the images at {source} are not those of the plan: their hash is {found}, the plan says {planned}");
        }
        Ok(())
    }

    /// What the calls into `prune` work with.
    pub fn run<'a>(&'a mut self, normalise: &'a Normalise, checkpoint: Option<Checkpointing>) -> Run<'a> {
        Run { data: &self.data, normalise, events: &mut self.progress, stop: &self.stop, checkpoint }
    }

    /// Trains `graph` as the recipe's `[train]` says and returns the best epoch's weights.
    ///
    /// # Errors
    /// When training diverges or a checkpoint cannot be written or resumed.
    pub fn train(&mut self, graph: &Graph, normalise: &Normalise, checkpoint: Option<Checkpointing>) -> Result<Graph> {
        let config = self.recipe.train.clone();
        self.train_as("train", graph, normalise, &config, checkpoint)
    }

    /// Trains `graph` as `config` says, under the name `phase`, and returns the best epoch's weights.
    ///
    /// # Errors
    /// As [`Workbench::train`].
    pub fn train_as(
        &mut self,
        phase: &str,
        graph: &Graph,
        normalise: &Normalise,
        config: &TrainConfig,
        checkpoint: Option<Checkpointing>,
    ) -> Result<Graph> {
        Ok(self.train_timed(phase, graph, normalise, config, checkpoint)?.0)
    }

    /// As [`Workbench::train_as`], with the seconds that all epochs took, those before a kill included.
    ///
    /// # Errors
    /// As [`Workbench::train`].
    pub fn train_timed(
        &mut self,
        phase: &str,
        graph: &Graph,
        normalise: &Normalise,
        config: &TrainConfig,
        checkpoint: Option<Checkpointing>,
    ) -> Result<(Graph, f64)> {
        let mut net = Net::new(graph, &self.device)?;
        let masks = Masks::default();
        let plan = Plan::new(phase, config, &masks);
        let trained = train(&mut net, plan, &mut self.run(normalise, checkpoint)).context("training")?;
        Ok((net.to_graph()?, trained.rows.iter().fold(0.0, |sum, row| sum + row.seconds)))
    }

    /// The masks that `config` gives for `graph` at once; with `inverted` those of its score turned upside down.
    ///
    /// # Errors
    /// When the density cannot be met, or the score cannot be computed.
    pub fn masks(&self, graph: &Graph, normalise: &Normalise, config: &PruneConfig, inverted: bool) -> Result<Masks> {
        let layers = prunable_layers(graph, config.prunable_set());
        let score = config.score.build();
        let score: Box<dyn Score> = if inverted { Box::new(Inverted(score)) } else { score };
        let pruner = Pruner {
            granularity: config.granularity,
            collapse: config.collapse,
            data: Some(ScoreData { data: &self.data, normalise }),
            seed: self.recipe.train.seed,
            ..Pruner::new(&layers, &*score, &config.distribution)
        };
        let mut net = Net::new(graph, &self.device)?;
        let density = config.distribution.final_density(&layers, config.density())?.unwrap_or(1.0);
        Ok(pruner.masks(&mut net, &Masks::of_zeros(graph, &layers), density)?)
    }

    /// Prunes as `config` says, from the initial weights of `fresh` or the trained ones of `trained`, and trains the rest.
    ///
    /// # Errors
    /// When `config` starts from a trained network and there is none, when a layer would collapse, and as
    /// [`Workbench::train`].
    pub fn prune_from(
        &mut self,
        fresh: &Graph,
        trained: Option<&Graph>,
        normalise: &Normalise,
        config: &PruneConfig,
        checkpoint: Option<Checkpointing>,
    ) -> Result<PruneOutcome> {
        let (train, device) = (self.recipe.train.clone(), self.device.clone());
        let mut run = self.run(normalise, checkpoint);
        prune_from(fresh, trained, &train, config, &device, &mut run).context("pruning")
    }

    /// Trains `graph` under `masks` for the recipe's whole `[train]`: the sparse network and how its signs held.
    ///
    /// # Errors
    /// As [`Workbench::train`].
    pub fn train_masked(
        &mut self,
        graph: &Graph,
        masks: &Masks,
        normalise: &Normalise,
        checkpoint: Option<Checkpointing>,
    ) -> Result<(Graph, Vec<SignRow>)> {
        let config = self.recipe.train.clone();
        let mut net = Net::new(graph, &self.device)?;
        let dropout = if self.recipe.prune.adjust_dropout { dropout_rules(graph) } else { Vec::new() };
        let plan = Plan { dropout: &dropout, ..Plan::new("train", &config, masks) };
        let trained = train(&mut net, plan, &mut self.run(normalise, checkpoint)).context("training")?;
        Ok((net.to_graph()?, trained.signs))
    }

    /// How long `epochs` of training `graph` will take here, from a few timed steps; nothing is changed.
    ///
    /// # Errors
    /// When the graph does not fit the images.
    pub fn estimate(&mut self, graph: &Graph, epochs: u64) -> Result<Duration> {
        let (train, device) = (self.recipe.train.clone(), self.device.clone());
        let normalise = Normalise::of(&self.data, Split::Train);
        let epoch =
            epoch_duration(graph, &train, &device, &mut self.run(&normalise, None)).context("timing a few steps")?;
        Ok(epoch.mul_f64(epochs as f64))
    }

    /// Says how long `epochs` of training `graph` will take, before it starts.
    ///
    /// # Errors
    /// As [`Workbench::estimate`].
    pub fn announce(&mut self, graph: &Graph, epochs: u64, out: Output) -> Result<()> {
        if epochs > 0 && !out.quiet {
            let seconds = self.estimate(graph, epochs)?.as_secs().max(1);
            let time = humantime::format_duration(Duration::from_secs(seconds));
            out.note(format!("{epochs} epochs of training in all: about {time} on this machine"));
        }
        Ok(())
    }

    /// Accuracy of every layer pruned alone, on at most `samples` validation images.
    ///
    /// # Errors
    /// When there is no validation split.
    pub fn sensitivity(
        &mut self,
        graph: &Graph,
        normalise: &Normalise,
        samples: usize,
    ) -> Result<Vec<SensitivityScan>> {
        let (set, seed, device) = (self.recipe.prune.prunable_set(), self.recipe.seed, self.device.clone());
        let mut run = self.run(normalise, None);
        sensitivity(graph, set, &Magnitude, samples, seed, &device, &mut run).context("sensitivity scan")
    }

    /// Predicted and measured limit of a trained `graph`.
    ///
    /// # Errors
    /// When there is no validation split, nothing is prunable, or the curvature is not finite.
    pub fn limit(&mut self, graph: &Graph, normalise: &Normalise, settings: &LimitSettings) -> Result<LimitReport> {
        let device = self.device.clone();
        limit::analyse(graph, settings, &device, &mut self.run(normalise, None)).context("analysing the limit")
    }

    /// What [`Workbench::limit`] will take.
    ///
    /// # Errors
    /// As [`Workbench::limit`].
    pub fn limit_cost(&mut self, graph: &Graph, normalise: &Normalise, settings: &LimitSettings) -> Result<LimitCost> {
        let device = self.device.clone();
        limit::cost(graph, settings, &device, &mut self.run(normalise, None)).context("timing a curvature product")
    }
}

/// Accuracy on the validation split, if there is one.
///
/// # Errors
/// When the graph does not fit the images.
pub fn val_accuracy(bench: &mut Workbench, graph: &Graph, normalise: &Normalise) -> Result<Option<f64>> {
    Ok(evaluated(bench, graph, normalise, Split::Val)?.map(|found| found.accuracy()))
}

/// What the network says about the samples of `split`, if there are any.
///
/// # Errors
/// When the graph does not fit the images.
pub fn evaluated(
    bench: &mut Workbench,
    graph: &Graph,
    normalise: &Normalise,
    split: Split,
) -> Result<Option<Evaluation>> {
    let indices = bench.data.indices(split);
    if indices.is_empty() {
        return Ok(None);
    }
    let mut net = Net::new(graph, &bench.device)?;
    Ok(Some(evaluate(&mut net, &bench.data, &indices, normalise)?))
}

/// Trainable numbers of a graph that are not 0.
pub fn nonzero_parameters(graph: &Graph) -> usize {
    let trainable = graph.parameters().into_iter().filter(|(_, role)| role.is_trainable());
    let values = trainable.filter_map(|(id, _)| graph.initializer(id)).flat_map(|tensor| &tensor.data);
    values.filter(|value| **value != 0.0).count()
}

/// Trainable numbers of a graph: weights, biases, batch-norm scale and shift.
pub fn parameters(graph: &Graph) -> usize {
    let trainable = graph.parameters().into_iter().filter(|(_, role)| role.is_trainable());
    trainable.filter_map(|(id, _)| graph.initializer(id)).map(|tensor| tensor.len()).sum()
}
