//! How long an epoch takes, from a few steps: what long work prints before it starts.

use std::time::{Duration, Instant};

use candle_core::Device;
use sentei_data::{Order, Split, batches};
use sentei_graph::Graph;

use super::step::Stepper;
use super::{Run, TrainError};
use crate::Net;
use crate::config::TrainConfig;
use crate::evaluate::{evaluate, to_tensors};
use crate::loss::cross_entropy;
use crate::masks::Masks;
use crate::optim::Optimizer;

/// Steps that are timed, after one that is not: the first touches fresh memory.
const STEPS: usize = 3;
/// Validation images that are timed.
const IMAGES: usize = 256;

/// How long one epoch of training `graph` as `config` says takes here, validation included.
///
/// An extrapolation from a few steps: right within tens of percent when nothing else runs on the machine. `graph`, events
/// and checkpoints of `run` are left alone.
///
/// # Errors
/// [`TrainError::NoTraining`] without a training split; what a training step reports.
pub fn epoch_duration(
    graph: &Graph,
    config: &TrainConfig,
    device: &Device,
    run: &mut Run,
) -> Result<Duration, TrainError> {
    config.check()?;
    let indices = run.data.indices(Split::Train);
    if indices.is_empty() {
        return Err(TrainError::NoTraining(run.data.name.clone()));
    }
    let mut net = Net::new(graph, device)?;
    let mut optimizer = Optimizer::new(config, net.vars());
    let batch_size = config.batch_size.min(indices.len());
    let augment = config.augment.into();
    let mut stepper = Stepper::new(&net, batch_size, &Masks::default())?;
    let mut started = Instant::now();
    let mut timed = 0u32;
    // A set of one or two batches is walked more than once.
    for step in 0..=STEPS {
        let order = Order::Shuffled { seed: config.seed, epoch: step as u64 };
        let mut loader = batches(run.data, &indices, batch_size, order, Some(&augment), run.normalise).drop_last();
        let Some(batch) = loader.next() else { break };
        if step == 1 {
            started = Instant::now();
        }
        let (images, labels) = to_tensors(&net, batch)?;
        let logits = stepper.forward(&mut net, &images, 0)?;
        let loss = cross_entropy(&logits, &labels, config.label_smoothing as f32, None)?;
        let grads = stepper.backward(&net, &loss, false)?;
        // The rate is too small to move a weight far: timing must not diverge.
        optimizer.step(net.vars(), &grads, 1e-12)?;
        timed += u32::from(step > 0);
    }
    let per_step = started.elapsed() / timed.max(1);
    let train = per_step.mul_f64((indices.len() / batch_size) as f64);

    let val = run.data.indices(Split::Val);
    let some = &val[..val.len().min(IMAGES)];
    if some.is_empty() {
        return Ok(train);
    }
    let started = Instant::now();
    evaluate(&mut net, run.data, some, run.normalise)?;
    Ok(train + started.elapsed().mul_f64(val.len() as f64 / some.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Harness};

    #[test]
    fn an_epoch_takes_time_and_the_smallest_set_can_be_timed() {
        let graph = testing::mlp(&[16, 12, 3], Some(0.3));
        let mut harness = Harness::new();
        for batch_size in [16, 1000] {
            let config = TrainConfig { batch_size, ..TrainConfig::default() };
            let found = harness.with_run(|run| epoch_duration(&graph, &config, &Device::Cpu, run)).unwrap();
            assert!(found > Duration::ZERO && found < Duration::from_secs(60), "{found:?}");
        }
        assert!(harness.events.is_empty());
    }
}
