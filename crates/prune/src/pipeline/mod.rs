//! Prune and retrain, in rounds: the pipeline that every method goes through.
//!
//! Source of the rounds, the error budget and the alternating groups: Han et al. 2015 (arXiv:1506.02626).

mod rounds;

use candle_core::Device;
use sentei_graph::Graph;
use sentei_graph::passes::{DropDeadChannels, Rewritten, apply};
use sentei_report::record::EpochRow;
use serde::{Deserialize, Serialize};

use crate::config::{Groups, PruneConfig, Start, TrainConfig};
use crate::layers::{Layer, LayerKind, layers, prunable_layers};
use crate::masks::{MaskError, Masks};
use crate::score::Pruner;
use crate::signs::SignRow;
use crate::snapshot::Snapshot;
use crate::train::{Run, TrainError};
use crate::{Net, Teacher};

use rounds::{Origin, Rounds};

/// One layer after a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Name of the weight.
    pub name: String,
    /// What kind of layer it is.
    pub kind: LayerKind,
    /// Weights of the layer.
    pub weights: u64,
    /// Weights that are kept.
    pub kept: u64,
}

/// What one round of pruning and retraining did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRow {
    /// Round, from 1.
    pub round: u64,
    /// Name of the group that was pruned, `all` unless groups alternate.
    pub group: String,
    /// Density the schedule asked for, over the layers of the group; absent when the threshold decides.
    pub target_density: Option<f64>,
    /// Kept fraction of all prunable weights afterwards.
    pub density: f64,
    /// Validation accuracy right after removing, before retraining.
    pub accuracy_before: Option<f64>,
    /// Validation accuracy after retraining.
    pub accuracy_after: Option<f64>,
    /// Whether the round lost more than the error budget and was undone.
    pub undone: bool,
    /// Dropout rates that held while retraining, by node.
    pub dropout: Vec<(String, f32)>,
    /// Every prunable layer after the round.
    pub layers: Vec<LayerRow>,
}

/// A pruned network and how it came to be.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneOutcome {
    /// The same graph with pruned, retrained weights: the masks are its zero pattern. Batch norm is not folded.
    pub graph: Graph,
    /// Masks of the prunable layers, in graph order. A weight that a schedule grew and no gradient ever reached is kept
    /// here and 0 in the graph; without regrowth the two agree.
    pub masks: Masks,
    /// [`PruneOutcome::graph`] without the units that are dead in it; computes the same.
    pub compacted: Graph,
    /// What was removed for `compacted`: one line per layer that lost neurons or channels, old and new number.
    pub dead_units: Vec<String>,
    /// One row per round, undone ones included.
    pub history: Vec<RoundRow>,
    /// Every epoch of retraining.
    pub epochs: Vec<EpochRow>,
    /// How signs held in every epoch of retraining.
    pub signs: Vec<SignRow>,
    /// Validation accuracy before anything was removed.
    pub dense_accuracy: Option<f64>,
}

/// Prunes `graph` as `prune` says and trains what is left from its current values.
///
/// * `graph`: trained, or with initial weights when `prune` starts fresh.
/// * `train`: the training that makes a dense network of this kind; retraining takes it over but for
///   [`crate::config::Retrain`], sparse training from fresh weights takes all of it.
/// * `run.checkpoint`: with `resume`, the pruning goes on after its last epoch and ends in the same bytes.
///
/// # Errors
/// [`TrainError::Mask`] when a layer would collapse, [`TrainError::NothingPrunable`], and what training reports.
pub fn prune_and_retrain(
    graph: &Graph,
    train: &TrainConfig,
    prune: &PruneConfig,
    device: &Device,
    run: &mut Run,
) -> Result<PruneOutcome, TrainError> {
    let parents = match prune.start {
        Start::Fresh => Parents { fresh: Some(graph), trained: None },
        Start::Trained => Parents { fresh: None, trained: Some(graph) },
    };
    prune_parents(parents, train, prune, device, run)
}

/// Prunes one of two graphs, as [`PruneConfig::start`] says: `fresh` has initial weights, `trained` those after training.
///
/// See [`prune_and_retrain`].
///
/// # Errors
/// [`TrainError::NoTrainedParent`] when the configuration starts from a trained network and there is none.
pub fn prune_from(
    fresh: &Graph,
    trained: Option<&Graph>,
    train: &TrainConfig,
    prune: &PruneConfig,
    device: &Device,
    run: &mut Run,
) -> Result<PruneOutcome, TrainError> {
    prune_parents(Parents { fresh: Some(fresh), trained }, train, prune, device, run)
}

/// The networks that a pruning may draw on.
#[derive(Clone, Copy)]
struct Parents<'a> {
    /// With initial weights.
    fresh: Option<&'a Graph>,
    /// With trained weights.
    trained: Option<&'a Graph>,
}

