//! What is fixed before a region runs: who computes what, when workers wait for each other, and where values lie.
//!
//! Steps that need nothing of each other make a *stage*; workers wait for each other between stages only. Values that share
//! memory (the parts of a concatenation, results computed in place) make one *storage*, which lives from the first stage that
//! writes to it to the last that reads it.

use std::ops::Range;

use super::arena::{self, Block};
use super::builder::{RegionBuilder, Step, Value};
use crate::team::share;
use crate::{LINE, Layer, Map};

/// Steps of less work than this (multiply-adds and elements read and written) are left to one worker: about a microsecond, and
/// neighbours of that kind need no waiting in between.
const SHARED_WORK: u64 = 1 << 14;

/// A region's fixed part.
#[derive(Debug)]
pub(super) struct Plan {
    pub threads: usize,
    pub steps: Vec<Step>,
    /// Beside every step: how it runs.
    pub turns: Vec<Turn>,
    /// Beside every value: where it lies.
    pub slots: Vec<Slot>,
    pub storages: Vec<Storage>,
    /// Value of every input and output.
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    /// Elements of the arena, and of one worker's scratch memory.
    pub arena: usize,
    pub scratch: usize,
}

/// How a step runs.
#[derive(Debug)]
pub(super) struct Turn {
    stage: usize,
    /// Workers wait for each other before it.
    pub wait: bool,
    /// The result takes the place of the input.
    pub in_place: bool,
    /// Units of every worker.
    pub shares: Vec<Range<usize>>,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub storage: usize,
    /// First element within the storage.
    pub start: usize,
    pub map: Map,
}

/// Memory of one value, or of several that share it.
#[derive(Debug)]
pub(super) struct Storage {
    /// First element within the arena.
    pub start: usize,
    pub outside: Outside,
}

/// A slice of the caller that may stand in for a storage, since it is laid out alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    No,
    /// Nobody writes to it.
    Input(usize),
    Output(usize),
}

impl Plan {
    pub fn new(builder: RegionBuilder, threads: usize) -> Self {
        let RegionBuilder { values, inputs, steps, outputs } = builder;
        let whole: Vec<(usize, usize)> = (0..values.len()).map(|value| whole_of(&values, value)).collect();
        let stages = stages(&steps, &whole, threads);
        let mut storages = whole.iter().map(|(whole, _)| *whole).collect::<Vec<_>>();
        let in_place = run_in_place(&steps, &stages, &values, &inputs, &outputs, &mut storages);

        // only those that are some value's storage stay, numbered in order
        let mut kept = storages.clone();
        kept.sort_unstable();
        kept.dedup();
        let slot = |value: usize| {
            let storage = kept.binary_search(&storages[value]).expect("every storage was kept");
            Slot { storage, start: whole[value].1, map: values[value].map }
        };
        let slots: Vec<Slot> = (0..values.len()).map(slot).collect();

        let blocks = blocks(&slots, &steps, &stages, &inputs, &outputs);
        let (starts, arena) = if threads == 1 { arena::place(&blocks) } else { arena::place_halves(&blocks) };
        arena::assert_apart(&blocks, &starts, arena);
        let outside = |storage| outside(storage, blocks[storage].len, &slots, &inputs, &outputs);
        let storages =
            starts.iter().enumerate().map(|(s, start)| Storage { start: *start, outside: outside(s) }).collect();

        let shares: Vec<_> = steps.iter().map(|step| shares(&*step.layer, threads)).collect();
        let waits = waits(&stages, &shares);
        let turn = |(((stage, wait), in_place), shares)| Turn { stage, wait, in_place, shares };
        let turns = stages.into_iter().zip(waits).zip(in_place).zip(shares).map(turn).collect();
        let scratch = steps.iter().map(|step| step.layer.scratch_len()).max().unwrap_or(0).next_multiple_of(LINE);
        let plan = Self { threads, steps, turns, slots, storages, inputs, outputs, arena, scratch };
        plan.assert_stages_are_safe();
        plan
    }

    /// Asserts what the executor relies on: within a stage, what one step writes is apart from all that is read or written by any
    /// other and by itself, save that a step in place writes over its own input.
    ///
    /// Compared are places in the arena; where a slice of the caller stands in for a storage, all its values move there together.
    fn assert_stages_are_safe(&self) {
        let place = |value: usize| {
            let slot = &self.slots[value];
            let start = self.storages[slot.storage].start + slot.start;
            start..start + slot.map.len()
        };
        let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
        for (index, (writer, turn)) in self.steps.iter().zip(&self.turns).enumerate() {
            let written = place(writer.y.0);
            assert!(!turn.in_place || written == place(writer.x.0), "`{}` in place", writer.name);
            for (other, (step, other_turn)) in self.steps.iter().zip(&self.turns).enumerate() {
                if other_turn.stage != turn.stage {
                    continue;
                }
                let x = (!(other == index && turn.in_place)).then_some(step.x);
                let y = (other != index).then_some(step.y);
                let clash = [x, step.residual, y].into_iter().flatten().find(|value| !apart(&written, &place(value.0)));
                assert!(clash.is_none(), "`{}` writes what `{}` uses", writer.name, step.name);
            }
        }
        for (storage, outside) in self.storages.iter().map(|storage| storage.outside).enumerate() {
            let written = self.steps.iter().any(|step| self.slots[step.y.0].storage == storage);
            assert!(!(written && matches!(outside, Outside::Input(_))), "an input would be written");
        }
    }
}

