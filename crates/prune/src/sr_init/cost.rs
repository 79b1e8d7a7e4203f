//! How long a ranking takes, before it starts.

use std::time::{Duration, Instant};

use candle_core::Device;
use sentei_data::{Order, batches};
use sentei_graph::Graph;
use sentei_graph::blocks::{Block, blocks};

use super::drops::{Which, validation};
use super::{BnMode, SrInit};
use crate::evaluate::{BATCH, to_tensors};
use crate::net::Overrides;
use crate::train::{Run, TrainError};
use crate::{Net, PruneError};

/// How long [`super::rank`] takes here, from one timed batch and the share of the network that each draw runs.
///
/// * `more`: passes of the whole network over the images to rank on that are made besides.
///
/// # Errors
/// As [`super::rank`].
pub fn estimate(
    graph: &Graph,
    how: &SrInit,
    which: Which,
    more: f64,
    device: &Device,
    run: &mut Run,
) -> Result<Duration, TrainError> {
    how.check()?;
    let all = blocks(graph).map_err(PruneError::from)?;
    let numbers = which.numbers(&all);
    let images = validation(how, run)?;
    let net = Net::new(graph, device)?;
    let sample: Vec<usize> = images.all.iter().copied().take(BATCH).collect();
    let (mut per_image, mut timed) = (Duration::ZERO, false);
    // The first pass touches fresh memory and is not counted.
    for _ in 0..2 {
        for batch in batches(run.data, &sample, BATCH, Order::Sequential, None, run.normalise) {
            let (x, labels) = to_tensors(&net, batch)?;
            let started = Instant::now();
            net.finish(net.start(&x)?, &Overrides::new())?.flatten_all()?.to_vec1::<f32>()?;
            if timed {
                per_image = started.elapsed() / labels.len().max(1) as u32;
            }
            timed = true;
        }
    }
    let suffix = |block: &Block| suffix_share(&net, block);
    let passes = |of: &[usize]| 1.0 + how.repeats as f64 * of.iter().map(|b| suffix(&all[*b])).sum::<f64>();
    let mut image_passes = images.subset.len() as f64 * (passes(&numbers) + more);
    if images.subset.len() < images.all.len() {
        let mean = (passes(&numbers) - 1.0) / numbers.len().max(1) as f64;
        image_passes += images.all.len() as f64 * (1.0 + mean * how.rerank.min(numbers.len()) as f64);
    }
    if how.mode == BnMode::RecalibratedBn {
        let share = |block: &usize| all[*block].macs as f64 / total(&net).max(1) as f64;
        let once = 1.0 + how.repeats as f64 * numbers.iter().map(share).sum::<f64>();
        image_passes += (how.calibration_batches * BATCH) as f64 * once;
    }
    Ok(per_image.mul_f64(image_passes))
}

/// Share of the network's multiply-adds from the first node of `block` on.
fn suffix_share(net: &Net, block: &Block) -> f64 {
    let macs = net.graph().macs().unwrap_or_default();
    let macs: std::collections::HashMap<_, _> = macs.into_iter().collect();
    let start = net.span(block.nodes()).map_or(0, |span| span.start);
    let after: u64 = net.planned_nodes().skip(start).filter_map(|id| macs.get(&id)).sum();
    after as f64 / macs.values().sum::<u64>().max(1) as f64
}

fn total(net: &Net) -> u64 {
    let batch = net.graph().inputs().first().and_then(|(_, f)| f.shape.first()).map_or(1, |n| (*n).max(1) as u64);
    net.graph().macs().map_or(0, |all| all.iter().map(|(_, n)| n).sum::<u64>() / batch)
}
