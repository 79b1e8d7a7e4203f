//! The training loop. The state of a run is a function of configuration, data, seed and step: no hidden random state,
//! no clock, so a run that was killed resumes from its last epoch to the same bytes.

mod duration;
mod error;
mod learning_rate;
mod progress;
mod step;
mod stop;

use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use sentei_data::{Augment, Dataset, Normalise, Order, Split, batches, derive_seed};
use sentei_report::events::{Event, EventSink};
use sentei_report::record::EpochRow;

use crate::checkpoint::Checkpointing;
use crate::config::{ClassWeights, SelectBy, TrainConfig};
use crate::dropout::DropoutRule;
use crate::evaluate::{Evaluation, arg_max, evaluate, logits_of, to_tensors};
use crate::loss::cross_entropy;
use crate::masks::Masks;
use crate::optim::Optimizer;
use crate::optim::kept::of_all;
use crate::parameterisation::Parameterisation;
use crate::schedule::{MaskPolicy, StepView};
use crate::signs::{SignRow, Signs};
use crate::{Net, Teacher};

pub use duration::epoch_duration;
pub use error::TrainError;
pub use learning_rate::LearningRate;
pub(crate) use step::Stepper;
pub use stop::Stop;

pub(crate) use progress::fingerprint;
use progress::{Best, State};

/// What every phase of a run works with.
pub struct Run<'a> {
    /// The samples. Training reads the train split, selection the val split; nothing here reads the test split.
    pub data: &'a Arc<Dataset>,
    /// How pixels become network inputs.
    pub normalise: &'a Normalise,
    /// Where events go.
    pub events: &'a mut dyn EventSink,
    /// Ends the run early.
    pub stop: &'a Stop,
    /// Where checkpoints go, if anywhere: after each epoch, and after each round of pruning.
    pub checkpoint: Option<Checkpointing>,
}

/// One training: what it is called, how it goes, and which weights it may touch.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// Name of the phase in events and checkpoints.
    pub phase: &'a str,
    /// How to train.
    pub config: &'a TrainConfig,
    /// Masks to enforce from the start; empty for dense training.
    pub masks: &'a Masks,
    /// Parameters to leave alone.
    pub frozen: &'a [String],
    /// Dropout rates that follow the masks.
    pub dropout: &'a [DropoutRule],
    /// Changes the masks on the way.
    pub policy: Option<&'a dyn MaskPolicy>,
    /// What the optimiser moves in place of the weights.
    pub parameterisation: Parameterisation,
    /// Joins the loss.
    pub teacher: Option<&'a Teacher>,
}

impl<'a> Plan<'a> {
    /// A training under `masks` with nothing else to it.
    pub fn new(phase: &'a str, config: &'a TrainConfig, masks: &'a Masks) -> Self {
        let parameterisation = Parameterisation::Plain;
        Plan { phase, config, masks, frozen: &[], dropout: &[], policy: None, parameterisation, teacher: None }
    }
}

/// What a training led to. The network holds the weights of `best_epoch`.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// One row per epoch.
    pub rows: Vec<EpochRow>,
    /// Epoch whose weights were kept, from 1: the best on the validation split among those that have the final masks;
    /// the last one without a validation split.
    pub best_epoch: u64,
    /// Masks in force at the end.
    pub masks: Masks,
    /// How signs held, one row per epoch.
    pub signs: Vec<SignRow>,
}