/// The concatenation that `value` is in the end a part of, or itself, and its first element there.
fn whole_of(values: &[Value], value: usize) -> (usize, usize) {
    let (mut whole, mut start) = (value, 0);
    while let Some((parent, offset)) = values[whole].part_of {
        (whole, start) = (parent, start + offset);
    }
    (whole, start)
}

/// Stage of every step, from 1 on: a new one begins with each step that reads what its stage has written.
///
/// A single worker has a stage per step, which keeps lives short.
fn stages(steps: &[Step], whole: &[(usize, usize)], threads: usize) -> Vec<usize> {
    let (mut stage, mut written) = (1, Vec::new());
    let next = |step: &Step| {
        let mut reads = std::iter::once(step.x).chain(step.residual).map(|value| whole[value.0].0);
        if !written.is_empty() && (threads == 1 || reads.any(|value| written.contains(&value))) {
            stage += 1;
            written.clear();
        }
        written.push(whole[step.y.0].0);
        stage
    };
    steps.iter().map(next).collect()
}

/// Which steps run in place; their results get the storage of their input.
///
/// In place means: the layer can, input and result are no parts of a concatenation, and nothing else needs what is overwritten.
/// Inputs of the region are left alone, so that they can be read where the caller has them.
fn run_in_place(
    steps: &[Step],
    stages: &[usize],
    values: &[Value],
    inputs: &[usize],
    outputs: &[usize],
    storages: &mut [usize],
) -> Vec<bool> {
    let mut decide = |index: usize| {
        let step = &steps[index];
        let (x, y) = (step.x.0, step.y.0);
        let storage = storages[x];
        let shares = |value: usize| storages[value] == storage;
        let fits = step.layer.in_place()
            && step.layer.input() == step.layer.output()
            && values[x].part_of.is_none()
            && values[y].part_of.is_none();
        let kept = inputs.iter().chain(outputs).any(|value| shares(*value))
            || step.residual.is_some_and(|residual| shares(residual.0));
        let read_elsewhere = (0..steps.len()).filter(|other| *other != index).any(|other| {
            let reads = shares(steps[other].x.0) || steps[other].residual.is_some_and(|residual| shares(residual.0));
            reads && stages[other] >= stages[index]
        });
        let in_place = fits && !kept && !read_elsewhere;
        if in_place {
            storages[y] = storage;
        }
        in_place
    };
    (0..steps.len()).map(&mut decide).collect()
}

/// Length and life of every storage. Inputs live from stage 0 on, outputs until after the last step.
fn blocks(slots: &[Slot], steps: &[Step], stages: &[usize], inputs: &[usize], outputs: &[usize]) -> Vec<Block> {
    let end = stages.last().map_or(0, |last| last + 1);
    let count = slots.iter().map(|slot| slot.storage + 1).max().unwrap_or(0);
    let mut blocks = vec![None::<Block>; count];
    let mut used = |value: usize, stage: usize| {
        let slot = &slots[value];
        let block = blocks[slot.storage].get_or_insert(Block { len: 0, live: stage..=stage });
        block.live = stage.min(*block.live.start())..=stage.max(*block.live.end());
        block.len = block.len.max(slot.start + slot.map.len());
    };
    inputs.iter().for_each(|value| used(*value, 0));
    outputs.iter().for_each(|value| used(*value, end));
    for (step, stage) in steps.iter().zip(stages) {
        [Some(step.x), step.residual, Some(step.y)].into_iter().flatten().for_each(|value| used(value.0, *stage));
    }
    blocks.into_iter().map(|block| block.expect("every storage has a value that is input or result")).collect()
}

/// Which slice of the caller may stand in for a storage: one without gaps that is exactly an input nobody writes to, or an output.
fn outside(storage: usize, len: usize, slots: &[Slot], inputs: &[usize], outputs: &[usize]) -> Outside {
    let is_whole = |value: &usize| {
        let slot = &slots[*value];
        slot.storage == storage && slot.map.is_tight() && slot.map.len() == len
    };
    let has_input = inputs.iter().any(|value| slots[*value].storage == storage);
    if has_input {
        let alone = slots.iter().filter(|slot| slot.storage == storage).count() == 1;
        return inputs.iter().position(is_whole).filter(|_| alone).map_or(Outside::No, Outside::Input);
    }
    outputs.iter().position(is_whole).map_or(Outside::No, Outside::Output)
}

/// Units of every worker; all for the first where waiting for the others would cost more than they save.
fn shares(layer: &dyn Layer, threads: usize) -> Vec<Range<usize>> {
    let (units, elements) = (layer.units(), layer.input().len() + layer.output().len());
    if units > 1 && layer.macs() + elements as u64 >= SHARED_WORK {
        return share(layer, threads);
    }
    (0..threads).map(|worker| if worker == 0 { 0..units } else { units..units }).collect()
}

/// Before which steps workers wait for each other: where a stage begins, unless the same worker did all of the stage before and
/// does all of this one. The first step never waits; what inputs need is decided when it runs.
fn waits(stages: &[usize], shares: &[Vec<Range<usize>>]) -> Vec<bool> {
    let alone = |stage: usize| {
        let mut workers = stages.iter().zip(shares).filter(|(of, _)| **of == stage).flat_map(|(_, shares)| {
            shares.iter().enumerate().filter(|(_, units)| !units.is_empty()).map(|(worker, _)| worker)
        });
        let first = workers.next();
        first.filter(|first| workers.all(|worker| worker == *first))
    };
    let wait = |index: usize| {
        let (before, stage) = (index.checked_sub(1).map(|before| stages[before]), stages[index]);
        before.is_some_and(|before| before != stage && (alone(stage).is_none() || alone(stage) != alone(before)))
    };
    (0..stages.len()).map(wait).collect()
}
