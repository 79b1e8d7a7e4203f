//! The state of a training between two epochs, and its way into and out of a checkpoint.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use sentei_report::record::EpochRow;

use super::{Plan, Run, TrainError};
use crate::Net;
use crate::checkpoint::{Checkpoint, CheckpointError, Checkpointing};
use crate::masks::Masks;
use crate::optim::{Counters, Optimizer};
use crate::signs::SignRow;
use crate::snapshot::{Snapshot, Value, hex};

/// The best epoch so far.
pub(super) struct Best {
    pub epoch: u64,
    pub merit: [f64; 2],
    pub snapshot: Snapshot,
}

impl Best {
    pub(super) fn of(net: &Net, epoch: u64, merit: [f64; 2]) -> Result<Best, TrainError> {
        Ok(Best { epoch, merit, snapshot: Snapshot::of(net)? })
    }
}

/// Everything that changes while training, besides network and optimiser.
pub(super) struct State {
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    pub rows: Vec<EpochRow>,
    pub signs: Vec<SignRow>,
    pub best: Option<Best>,
    pub masks: Masks,
}

/// The counters of a [`State`] as they are stored.
#[derive(Serialize, Deserialize)]
struct Progress {
    epoch: u64,
    step: u64,
    rows: Vec<EpochRow>,
    signs: Vec<SignRow>,
    /// Epoch and merit; the merit as bits, because JSON numbers may lose the last one.
    best: Option<(u64, [u64; 2])>,
    optimizer: Counters,
}

impl State {
    pub(super) fn new(masks: Masks) -> State {
        State { epoch: 0, step: 0, rows: Vec::new(), signs: Vec::new(), best: None, masks }
    }

    pub(super) fn save(
        &self,
        to: &Checkpointing,
        identity: &Json,
        net: &Net,
        optimizer: &Optimizer,
    ) -> Result<(), TrainError> {
        let best = self.best.as_ref().map(|b| (b.epoch, b.merit.map(f64::to_bits)));
        let progress = Progress {
            epoch: self.epoch,
            step: self.step,
            rows: self.rows.clone(),
            signs: self.signs.clone(),
            best,
            optimizer: optimizer.counters(),
        };
        let progress = serde_json::to_value(progress).expect("counters and rows are plain data");
        let mut file =
            Checkpoint { identity: identity.clone(), progress, masks: self.masks.clone(), ..Checkpoint::default() };
        let now = Snapshot::of(net)?;
        file.put("weight", now.params);
        file.put("buffer", now.buffers);
        if let Some(best) = &self.best {
            file.put("best_weight", best.snapshot.params.clone());
            file.put("best_buffer", best.snapshot.buffers.clone());
        }
        let flat = |name: &str, data: &[f32]| Value { name: name.into(), shape: vec![data.len()], data: data.to_vec() };
        for slot in optimizer.slots() {
            for (group, values) in slot.state() {
                file.put(group, [flat(&slot.name, &values)]);
            }
        }
        Ok(file.save(&to.path)?)
    }

    /// Takes over what the checkpoint holds, if there is one to resume.
    pub(super) fn resume(
        &mut self,
        from: &Checkpointing,
        identity: &Json,
        net: &mut Net,
        optimizer: &mut Optimizer,
    ) -> Result<(), TrainError> {
        let Some(file) = Checkpoint::resume(from, identity)? else { return Ok(()) };
        let broken = |why: String| CheckpointError::Format { path: from.path.clone(), why };
        let progress: Progress = serde_json::from_value(file.progress.clone()).map_err(|e| broken(e.to_string()))?;
        Snapshot { params: file.group("weight"), buffers: file.group("buffer") }.restore(net)?;
        let saved =
            |group: &str, name: &str| file.values.get(&(group.to_string(), name.to_string())).map(|v| v.data.clone());
        if !optimizer.load(progress.optimizer, saved) {
            return Err(broken("optimiser state does not fit the network".into()).into());
        }
        self.best = progress.best.map(|(epoch, merit)| {
            let snapshot = Snapshot { params: file.group("best_weight"), buffers: file.group("best_buffer") };
            Best { epoch, merit: merit.map(f64::from_bits), snapshot }
        });
        (self.epoch, self.step, self.rows) = (progress.epoch, progress.step, progress.rows);
        self.signs = progress.signs;
        self.masks = file.masks;
        Ok(())
    }
}

/// What must be the same to resume a training.
pub(super) fn identity(net: &Net, plan: &Plan, run: &Run) -> Result<Json, TrainError> {
    Ok(json!({
        "phase": plan.phase,
        "train": plan.config,
        "parameterisation": plan.parameterisation,
        "data": run.data.manifest_sha256(),
        "normalise": { "mean": run.normalise.mean, "std": run.normalise.std },
        "frozen": plan.frozen,
        "dropout": plan.dropout.iter().map(|rule| rule.node.as_str()).collect::<Vec<_>>(),
        "start": fingerprint(net, plan.masks)?,
        "teacher": plan.teacher.map(|t| Ok::<_, TrainError>(json!([t.settings(), fingerprint(&t.net(), &Masks::default())?]))).transpose()?,
    }))
}

/// SHA-256, in hex, over names, shapes and values of a network and its masks.
pub(crate) fn fingerprint(net: &Net, masks: &Masks) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    Snapshot::of(net)?.hash(&mut hash);
    for (name, mask) in masks.iter() {
        hash.update(format!("{name} {} ", mask.len()));
        hash.update(mask.bits().iter().map(|b| u8::from(*b)).collect::<Vec<_>>());
    }
    Ok(hex(hash))
}