/// Trains `net` and leaves it with the weights of the best epoch.
///
/// Weights removed by a mask are `+0.0` after every step. Data order, augmentation and dropout derive from
/// `config.seed` alone; the same machine, thread count and configuration give the same bytes.
///
/// # Errors
/// [`TrainError::Diverged`] when the loss is not finite, [`TrainError::Stopped`] when `run.stop` asks for it,
/// [`TrainError::Checkpoint`] when the checkpoint belongs to another run; see [`TrainError`] for the rest.
pub fn train(net: &mut Net, plan: Plan, run: &mut Run) -> Result<Trained, TrainError> {
    plan.config.check()?;
    plan.parameterisation.check()?;
    let indices = run.data.indices(Split::Train);
    if indices.is_empty() {
        return Err(TrainError::NoTraining(run.data.name.clone()));
    }
    let mut optimizer = Optimizer::new(plan.config, net.vars());
    let identity = match &run.checkpoint {
        Some(_) => progress::identity(net, &plan, run)?,
        None => serde_json::Value::Null,
    };
    let mut state = State::new(plan.masks.clone());
    let mut signs = Signs::of(net)?;
    optimizer.freeze(plan.frozen);
    optimizer.parameterise(plan.parameterisation, net.vars())?;
    if let Some(from) = &run.checkpoint {
        state.resume(from, &identity, net, &mut optimizer)?;
    }
    signs.resume(net)?;
    enforce(net, &mut optimizer, &state.masks, plan.dropout)?;

    run.events.emit(&Event::PhaseStarted { phase: plan.phase.into(), planned: Some(plan.config.epochs) });
    let class_weights = class_weights(plan.config.class_weights, run.data);
    let stepper = Stepper::new(net, plan.config.batch_size.min(indices.len()), &state.masks)?;
    let augment = plan.config.augment.into();
    let mut epochs = Epochs { plan: &plan, indices: &indices, class_weights, augment, stepper };
    while state.epoch < plan.config.epochs {
        optimizer.start_epoch(net.vars(), state.epoch, plan.config.epochs)?;
        let done = epochs.run_one(net, &mut optimizer, &mut state, run);
        if state.epoch == plan.config.epochs || done.is_err() {
            run.events.emit(&Event::Profile { phase: plan.phase.into(), rows: epochs.stepper.profile() });
        }
        done?;
        state.signs.push(signs.row(net, &state.masks, plan.phase, state.epoch)?);
        if let Some(to) = &run.checkpoint {
            state.save(to, &identity, net, &optimizer)?;
            let path = to.path.display().to_string();
            run.events.emit(&Event::Checkpoint { path, phase: plan.phase.into(), epoch: state.epoch });
        }
    }
    if let Some(best) = &state.best {
        best.snapshot.restore(net)?;
    }
    let best_epoch = state.best.as_ref().map_or(state.epoch, |b| b.epoch);
    Ok(Trained { rows: state.rows, best_epoch, masks: state.masks, signs: state.signs })
}

/// What stays the same from epoch to epoch.
struct Epochs<'a> {
    plan: &'a Plan<'a>,
    indices: &'a [usize],
    class_weights: Option<Vec<f32>>,
    augment: Augment,
    stepper: Stepper,
}

impl Epochs<'_> {
    fn run_one(
        &mut self,
        net: &mut Net,
        optimizer: &mut Optimizer,
        state: &mut State,
        run: &mut Run,
    ) -> Result<(), TrainError> {
        let (plan, config, stepper) = (self.plan, self.plan.config, &mut self.stepper);
        let started = Instant::now();
        let batch_size = config.batch_size.min(self.indices.len());
        let steps_per_epoch = (self.indices.len() / batch_size) as u64;
        let steps = steps_per_epoch * config.epochs;
        let rates = LearningRate::new(config, steps_per_epoch);
        let order = Order::Shuffled { seed: config.seed, epoch: state.epoch };
        let mut loader =
            batches(run.data, self.indices, batch_size, order, Some(&self.augment), run.normalise).drop_last();

        let (mut loss_sum, mut right, mut seen) = (0.0, 0usize, 0usize);
        let mut learning_rate = 0.0;
        while let Some(batch) = stepper.timed("loading", || loader.next()) {
            if run.stop.tick() {
                return Err(TrainError::Stopped { phase: plan.phase.into(), epoch: state.epoch + 1, step: state.step });
            }
            learning_rate = rates.at(state.step);
            let (images, labels) = to_tensors(net, batch)?;
            let seed = derive_seed(config.seed, "dropout", &state.step.to_string());
            let logits = stepper.forward(net, &images, seed)?;
            let host = logits_of(&logits, run.data.classes.len())?;
            let loss = cross_entropy(&logits, &labels, config.label_smoothing as f32, self.class_weights.as_deref())?;
            let loss = match plan.teacher {
                None => loss,
                Some(teacher) => teacher.join(&loss, &logits, &images)?,
            };
            let value = f64::from(loss.to_scalar::<f32>()?);
            if !value.is_finite() {
                let (phase, epoch, step) = (plan.phase.into(), state.epoch + 1, state.step);
                return Err(TrainError::Diverged { phase, epoch, step, loss: value, learning_rate });
            }
            let reads_all = plan.parameterisation.reads_dense_gradients()
                || plan.policy.is_some_and(|policy| policy.reads_gradients(state.step));
            let mut grads = stepper.backward(net, &loss, reads_all)?;
            if let Some(policy) = plan.policy {
                let view = StepView { step: state.step, net, grads: &grads, optimizer, masks: &state.masks };
                if let Some(new) = policy.remask(view)? {
                    spread(net, &mut grads, &state.masks)?;
                    enforce(net, optimizer, &new.masks, plan.dropout)?;
                    stepper.follow(&new.masks);
                    state.masks = new.masks;
                    // Epochs before this one had other masks: their weights are no candidates any more.
                    state.best = None;
                    run.events.emit(&prune_step(plan.phase, state.step, new.target_density, &state.masks));
                }
            }
            stepper.timed("optimiser", || optimizer.step(net.vars(), &grads, learning_rate))?;

            loss_sum += value * labels.len() as f64;
            right +=
                host.chunks_exact(run.data.classes.len()).zip(&labels).filter(|(row, l)| arg_max(row) == **l).count();
            seen += labels.len();
            state.step += 1;
            run.events.emit(&Event::Progress { phase: plan.phase.into(), step: state.step, steps });
        }

        state.epoch += 1;
        let val = stepper.timed("validation", || validate(net, run))?;
        if let Some(val) = &val {
            let merit = merit(config.select_by, val);
            if state.best.as_ref().is_none_or(|best| merit > best.merit) {
                state.best = Some(Best::of(net, state.epoch, merit)?);
            }
        }
        let row = EpochRow {
            phase: plan.phase.into(),
            epoch: state.epoch,
            train_loss: loss_sum / seen as f64,
            train_accuracy: right as f64 / seen as f64,
            val_loss: val.as_ref().map(|v| v.loss),
            val_accuracy: val.as_ref().map(Evaluation::accuracy),
            density: state.masks.density(),
            learning_rate,
            seconds: started.elapsed().as_secs_f64(),
        };
        run.events.emit(&Event::Epoch(row.clone()));
        state.rows.push(row);
        Ok(())
    }
}

