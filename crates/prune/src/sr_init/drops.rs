//! What each block costs when it is replaced by a fresh one.

use std::collections::HashMap;

use candle_core::Device;
use sentei_data::{Order, Split, batches, derive_seed};
use sentei_graph::Graph;
use sentei_graph::blocks::{Block, blocks};
use sentei_report::events::Event;
use serde::{Deserialize, Serialize};

use super::fresh::{fresh_values, overrides};
use super::select::cheapest_first;
use super::{BnMode, SrInit};
use crate::evaluate::{BATCH, Evaluation, to_tensors};
use crate::net::{Moments, Overrides};
use crate::train::{Run, TrainError};
use crate::{Net, PruneError};

const PHASE: &str = "sr-init";

/// What one block costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockDrop {
    /// Number of the block.
    pub block: usize,
    /// Metric of the network less that with the block fresh, one per draw; a fraction, negative where it helps.
    pub drops: Vec<f64>,
    /// Validation images it was measured on.
    pub samples: usize,
}

impl BlockDrop {
    /// Mean over the draws.
    pub fn mean(&self) -> f64 {
        self.drops.iter().sum::<f64>() / self.drops.len().max(1) as f64
    }

    /// Standard deviation over the draws (divisor n - 1); 0 for a single draw.
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.drops.iter().map(|d| (d - mean).powi(2)).sum();
        (squares / self.drops.len().saturating_sub(1).max(1) as f64).sqrt()
    }
}

/// The blocks of a network and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Every block of the network.
    pub blocks: Vec<Block>,
    /// Metric of the network itself on the images that all blocks were measured on.
    pub baseline: f64,
    /// Number of those images.
    pub samples: usize,
    /// One row per measured block, in the order of the blocks.
    pub drops: Vec<BlockDrop>,
}

/// Blocks to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them, for a report.
    All,
    /// Those that a selection may choose.
    Candidates,
}

impl Which {
    pub(super) fn numbers(self, all: &[Block]) -> Vec<usize> {
        (0..all.len()).filter(|i| self == Which::All || all[*i].is_candidate()).collect()
    }
}

/// Measures the blocks of `graph`, the cheapest candidates again on all validation images where `how` says so.
///
/// All drops are of the network as it is: nothing is removed in between.
///
/// # Errors
/// [`TrainError::NoBlocks`] without blocks, [`TrainError::NoValidation`] without a validation split,
/// [`TrainError::Stopped`] when `run.stop` asks for it.
pub fn rank(graph: &Graph, how: &SrInit, which: Which, device: &Device, run: &mut Run) -> Result<Ranking, TrainError> {
    how.check()?;
    let all = blocks(graph).map_err(PruneError::from)?;
    let numbers = which.numbers(&all);
    if numbers.is_empty() {
        return Err(TrainError::NoBlocks(all.len()));
    }
    let net = Net::new(graph, device)?;
    let images = validation(how, run)?;
    let scan = Scan { net: &net, all: &all, how };
    let (baseline, mut drops) = scan.measure(&numbers, &images.subset, run)?;
    if images.subset.len() < images.all.len() && how.rerank > 0 {
        let mut again: Vec<usize> =
            cheapest_first(&all, &drops).into_iter().take(how.rerank).map(|d| d.block).collect();
        again.sort_unstable();
        for exact in scan.measure(&again, &images.all, run)?.1 {
            let row = drops.iter_mut().find(|d| d.block == exact.block).expect("measured before");
            *row = exact;
        }
    }
    Ok(Ranking { baseline, samples: images.subset.len(), drops, blocks: all })
}

/// Validation images: the ones to rank on, and all of them.
pub(super) struct Images {
    pub subset: Vec<usize>,
    pub all: Vec<usize>,
}

pub(super) fn validation(how: &SrInit, run: &Run) -> Result<Images, TrainError> {
    let all = run.data.indices(Split::Val);
    if all.is_empty() {
        return Err(TrainError::NoValidation(run.data.name.clone(), "ranking blocks"));
    }
    let mut subset = drawn(&all, how.samples.unwrap_or(all.len()), how.seed, "sr-init validation");
    subset.sort_unstable();
    Ok(Images { subset, all })
}

/// `count` of `indices`; a seeded hash of each decides which and in which order, so that the draw depends on nothing else.
///
/// Sets that are stored class by class are mixed by it: batch statistics need batches of all classes.
fn drawn(indices: &[usize], count: usize, seed: u64, purpose: &str) -> Vec<usize> {
    let mut subset = indices.to_vec();
    subset.sort_by_key(|i| derive_seed(seed, purpose, &i.to_string()));
    subset.truncate(count.max(1));
    subset
}

/// One network under measurement.
pub(super) struct Scan<'a> {
    pub net: &'a Net,
    pub all: &'a [Block],
    pub how: &'a SrInit,
}

