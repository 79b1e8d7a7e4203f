//! Never slower than dense: decides per layer, by timing the candidates on this machine, which one is kept.
//!
//! What timings decide must not show in the results, or two loads of one file would differ. So a candidate competes only if it gives
//! the same bits as the one that rules put first (`sums_in_file_order` of both), unless the decision is going to be kept in a
//! plan, which makes later loads alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentei_kernels::{Isa, LINE, Layer as Prepared, Map};

use super::choice::{Unfit, candidates, prepare};
use super::graph::{Kind, Layer};
use crate::engine::{HostTensor, KernelChoice, LoadOptions};
use crate::plan::{Choice, Plan, Planned};

/// Runs of each candidate, at most; the median counts.
const RUNS: usize = 5;
/// Most time for one layer, as a share of what is left of the whole budget.
const SHARE_OF_BUDGET: u32 = 3;
/// A layer with at most this much more or fewer non-zeros than one of the same shape is run alike without timing.
const ALIKE: f64 = 0.1;

/// A layer ready to run, with the reason for its kernel.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    pub(crate) layer: Arc<dyn Prepared>,
    pub(crate) choice: Choice,
    pub(crate) reason: String,
}

/// Makes the decisions of one load.
#[derive(Debug)]
pub(crate) struct Tuner<'a> {
    how: KernelChoice,
    /// Candidates that round differently compete too.
    tune: bool,
    isa: Isa,
    /// For what [`KernelChoice::Int8`] computes in bytes.
    int8_isa: Isa,
    left: Duration,
    plan: Option<&'a Plan>,
    /// Layers timed so far: what they are, non-zeros, decision.
    known: Vec<(String, usize, Choice, String)>,
    /// What was decided, in order.
    decided: Vec<Planned>,
    /// Layers for which the plan was of no use.
    missed: usize,
    noise: Vec<f32>,
    room: Vec<f32>,
}

impl<'a> Tuner<'a> {
    /// * `plan`: decisions of an earlier load; layers that it does not name, or names wrongly, are timed.
    pub(crate) fn new(options: &LoadOptions, plan: Option<&'a Plan>) -> Self {
        let (how, tune, left, isa) = (options.kernel_choice, options.tune, options.choice_budget, Isa::best());
        let int8_isa = if options.portable_int8 { Isa::Scalar } else { isa };
        let (known, decided, noise, room) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { how, tune, isa, int8_isa, left, plan, known, decided, missed: 0, noise, room }
    }

    /// What was decided so far, and for how many layers the plan was of no use.
    pub(crate) fn into_decided(self) -> (Vec<Planned>, usize) {
        (self.decided, self.missed)
    }

    /// Prepares one layer with the best choice for it.
    ///
    /// # Errors
    /// [`Unfit`] when no kernel takes the layer.
    pub(crate) fn tune(&mut self, layer: &Layer, input: Map, output: Map) -> Result<Tuned, Unfit> {
        let Some(weights) = layer.weights() else {
            return self.with(layer, input, output, Choice::Only, "the only kernel".into());
        };
        let (nnz, zeros) = (weights.nonzeros(), percent(weights.nonzeros(), weights.elements()));
        let tuned = if let Some(tuned) = self.int8(layer, input, output) {
            tuned
        } else if let Some(tuned) = self.planned(layer, input, output, nnz) {
            tuned
        } else if let Some(tuned) = self.known(layer, input, output, nnz) {
            tuned
        } else if self.how == KernelChoice::AlwaysSparse {
            let choices = candidates(layer, input, self.isa);
            let reason = |choice: Choice| match choice.is_sparse() {
                true => "sparse: asked for".to_owned(),
                false => only(choice, zeros),
            };
            self.first(layer, input, output, &choices, reason)?
        } else {
            match &candidates(layer, input, self.isa)[..] {
                [choice] => self.with(layer, input, output, *choice, only(*choice, zeros))?,
                choices => self.measured(layer, input, output, choices)?,
            }
        };
        let (name, choice, reason) = (layer.name.clone(), tuned.choice, tuned.reason.clone());
        self.decided.push(Planned { name, shape: weights.shape.clone(), nnz: nnz as u64, choice, reason });
        Ok(tuned)
    }

    fn with(&self, layer: &Layer, input: Map, output: Map, choice: Choice, reason: String) -> Result<Tuned, Unfit> {
        Ok(Tuned { layer: prepare(layer, input, output, choice, self.isa)?, choice, reason })
    }