/// Makes weights, optimiser state and dropout follow `masks`.
fn enforce(net: &mut Net, optimizer: &mut Optimizer, masks: &Masks, dropout: &[DropoutRule]) -> Result<(), TrainError> {
    optimizer.set_masks(net.vars(), masks)?;
    for rule in dropout {
        net.set_dropout(&rule.node, rule.rate_for(masks))?;
    }
    Ok(())
}

/// Gives every parameter under a mask a gradient of all its weights, 0 where there was none: the masks are about to change.
fn spread(net: &Net, grads: &mut GradStore, masks: &Masks) -> Result<(), TrainError> {
    for param in net.vars() {
        let (Some(mask), Some(grad)) = (masks.get(&param.name), grads.get(param.var.as_tensor())) else { continue };
        if grad.elem_count() != mask.len() {
            let all = of_all(&grad.to_vec1()?, mask);
            grads.insert(param.var.as_tensor(), Tensor::from_vec(all, param.var.shape(), param.var.device())?);
        }
    }
    Ok(())
}

/// What `net` does on the validation split, if there is one.
pub(crate) fn validate(net: &mut Net, run: &Run) -> Result<Option<Evaluation>, TrainError> {
    let indices = run.data.indices(Split::Val);
    if indices.is_empty() {
        return Ok(None);
    }
    evaluate(net, run.data, &indices, run.normalise).map(Some)
}

pub(crate) fn prune_step(phase: &str, step: u64, target_density: f64, masks: &Masks) -> Event {
    let (nonzero, prunable) = (masks.kept() as u64, masks.prunable() as u64);
    Event::PruneStep { phase: phase.into(), step, target_density, nonzero, prunable }
}

/// Higher is better; the loss decides between equal accuracies.
fn merit(by: SelectBy, val: &Evaluation) -> [f64; 2] {
    match by {
        SelectBy::Accuracy => [val.accuracy(), -val.loss],
        SelectBy::BalancedAccuracy => [val.balanced_accuracy(), -val.loss],
        SelectBy::Loss => [-val.loss, val.accuracy()],
    }
}

/// One weight per class, mean 1 over the training samples; a class without samples counts once.
fn class_weights(kind: ClassWeights, data: &Dataset) -> Option<Vec<f32>> {
    if kind == ClassWeights::None {
        return None;
    }
    let counts = data.class_counts(Split::Train);
    let total: usize = counts.iter().sum();
    let weight = |n: &usize| if *n == 0 { 1.0 } else { total as f32 / (counts.len() * n) as f32 };
    Some(counts.iter().map(weight).collect())
}

#[cfg(test)]
mod parameterised_tests;
#[cfg(test)]
mod tests;
