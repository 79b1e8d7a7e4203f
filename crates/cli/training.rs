//! What the verbs that train share: data, device, events, and the calls into `prune`.

use std::sync::Arc;

use anyhow::{Context, Result};
use sentei_data::{Dataset, Normalise, Split};
use sentei_graph::Graph;
use sentei_prune::config::PruneConfig;
use sentei_prune::score::Magnitude;
use sentei_prune::sensitivity::sensitivity;
use sentei_prune::train::{Plan, Run, Stop, train};
use sentei_prune::{Checkpointing, Device, Masks, Net, PruneOutcome, evaluate, prune_and_retrain};
use sentei_report::record::SensitivityScan;

use crate::data_args;
use crate::progress::Progress;
use crate::recipe::Recipe;

/// Everything that training needs beside a graph.
pub struct Workbench {
    /// The run's recipe.
    pub recipe: Recipe,
    /// The images.
    pub data: Arc<Dataset>,
    /// Where events go.
    pub progress: Progress,
    device: Device,
    stop: Stop,
}

impl Workbench {
    /// Reads the images and finds the device.
    ///
    /// # Errors
    /// When the recipe is out of range, the images cannot be read, or the device is not there (exit code 5).
    pub fn open(recipe: Recipe, progress: Progress) -> Result<Self> {
        recipe.check()?;
        let device = sentei_prune::device(&recipe.device)?;
        let data = data_args::open(&recipe.data)?;
        Ok(Workbench { recipe, data, progress, device, stop: Stop::never() })
    }

    fn run<'a>(&'a mut self, normalise: &'a Normalise, checkpoint: Option<Checkpointing>) -> Run<'a> {
        Run { data: &self.data, normalise, events: &mut self.progress, stop: &self.stop, checkpoint }
    }

    /// Trains `graph` as the recipe's `[train]` says and returns the best epoch's weights.
    ///
    /// # Errors
    /// When training diverges or a checkpoint cannot be written or resumed.
    pub fn train(&mut self, graph: &Graph, normalise: &Normalise, checkpoint: Option<Checkpointing>) -> Result<Graph> {
        let config = self.recipe.train.clone();
        let mut net = Net::new(graph, &self.device)?;
        let masks = Masks::default();
        let plan = Plan { phase: "train", config: &config, masks: &masks, frozen: &[], dropout: &[], policy: None };
        train(&mut net, plan, &mut self.run(normalise, checkpoint)).context("training")?;
        Ok(net.to_graph()?)
    }

    /// Prunes `graph` to `sparsity` and retrains it.
    ///
    /// # Errors
    /// When a layer would collapse, and as [`Workbench::train`].
    pub fn prune(
        &mut self,
        graph: &Graph,
        normalise: &Normalise,
        config: &PruneConfig,
        checkpoint: Option<Checkpointing>,
    ) -> Result<PruneOutcome> {
        let (train, device) = (self.recipe.train.clone(), self.device.clone());
        let mut run = self.run(normalise, checkpoint);
        prune_and_retrain(graph, &train, config, &device, &mut run).context("pruning")
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
}

/// Accuracy on the validation split, if there is one.
///
/// # Errors
/// When the graph does not fit the images.
pub fn val_accuracy(bench: &mut Workbench, graph: &Graph, normalise: &Normalise) -> Result<Option<f64>> {
    let indices = bench.data.indices(Split::Val);
    if indices.is_empty() {
        return Ok(None);
    }
    let mut net = Net::new(graph, &bench.device)?;
    Ok(Some(evaluate(&mut net, &bench.data, &indices, normalise)?.accuracy()))
}

/// Trainable numbers of a graph: weights, biases, batch-norm scale and shift.
pub fn parameters(graph: &Graph) -> usize {
    let trainable = graph.parameters().into_iter().filter(|(_, role)| role.is_trainable());
    trainable.filter_map(|(id, _)| graph.initializer(id)).map(|tensor| tensor.len()).sum()
}