impl Scan<'_> {
    /// Metric of the network, and the drop of each block of `numbers`, on the samples `indices`.
    pub fn measure(
        &self,
        numbers: &[usize],
        indices: &[usize],
        run: &mut Run,
    ) -> Result<(f64, Vec<BlockDrop>), TrainError> {
        let statistics = match self.how.mode {
            BnMode::FreshBn => HashMap::new(),
            BnMode::RecalibratedBn => self.recalibrated(numbers, run)?,
        };
        self.measure_with(numbers, indices, run, &|block, repeat| {
            let mut over = self.fresh(block, repeat)?;
            over.extend(statistics.get(&(block, repeat)).cloned().unwrap_or_default());
            Ok(over)
        })
    }

    /// As [`Scan::measure`], with the values that `draw` gives for a block and a repeat.
    fn measure_with(
        &self,
        numbers: &[usize],
        indices: &[usize],
        run: &mut Run,
        draw: &dyn Fn(usize, usize) -> Result<Overrides, TrainError>,
    ) -> Result<(f64, Vec<BlockDrop>), TrainError> {
        let classes = run.data.classes.len();
        let places = self.places(numbers);
        let mut own = Evaluation::empty(classes);
        let mut found: HashMap<(usize, usize), Evaluation> = HashMap::new();
        let steps = (indices.len().div_ceil(BATCH) * numbers.len() * self.how.repeats) as u64;
        run.events.emit(&Event::PhaseStarted { phase: PHASE.into(), planned: Some(steps) });
        let mut step = 0;
        for batch in batches(run.data, indices, BATCH, Order::Sequential, None, run.normalise) {
            let (images, labels) = to_tensors(self.net, batch)?;
            let mut pass = self.net.start(&images)?;
            for &(first, block) in &places {
                // What lies before the block is the same for every draw.
                self.net.advance(&mut pass, first, &Overrides::new(), None)?;
                for repeat in 0..self.how.repeats {
                    if run.stop.tick() {
                        return Err(TrainError::Stopped { phase: PHASE.into(), epoch: 1, step });
                    }
                    let logits = self.net.finish(pass.clone(), &draw(block, repeat)?)?;
                    let seen = found.entry((block, repeat)).or_insert_with(|| Evaluation::empty(classes));
                    seen.add(&logits, &labels)?;
                    step += 1;
                    run.events.emit(&Event::Progress { phase: PHASE.into(), step, steps });
                }
            }
            own.add(&self.net.finish(pass, &Overrides::new())?, &labels)?;
        }
        let baseline = self.how.metric.of(&own)?;
        let row = |&block: &usize| {
            let drop = |repeat| Ok(baseline - self.how.metric.of(&found[&(block, repeat)])?);
            let drops = (0..self.how.repeats).map(drop).collect::<Result<_, TrainError>>()?;
            Ok(BlockDrop { block, drops, samples: indices.len() })
        };
        let rows = numbers.iter().map(row).collect::<Result<_, TrainError>>()?;
        Ok((baseline, rows))
    }

    fn fresh(&self, block: usize, repeat: usize) -> Result<Overrides, TrainError> {
        let graph = self.net.graph();
        let values = fresh_values(graph, self.all[block].nodes(), self.how.seed, repeat);
        Ok(overrides(graph, values, self.net.device())?)
    }

    /// Statistics of every fresh block on a few training batches.
    fn recalibrated(&self, numbers: &[usize], run: &mut Run) -> Result<HashMap<(usize, usize), Overrides>, TrainError> {
        let train = run.data.indices(Split::Train);
        if train.is_empty() {
            return Err(TrainError::NoTraining(run.data.name.clone()));
        }
        // Whole batches where there is one: the mean over batches would give a rest of a few images the same say.
        let count = (self.how.calibration_batches * BATCH).min((train.len() / BATCH).max(1) * BATCH);
        let indices = drawn(&train, count, self.how.seed, "sr-init calibration");
        let places = self.places(numbers);
        let mut moments: HashMap<(usize, usize), Moments> = HashMap::new();
        for batch in batches(run.data, &indices, BATCH, Order::Sequential, None, run.normalise) {
            let (images, _) = to_tensors(self.net, batch)?;
            let mut pass = self.net.start(&images)?;
            for &(first, block) in &places {
                self.net.advance(&mut pass, first, &Overrides::new(), None)?;
                let end = self.net.span(self.all[block].nodes()).map_or(first, |span| span.end);
                for repeat in 0..self.how.repeats {
                    let of = || Moments::of(self.all[block].nodes());
                    let seen = moments.entry((block, repeat)).or_insert_with(of);
                    self.net.advance(&mut pass.clone(), end, &self.fresh(block, repeat)?, Some(seen))?;
                }
            }
        }
        moments.into_iter().map(|(key, seen)| Ok((key, seen.means()?))).collect()
    }

    /// Where each block begins in the plan, in the order of the plan.
    fn places(&self, numbers: &[usize]) -> Vec<(usize, usize)> {
        let first = |block: usize| self.net.span(self.all[block].nodes()).map_or(0, |span| span.start);
        let mut places: Vec<(usize, usize)> = numbers.iter().map(|b| (first(*b), *b)).collect();
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests;