    /// In bytes, if that was asked for and some kernel takes it: layers that are depthwise or fully connected have none.
    fn int8(&self, layer: &Layer, input: Map, output: Map) -> Option<Tuned> {
        let asked = self.how == KernelChoice::Int8;
        let prepared = asked.then(|| prepare(layer, input, output, Choice::Int8, self.int8_isa))?;
        Some(Tuned { layer: prepared.ok()?, choice: Choice::Int8, reason: "int8: asked for".into() })
    }

    /// The first choice that some kernel takes.
    fn first(
        &self,
        layer: &Layer,
        input: Map,
        output: Map,
        choices: &[Choice],
        reason: impl Fn(Choice) -> String,
    ) -> Result<Tuned, Unfit> {
        let (last, others) = choices.split_last().expect("there is always a candidate");
        let tuned = others.iter().find_map(|choice| self.with(layer, input, output, *choice, reason(*choice)).ok());
        tuned.map_or_else(|| self.with(layer, input, output, *last, reason(*last)), Ok)
    }

    /// The decision of an earlier load, if it is about this layer and some kernel takes it.
    fn planned(&mut self, layer: &Layer, input: Map, output: Map, nnz: usize) -> Option<Tuned> {
        if self.how != KernelChoice::Measure {
            return None;
        }
        let weights = layer.weights()?;
        let planned = self.plan?.layers.iter().find(|planned| planned.name == layer.name);
        let same = |planned: &&Planned| planned.shape == weights.shape && planned.nnz == nnz as u64;
        // bytes are nothing that a file beside the model may decide
        let fitting = planned.filter(|planned| same(planned) && planned.choice != Choice::Int8);
        let tuned =
            fitting.and_then(|planned| self.with(layer, input, output, planned.choice, planned.reason.clone()).ok());
        self.missed += usize::from(tuned.is_none());
        tuned
    }

    /// The decision about a layer that takes the same time, if some kernel takes this one too.
    fn known(&self, layer: &Layer, input: Map, output: Map, nnz: usize) -> Option<Tuned> {
        let same = what(layer, input, output);
        let alike = |known: usize| nnz.abs_diff(known) as f64 <= ALIKE * known as f64;
        let (_, _, choice, reason) = self.known.iter().find(|(key, known, ..)| *key == same && alike(*known))?;
        let reason = format!("{reason} (timed on a layer of this shape)");
        self.with(layer, input, output, *choice, reason).ok()
    }

    fn measured(&mut self, layer: &Layer, input: Map, output: Map, choices: &[Choice]) -> Result<Tuned, Unfit> {
        let weights = layer.weights().expect("layers without weights have one candidate");
        let (nnz, zeros) = (weights.nonzeros(), percent(weights.nonzeros(), weights.elements()));
        if self.left.is_zero() {
            let reason = |choice: Choice| match choice.is_sparse() {
                true => format!("sparse: {zeros} % zeros, not timed (--choice-budget spent)"),
                false => only(choice, zeros),
            };
            return self.first(layer, input, output, choices, reason);
        }
        let started = Instant::now();
        let tuned = self.race(layer, input, output, choices, zeros);
        self.left = self.left.saturating_sub(started.elapsed());
        let tuned = tuned?;
        self.known.push((what(layer, input, output), nnz, tuned.choice, tuned.reason.clone()));
        Ok(tuned)
    }

