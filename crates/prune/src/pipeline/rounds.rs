//! Runs the stages of a pruning and keeps what a resumed run needs.

use std::path::{Path, PathBuf};

use sentei_data::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{LayerRow, PruneOutcome, RoundRow, Stage};
use crate::checkpoint::{Checkpoint, CheckpointError, Checkpointing};
use crate::config::{PruneConfig, SelectBy, Start, TrainConfig};
use crate::dropout::dropout_rules;
use crate::layers::Layer;
use crate::masks::Masks;
use crate::optim::Optimizer;
use crate::score::{Pruner, ScoreData};
use crate::signs::SignRow;
use crate::snapshot::Snapshot;
use crate::train::{Plan, Run, TrainError, Trained, fingerprint, prune_step, train, validate};
use crate::{Net, Teacher};

/// Accuracies that JSON must not round, and everything else that a round leaves behind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    stages_done: usize,
    stopped: bool,
    dense_accuracy: Option<f64>,
    dense_merit_bits: Option<u64>,
    history: Vec<RoundRow>,
    epochs: Vec<sentei_report::record::EpochRow>,
    signs: Vec<SignRow>,
}

/// What a pruning draws on besides the network that it prunes.
pub(super) struct Origin {
    pub teacher: Option<Teacher>,
    /// What survivors go back to before each retraining.
    pub initial: Option<Snapshot>,
}

pub(super) struct Rounds<'a, 'r> {
    net: &'a mut Net,
    train: TrainConfig,
    prune: &'a PruneConfig,
    prunable: &'a [Layer],
    origin: Origin,
    run: &'a mut Run<'r>,
    identity: Json,
    masks: Masks,
    record: Record,
}

impl<'a, 'r> Rounds<'a, 'r> {
    /// Starts from the network's values, or from the checkpoint that is to be resumed.
    pub(super) fn new(
        net: &'a mut Net,
        train: &TrainConfig,
        prune: &'a PruneConfig,
        prunable: &'a [Layer],
        origin: Origin,
        run: &'a mut Run<'r>,
    ) -> Result<Self, TrainError> {
        let masks = Masks::of_zeros(&net.to_graph()?, prunable);
        let identity = match &run.checkpoint {
            None => Json::Null,
            Some(_) => json!({
                "train": train, "prune": prune, "data": run.data.manifest_sha256(), "start": fingerprint(net, &masks)?,
                "normalise": { "mean": run.normalise.mean, "std": run.normalise.std },
                "initial": origin.initial.as_ref().map(Snapshot::fingerprint),
                "teacher": origin.teacher.as_ref().map(|t| fingerprint(&t.net(), &Masks::default())).transpose()?,
            }),
        };
        let train = prune.training(train);
        let mut rounds =
            Rounds { net, train, prune, prunable, origin, run, identity, masks, record: Record::default() };
        if !rounds.resume()? {
            if let Some(to) = rounds.run.checkpoint.as_ref().filter(|to| !to.resume) {
                remove(&epoch_file(to))?;
            }
            rounds.record.dense_accuracy = rounds.accuracy()?;
            rounds.record.dense_merit_bits = rounds.merit()?.map(f64::to_bits);
            // Written at once, so that a resume under another configuration is refused from the first round on, and after
            // the epochs of an earlier run are gone: a resume of this one must not find them.
            rounds.save(false)?;
        }
        Ok(rounds)
    }

    pub(super) fn run(mut self, stages: &[Stage]) -> Result<PruneOutcome, TrainError> {
        while self.record.stages_done < stages.len() && !self.record.stopped {
            self.stage(&stages[self.record.stages_done])?;
            self.record.stages_done += 1;
            self.save(true)?;
        }
        let graph = self.net.to_graph()?;
        let Record { history, epochs, signs, dense_accuracy, .. } = self.record;
        Ok(PruneOutcome { history, epochs, signs, dense_accuracy, ..PruneOutcome::new(graph, self.masks)? })
    }