fn prune_parents(
    parents: Parents,
    train: &TrainConfig,
    prune: &PruneConfig,
    device: &Device,
    run: &mut Run,
) -> Result<PruneOutcome, TrainError> {
    prune.check()?;
    let graph = match prune.start {
        Start::Fresh => parents.fresh.ok_or(TrainError::NoInitialWeights)?,
        Start::Trained => parents.trained.ok_or(TrainError::NoTrainedParent)?,
    };
    let prunable = prunable(graph, prune)?;
    if prune.error_budget_points.is_some() && run.data.indices(sentei_data::Split::Val).is_empty() {
        return Err(TrainError::NoValidation(run.data.name.clone(), "error_budget_points"));
    }
    let teacher = match prune.distill {
        None => None,
        Some(settings) => Some(Teacher::new(parents.trained.ok_or(TrainError::NoTrainedParent)?, settings, device)?),
    };
    let initial = match prune.start == Start::Trained && prune.retrain.rewind_weights {
        false => None,
        true => {
            let fresh = parents.fresh.ok_or(TrainError::NoInitialWeights)?;
            Some(Snapshot::of(&Net::new(fresh, device)?)?)
        }
    };
    let mut net = Net::new(graph, device)?;
    let stages = stages(graph, &prunable, prune)?;
    Rounds::new(&mut net, train, prune, &prunable, Origin { teacher, initial }, run)?.run(&stages)
}

/// Prunes `graph` in one go to the final density, without data and without retraining.
///
/// * `seed`: of everything that the score draws.
///
/// The schedule, the retraining and the error budget of `prune` do not matter here.
///
/// # Errors
/// [`TrainError::Mask`] when a layer would collapse, [`TrainError::NothingPrunable`], [`TrainError::NoScoreData`].
pub fn prune_only(graph: &Graph, prune: &PruneConfig, seed: u64) -> Result<PruneOutcome, TrainError> {
    prune.check()?;
    let prunable = prunable(graph, prune)?;
    let mut net = Net::new(graph, &Device::Cpu)?;
    let score = prune.score.build();
    let pruner = Pruner {
        granularity: prune.granularity,
        collapse: prune.collapse,
        seed,
        ..Pruner::new(&prunable, &*score, &prune.distribution)
    };
    let density = prune.distribution.final_density(&prunable, prune.density())?;
    let masks = pruner.masks(&mut net, &Masks::of_zeros(graph, &prunable), density.unwrap_or(1.0))?;
    let mut pruned = graph.clone();
    for (name, mask) in masks.iter() {
        let id = graph.value(name).expect("masks are of this graph");
        let mut tensor = graph.initializer(id).expect("masks are of initializers").clone();
        mask.apply(&mut tensor.data);
        pruned.set_initializer(id, tensor);
    }
    PruneOutcome::new(pruned, masks)
}

/// The layers that `prune` prunes, of which there is at least one.
fn prunable(graph: &Graph, prune: &PruneConfig) -> Result<Vec<Layer>, TrainError> {
    let prunable = prunable_layers(graph, prune.prunable_set());
    if prunable.is_empty() {
        return Err(TrainError::NothingPrunable);
    }
    match prune.granularity.left_dense(&prunable).len() == prunable.len() {
        true => Err(TrainError::PatternFitsNothing(prune.granularity)),
        false => Ok(prunable),
    }
}

impl PruneOutcome {
    fn new(graph: Graph, masks: Masks) -> Result<Self, TrainError> {
        let Rewritten { graph: compacted, steps } = apply(graph.clone(), &[&DropDeadChannels])?;
        let dead_units = steps.into_iter().map(|step| step.note).collect();
        let (history, epochs, signs, dense_accuracy) = Default::default();
        Ok(PruneOutcome { graph, masks, compacted, dead_units, history, epochs, signs, dense_accuracy })
    }
}

/// One removal with the training after it.
#[derive(Clone, Debug, PartialEq)]
struct Stage {
    round: u64,
    group: &'static str,
    /// Layers that are pruned.
    layers: Vec<Layer>,
    /// Parameters that do not move.
    frozen: Vec<String>,
    /// Density over `layers`; absent when the threshold decides.
    density: Option<f64>,
}

fn stages(graph: &Graph, prunable: &[Layer], prune: &PruneConfig) -> Result<Vec<Stage>, MaskError> {
    let is_linear = |l: &Layer| l.kind == LayerKind::Linear;
    let groups: Vec<(&'static str, Vec<Layer>, Vec<String>)> = match prune.groups {
        Groups::All => vec![("all", prunable.to_vec(), Vec::new())],
        Groups::Alternate => [("linear", true), ("conv", false)]
            .into_iter()
            .map(|(name, linear)| {
                let members = prunable.iter().filter(|l| is_linear(l) == linear).cloned().collect();
                let others = layers(graph).into_iter().filter(|l| is_linear(l) != linear);
                (name, members, others.flat_map(|l| [Some(l.name), l.bias]).flatten().collect())
            })
            .filter(|(_, members, _): &(_, Vec<Layer>, _)| !members.is_empty())
            .collect(),
    };
    let mut schedules = Vec::new();
    for (_, members, _) in &groups {
        let end = prune.distribution.final_density(members, prune.density())?;
        let from = Masks::of_zeros(graph, members).density().max(end.unwrap_or(0.0));
        let densities = prune.schedule.rounds(from, end.unwrap_or(from)).into_iter();
        schedules.push(densities.map(|d| end.map(|_| d)).collect::<Vec<_>>());
    }
    let rounds = schedules.first().map_or(0, Vec::len);
    let stage = |round: usize, g: usize| {
        let (group, members, frozen) = &groups[g];
        let (layers, frozen) = (members.clone(), frozen.clone());
        Stage { round: round as u64 + 1, group, layers, frozen, density: schedules[g][round] }
    };
    Ok((0..rounds).flat_map(|r| (0..groups.len()).map(move |g| (r, g))).map(|(r, g)| stage(r, g)).collect())
}

#[cfg(test)]
mod tests;
