//! Forward and backward of one training step: in the engine where it can, through candle elsewhere.

use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use sentei_report::record::ProfileRow;

use crate::engine::Engine;
use crate::masks::Masks;
use crate::{Mode, Net, PruneError};

/// What computes the steps of one training.
pub(crate) struct Stepper {
    engine: Option<Box<Engine>>,
    /// What the engine's last forward pass gave: the loss is differentiated by it.
    logits: Option<Var>,
    around: Vec<(&'static str, u64, Duration)>,
}

impl Stepper {
    /// For batches of `batch` images, with the weights that `masks` leave.
    ///
    /// # Errors
    /// When memory for the step cannot be had.
    pub fn new(net: &Net, batch: usize, masks: &Masks) -> Result<Self, PruneError> {
        let engine = Engine::new(net, batch)?.map(Box::new);
        let mut stepper = Stepper { engine, logits: None, around: Vec::new() };
        stepper.follow(masks);
        Ok(stepper)
    }

    /// Leaves out what `masks` remove, from now on, where that is faster; results do not depend on it.
    pub fn follow(&mut self, masks: &Masks) {
        self.engine.iter_mut().for_each(|engine| engine.follow(masks));
    }

    /// The logits of `images`, which the loss may be computed of.
    ///
    /// # Errors
    /// As [`Net::forward`].
    pub fn forward(&mut self, net: &mut Net, images: &Tensor, seed: u64) -> Result<Tensor, PruneError> {
        let Some(engine) = &mut self.engine else { return net.forward(images, Mode::Train { seed }) };
        let logits = engine.forward(net, images, seed)?;
        Ok(self.logits.insert(logits).as_tensor().clone())
    }

    /// The gradients of `loss`, which was computed from the logits of the last [`Stepper::forward`].
    ///
    /// * `dense`: whether removed weights need theirs as well; otherwise they may be 0, or missing: then a parameter has one
    ///   number per kept weight, in the order of the file.
    ///
    /// # Errors
    /// When a gradient cannot be computed.
    pub fn backward(&mut self, net: &Net, loss: &Tensor, dense: bool) -> Result<GradStore, PruneError> {
        let mut grads = loss.backward()?;
        if let (Some(engine), Some(logits)) = (&mut self.engine, self.logits.take())
            && let Some(gradient) = grads.remove(logits.as_tensor())
        {
            engine.backward(net, &gradient, dense, &mut grads)?;
        }
        Ok(grads)
    }

    /// Runs `work` and counts its time as `what`.
    pub fn timed<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let passed = start.elapsed();
        match self.around.iter_mut().find(|(name, ..)| *name == what) {
            Some(row) => (row.1, row.2) = (row.1 + 1, row.2 + passed),
            None => self.around.push((what, 1, passed)),
        }
        done
    }

    /// Where the time went: layers, if the engine ran them, then what was [`Stepper::timed`].
    pub fn profile(&self) -> Vec<ProfileRow> {
        let around = self.around.iter().map(|(what, runs, time)| ProfileRow {
            layer: String::new(),
            op: (*what).into(),
            part: String::new(),
            kernel: String::new(),
            runs: *runs,
            seconds: time.as_secs_f64(),
        });
        self.engine.iter().flat_map(|engine| engine.profile()).chain(around).collect()
    }
}