    fn stage(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let before = (Snapshot::of(self.net)?, self.masks.clone());
        let score = self.prune.score.build();
        let pruner = Pruner {
            granularity: self.prune.granularity,
            collapse: self.prune.collapse,
            data: Some(ScoreData { data: self.run.data, normalise: self.run.normalise }),
            seed: self.train.seed,
            ..Pruner::new(&stage.layers, &*score, &self.prune.distribution)
        };
        let phase = match self.prune.start {
            Start::Trained => format!("prune round {} ({})", stage.round, stage.group),
            Start::Fresh => "train sparse".to_string(),
        };
        let ends = [self.masks.density(), stage.density.unwrap_or(1.0)];
        let policy = self.prune.schedule.policy(&pruner, ends, self.steps());
        if self.prune.schedule.cuts_first() {
            self.masks = pruner.masks(self.net, &self.masks, stage.density.unwrap_or(1.0))?;
            Optimizer::new(&self.train, self.net.vars()).set_masks(self.net.vars(), &self.masks)?;
            let target = stage.density.unwrap_or(self.masks.density());
            self.run.events.emit(&prune_step(&phase, stage.round, target, &self.masks));
        }
        let accuracy_before = self.accuracy()?;
        if let Some(initial) = &self.origin.initial {
            initial.restore(self.net)?;
            Optimizer::new(&self.train, self.net.vars()).set_masks(self.net.vars(), &self.masks)?;
        }
        let dropout = if self.prune.adjust_dropout { dropout_rules(self.net.graph()) } else { Vec::new() };
        if self.train.epochs > 0 {
            let policy = policy.as_deref();
            let plan = Plan::new(&phase, &self.train, &self.masks);
            let plan = Plan {
                frozen: &stage.frozen,
                dropout: &dropout,
                policy,
                parameterisation: self.prune.parameterisation,
                teacher: self.origin.teacher.as_ref(),
                ..plan
            };
            let trained = retrain(self.net, plan, self.run)?;
            self.record.epochs.extend(trained.rows);
            self.record.signs.extend(trained.signs);
            self.masks = trained.masks;
        }
        let accuracy_after = self.accuracy()?;
        let undone = self.is_over_budget()?;
        self.record.history.push(RoundRow {
            round: stage.round,
            group: stage.group.into(),
            target_density: stage.density,
            density: self.masks.density(),
            accuracy_before,
            accuracy_after,
            undone,
            dropout: dropout.iter().map(|rule| (rule.node.clone(), rule.rate_for(&self.masks))).collect(),
            layers: self.prunable.iter().map(|l| self.layer_row(l)).collect(),
        });
        if undone {
            before.0.restore(self.net)?;
            self.masks = before.1;
            self.record.stopped = true;
        }
        Ok(())
    }

    /// Optimiser steps of one round's training.
    fn steps(&self) -> u64 {
        let samples = self.run.data.class_counts(Split::Train).iter().sum::<usize>();
        let steps_per_epoch = samples.checked_div(self.train.batch_size.min(samples)).unwrap_or(0) as u64;
        steps_per_epoch * self.train.epochs
    }

    fn layer_row(&self, layer: &Layer) -> LayerRow {
        let kept = self.masks.get(&layer.name).map_or(layer.len(), |m| m.kept());
        LayerRow { name: layer.name.clone(), kind: layer.kind, weights: layer.len() as u64, kept: kept as u64 }
    }

    fn accuracy(&mut self) -> Result<Option<f64>, TrainError> {
        Ok(validate(self.net, self.run)?.map(|v| v.accuracy()))
    }

    /// What the error budget is about: balanced accuracy if epochs are selected by it, else accuracy.
    fn merit(&mut self) -> Result<Option<f64>, TrainError> {
        let by_class = self.train.select_by == SelectBy::BalancedAccuracy;
        Ok(validate(self.net, self.run)?.map(|v| if by_class { v.balanced_accuracy() } else { v.accuracy() }))
    }

    fn is_over_budget(&mut self) -> Result<bool, TrainError> {
        let Some(points) = self.prune.error_budget_points else { return Ok(false) };
        let dense = self.record.dense_merit_bits.map(f64::from_bits);
        let now = self.merit()?;
        Ok(dense.zip(now).is_some_and(|(dense, now)| (dense - now) * 100.0 > points))
    }

    fn save(&mut self, round_is_done: bool) -> Result<(), TrainError> {
        let Some(to) = &self.run.checkpoint else { return Ok(()) };
        let progress = serde_json::to_value(&self.record).expect("rows are plain data");
        let mut file = Checkpoint {
            identity: self.identity.clone(),
            progress,
            masks: self.masks.clone(),
            ..Checkpoint::default()
        };
        let now = Snapshot::of(self.net)?;
        file.put("weight", now.params);
        file.put("buffer", now.buffers);
        file.save(&to.path)?;
        // The finished round's epochs are of no use any more; a next round must not find them.
        if round_is_done { remove(&epoch_file(to)) } else { Ok(()) }
    }

    fn resume(&mut self) -> Result<bool, TrainError> {
        let Some(from) = &self.run.checkpoint else { return Ok(false) };
        let Some(file) = Checkpoint::resume(from, &self.identity)? else { return Ok(false) };
        let broken = |e: serde_json::Error| CheckpointError::Format { path: from.path.clone(), why: e.to_string() };
        self.record = serde_json::from_value(file.progress.clone()).map_err(broken)?;
        Snapshot { params: file.group("weight"), buffers: file.group("buffer") }.restore(self.net)?;
        self.masks = file.masks;
        Ok(true)
    }
}

/// Trains with a checkpoint file of its own beside that of the rounds.
fn retrain(net: &mut Net, plan: Plan, run: &mut Run) -> Result<Trained, TrainError> {
    let rounds_file = run.checkpoint.take();
    let own = rounds_file.as_ref().map(|c| Checkpointing { path: epoch_file(c), resume: c.resume });
    if let Some(own) = own.as_ref().filter(|c| c.resume)
        && Checkpoint::load(&own.path)?.is_some_and(|found| found.identity["phase"] != plan.phase)
    {
        // Left over from the round before: the run ended between saving that round and removing this file.
        remove(&own.path)?;
    }
    run.checkpoint = own;
    let trained = train(net, plan, run);
    run.checkpoint = rounds_file;
    trained
}

fn remove(path: &Path) -> Result<(), TrainError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CheckpointError::Io { path: path.into(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Where the epochs of the round in progress are kept.
fn epoch_file(rounds: &Checkpointing) -> PathBuf {
    rounds.path.with_extension("epochs.safetensors")
}