    /// Times all candidates in turn.
    fn race(
        &mut self,
        layer: &Layer,
        input: Map,
        output: Map,
        choices: &[Choice],
        zeros: usize,
    ) -> Result<Tuned, Unfit> {
        let started = Instant::now();
        let limit = self.left / SHARE_OF_BUDGET;
        let (mut racers, mut unfit): (Vec<Racer>, Option<Unfit>) = (Vec::new(), None);
        for choice in choices {
            // late in the budget, the first of each kind has to do
            let late = started.elapsed() > limit / 2;
            if late && racers.iter().any(|racer| racer.choice.is_sparse() == choice.is_sparse()) {
                continue;
            }
            match prepare(layer, input, output, *choice, self.isa) {
                Ok(layer) if self.tune || racers.first().is_none_or(|first| alike(&*first.layer, &*layer)) => {
                    racers.push(Racer { choice: *choice, layer, times: Vec::new() });
                }
                Ok(_) => {}
                Err(error) => unfit = Some(error),
            }
        }
        if let (true, Some(error)) = (racers.is_empty(), unfit) {
            return Err(error);
        }
        if let [_] = racers[..] {
            let Racer { choice, layer, .. } = racers.remove(0);
            return Ok(Tuned { layer, choice, reason: only(choice, zeros) });
        }
        let scratch = racers.iter().map(|racer| racer.layer.scratch_len()).max().unwrap_or(0);
        let residual = layer.residual.is_some();
        let (noise, room) = self.memory(input.len().max(output.len()), output.len() + LINE + scratch);
        let x = &noise[..input.len()];
        let (y, scratch) = room.split_at_mut(output.len().next_multiple_of(LINE));
        let residual = residual.then(|| &noise[..output.len()]);
        // the first run of each is not counted: it warms caches
        for racer in &mut racers {
            racer.run(x, y, residual, scratch);
            racer.times.clear();
        }
        for round in 0..RUNS {
            if round > 0 && started.elapsed() > limit {
                break;
            }
            racers.iter_mut().for_each(|racer| racer.run(x, y, residual, scratch));
        }
        let best = |sparse: bool, racers: &mut Vec<Racer>| {
            let of_kind = racers.iter_mut().filter(|racer| racer.choice.is_sparse() == sparse);
            of_kind.map(|racer| (racer.median(), racer.choice)).min_by_key(|(time, _)| *time)
        };
        let (sparse, dense) = (best(true, &mut racers), best(false, &mut racers));
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        let (choice, reason) = match (sparse, dense) {
            (Some((fast, choice)), Some((slow, _))) if fast <= slow => {
                (choice, format!("sparse {:.1}x", ratio(slow, fast)))
            }
            (Some((slow, _)), Some((fast, choice))) => {
                let speed = ratio(fast, slow);
                (choice, format!("dense: sparse was {speed:.2}x at {zeros} % zeros"))
            }
            (Some((_, choice)), None) => (choice, format!("sparse: {zeros} % zeros")),
            (None, Some((_, choice))) => (choice, only(choice, zeros)),
            (None, None) => unreachable!("there is at least one candidate"),
        };
        let racer = racers.into_iter().find(|racer| racer.choice == choice).expect("it was timed");
        Ok(Tuned { layer: racer.layer, choice, reason })
    }

    /// Numbers to read and memory to write, both from the start of a cache line on, as inside of a region.
    fn memory(&mut self, noise: usize, room: usize) -> (&[f32], &mut [f32]) {
        if self.noise.len() < noise + LINE {
            self.noise = HostTensor::noise(&[noise + LINE], 1).data;
        }
        if self.room.len() < room + LINE {
            self.room = vec![0.0; room + LINE];
        }
        let skip = |memory: &[f32]| (memory.as_ptr() as usize).wrapping_neg() % (4 * LINE) / 4;
        let (noise, room) = (&self.noise[..], &mut self.room[..]);
        let skipped = skip(room);
        (&noise[skip(noise)..], &mut room[skipped..])
    }
}

/// Whether two ways to run a layer give the same bits.
fn alike(a: &dyn Prepared, b: &dyn Prepared) -> bool {
    a.sums_in_file_order() && b.sums_in_file_order()
}

struct Racer {
    choice: Choice,
    layer: Arc<dyn Prepared>,
    times: Vec<Duration>,
}

impl Racer {
    fn run(&mut self, x: &[f32], y: &mut [f32], residual: Option<&[f32]>, scratch: &mut [f32]) {
        let started = Instant::now();
        self.layer.run(x, y, residual, scratch);
        self.times.push(started.elapsed());
    }

    fn median(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times[self.times.len() / 2]
    }
}

/// What makes two layers take the same time, apart from their non-zeros.
fn what(layer: &Layer, input: Map, output: Map) -> String {
    let sizes = match &layer.kind {
        Kind::Conv { geometry, .. } => format!("{geometry:?}"),
        Kind::Linear { rows, cols, .. } => format!("{rows} {cols}"),
        _ => String::new(),
    };
    format!("{sizes} {} {} {:?} {}", input.stride, output.stride, layer.activation, layer.residual.is_some())
}

fn percent(nonzeros: usize, elements: usize) -> usize {
    (100.0 - 100.0 * nonzeros as f64 / elements.max(1) as f64).floor() as usize
}

fn only(choice: Choice, zeros: usize) -> String {
    match choice {
        Choice::Depthwise => "dense: depthwise".into(),
        _ if choice.is_sparse() => format!("sparse: {zeros} % zeros"),
        _ if zeros == 0 => "dense: no zeros".into(),
        _ => format!("dense: only {zeros} % zeros"),
    }
}
