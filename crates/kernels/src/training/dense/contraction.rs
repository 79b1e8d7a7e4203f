//! One contraction, prepared: its tile positions, and tasks that share them evenly.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::ahead;
use super::plan::{Plan, Position, Side, WINDOW, split};
use super::tile::{Kernels, Tile};
use crate::team::Team;
use crate::training::{Lanes, Output, tasks};

/// Blocks of images that share a plan, at most: where maps are small, vectors lie along the blocks.
const BLOCKS: usize = 8;
/// Half cycles that a task is worth: tens of microseconds.
const TASK_COST: usize = 100_000;
/// Tasks of a layer, unless its memory asks for more.
const TASKS: usize = 24;
/// Bytes of weights from which on tasks share the outputs before the pixels, so that each weight comes from afar once.
const HEAVY: usize = 1 << 19;
/// Outputs of a task at least: each task copies what it reads.
const OUTPUTS: usize = 96;
/// Bytes that a task writes at most where sums rest in memory between chunks of channels; they should stay in the second-level cache.
const RESTING: usize = 256 << 10;

/// What sums begin with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    Zero,
    /// One number per output.
    Bias(&'a [f32]),
    /// What is there.
    Kept,
}

/// Some outputs of some tile positions of some blocks.
#[derive(Clone, Debug)]
struct Task {
    plan: usize,
    block: usize,
    positions: Range<usize>,
    group: usize,
    /// First output and their number, within the group.
    outputs: (usize, usize),
}

/// A copy of what a tile position reads.
#[repr(align(64))]
struct Copied([MaybeUninit<f32>; WINDOW]);

/// What the tiles of one position read: some channels, in the copy or in place.
struct Chunk {
    x: *const f32,
    /// Elements from one channel to the next.
    x_channel: usize,
    /// First channel.
    from: usize,
    channels: usize,
}

/// What is asked for meanwhile: a share with each tile.
struct Later<'a> {
    /// First channel of the chunk in the source.
    x: *const f32,
    plane: usize,
    channels: usize,
    /// The next position of this chunk.
    next: Option<&'a Position>,
}

/// A prepared contraction.
#[derive(Debug)]
pub(super) struct Contraction {
    side: Side,
    lanes: Lanes,
    kernels: &'static Kernels,
    plans: Vec<Plan>,
    /// Channels summed at once.
    chunks: Vec<(usize, usize)>,
    tasks: Vec<Task>,
}

impl Contraction {
    pub fn new(side: Side, lanes: Lanes, kernels: &'static Kernels) -> Self {
        let most: Vec<usize> = kernels.tiles.iter().map(|tiles| tiles.len()).collect();
        let blocks = lanes.blocks();
        // how many blocks to take at once: as many as possible where weights are many, else as is cheapest
        let sizes = |parts: usize| split(blocks, blocks.div_ceil(parts.max(1)).max(1)).collect::<Vec<_>>();
        let fewest = blocks.div_ceil(BLOCKS);
        let plan = |size: usize| Plan::new(&side, size, lanes.lanes, &most);
        let known: Vec<Option<Plan>> =
            (0..=BLOCKS).map(|size| (1..=blocks).contains(&size).then(|| plan(size))).collect();
        // each more block at once makes what passes through the caches larger; light weights have to gain more than a little by it
        let heavy = Self::is_heavy(&side);
        let cost = |size: usize| known[size].as_ref().map_or(0, |plan| plan.cost * (64 + size));
        let total = |parts: usize| -> usize { sizes(parts).iter().map(|(_, size)| cost(*size)).sum() };
        let parts = (fewest..=blocks).min_by_key(|parts| if heavy { *parts } else { total(*parts) }).unwrap_or(0);
        let blocks = if parts == 0 { Vec::new() } else { sizes(parts) };
        let used = |size: usize| blocks.iter().any(|(_, used)| *used == size);
        let plans: Vec<(usize, Plan)> = known
            .into_iter()
            .enumerate()
            .filter_map(|(size, plan)| Some((size, plan.filter(|_| used(size))?)))
            .collect();
        let at_once = plans.iter().map(|(_, plan)| plan.channels_at_once()).min().unwrap_or(1);
        let chunks: Vec<_> = split(side.channels, at_once).collect();
        let tasks = Self::share(&side, lanes, &plans, &blocks, chunks.len());
        let plans = plans.into_iter().map(|(_, plan)| plan).collect();
        Self { side, lanes, kernels, plans, chunks, tasks }
    }

    /// Whether the weights of a group are many.
    fn is_heavy(side: &Side) -> bool {
        side.channels * side.outputs * side.kernel_taps * size_of::<f32>() >= HEAVY
    }

    /// Cuts the work into tasks.
    fn share(
        side: &Side,
        lanes: Lanes,
        plans: &[(usize, Plan)],
        blocks: &[(usize, usize)],
        chunks: usize,
    ) -> Vec<Task> {
        let number = |size: usize| plans.iter().position(|(known, _)| *known == size).expect("each size has a plan");
        let pixels: usize = blocks.iter().map(|(_, size)| plans[number(*size)].1.cost).sum();
        let want = (pixels * side.channels * side.groups / TASK_COST).clamp(1, TASKS);
        let have = (blocks.len() * side.groups).max(1);
        let missing = want.div_ceil(have);
        let parts = if Self::is_heavy(side) { even(missing.min(side.outputs / OUTPUTS)) } else { 1 };
        let size = blocks.iter().map(|(_, size)| *size).max().unwrap_or(1);
        let written = size * side.target_plane() * side.outputs.div_ceil(parts) * lanes.lanes * size_of::<f32>();
        let resting = if chunks > 1 { written.div_ceil(RESTING) } else { 1 };
        let ranges = if parts > 1 { resting } else { missing.max(resting) };
        let mut tasks = Vec::new();
        for (block, size) in blocks {
            let plan = number(*size);
            let ranges = ranges_of(&plans[plan].1.positions, plans[plan].1.cost, ranges);
            // where there are fewer positions than tasks wanted, outputs are shared too
            let more = even(want.div_ceil(have * ranges.len() * parts).min(side.outputs / parts / OUTPUTS));
            let outputs: Vec<_> = split(side.outputs, side.outputs.div_ceil(parts * more)).collect();
            for group in 0..side.groups {
                for outputs in &outputs {
                    let task = |positions: &Range<usize>| Task {
                        plan,
                        block: *block,
                        positions: positions.clone(),
                        group,
                        outputs: *outputs,
                    };
                    tasks.extend(ranges.iter().map(task));
                }
            }
        }
        tasks
    }

    /// Elements of what is read.
    pub fn source_len(&self) -> usize {
        self.lanes.blocks() * self.side.source_block() * self.lanes.lanes
    }

    /// Elements of what is written.
    pub fn target_len(&self) -> usize {
        self.lanes.blocks() * self.side.target_block() * self.lanes.lanes
    }

    /// Numbers of weights.
    pub fn weights(&self) -> usize {
        self.side.groups * self.side.channels * self.side.outputs * self.side.kernel_taps
    }

    /// Writes all of `y`.
    ///
    /// # Panics
    /// When a slice has not the length it must have.
    pub fn run(&self, team: &Team, x: &[f32], w: &[f32], start: Start<'_>, y: &mut [f32]) {
        assert_eq!(x.len(), self.source_len(), "what a convolution reads has another length than it was prepared for");
        assert_eq!(w.len(), self.weights(), "a convolution has another number of weights than it was prepared for");
        assert_eq!(y.len(), self.target_len(), "what a convolution writes has another length than it was prepared for");
        if let Start::Bias(bias) = start {
            assert_eq!(
                bias.len(),
                self.side.groups * self.side.outputs,
                "a convolution needs one bias per output channel"
            );
        }
        let y = Output::new(y);
        tasks(team, self.tasks.len(), |task| self.task(&self.tasks[task], x, w, start, y));
    }

    fn task(&self, task: &Task, x: &[f32], w: &[f32], start: Start<'_>, y: Output<'_>) {
        let (side, plan, lanes) = (&self.side, &self.plans[task.plan], self.lanes.lanes);
        let mut copied = Copied([MaybeUninit::uninit(); WINDOW]);
        let plane = side.source_plane() * lanes;
        let positions = &plan.positions[task.positions.clone()];
        for (from, channels) in &self.chunks {
            let source = task.block * side.source_block() + (task.group * side.channels + from) * side.source_plane();
            let source = &x[source * lanes..];
            for (at, position) in positions.iter().enumerate() {
                let window = &plan.windows[position.window];
                if window.taps.is_empty() && (*from > 0 || matches!(start, Start::Kept)) {
                    continue;
                }
                let channels = if window.taps.is_empty() { 0 } else { *channels };
                let pixels = source.as_ptr().wrapping_add(position.x);
                let (x, x_channel) = if window.runs.is_empty() {
                    (pixels, plane)
                } else {
                    let to = copied.0.as_mut_ptr().cast::<f32>();
                    // SAFETY: the plan checked that a position's lines lie inside the planes of its blocks, the lengths of the
                    // slices are those of the plan, and a chunk has no more channels than fit the copy.
                    unsafe { (self.kernels.pack)(pixels, plane, channels, &window.runs, to) };
                    (to.cast_const(), window.len)
                };
                let later = Later { x: source.as_ptr(), plane, channels, next: positions.get(at + 1) };
                let chunk = Chunk { x, x_channel, from: *from, channels };
                self.outputs(task, position, &chunk, &later, (w, start, y));
            }
        }
    }

    /// All outputs of a task at one position.
    fn outputs(
        &self,
        task: &Task,
        position: &Position,
        chunk: &Chunk,
        later: &Later<'_>,
        (w, start, y): (&[f32], Start<'_>, Output<'_>),
    ) {
        let (side, plan, lanes) = (&self.side, &self.plans[task.plan], self.lanes.lanes);
        let window = &plan.windows[position.window];
        let tiles = self.kernels.tiles[window.vectors - 1];
        let group_weights = side.channels * side.outputs * side.kernel_taps;
        let count = task.outputs.1.div_ceil(tiles.len());
        for (number, (first, outputs)) in split(task.outputs.1, tiles.len()).enumerate() {
            let first = task.outputs.0 + first;
            let channel = task.group * side.outputs + first;
            let at = (task.block * side.target_block() + channel * side.target_plane()) * lanes + position.y;
            let weight = task.group * group_weights + first * side.w_out + chunk.from * side.w_channel;
            let tile = Tile {
                x: chunk.x,
                x_channel: chunk.x_channel,
                channels: chunk.channels,
                taps: &window.taps,
                w: w[weight..].as_ptr(),
                w_out: side.w_out,
                w_channel: side.w_channel,
                y: y.at(at),
                y_out: side.target_plane() * lanes,
                y_step: window.y_step,
                kept: chunk.from > 0 || matches!(start, Start::Kept),
                bias: match start {
                    Start::Bias(bias) => bias[channel..channel + outputs].as_ptr(),
                    Start::Zero | Start::Kept => std::ptr::null(),
                },
            };
            if let Some(next) = later.next {
                let runs = &plan.windows[next.window].runs;
                ahead::pixels(later.x.wrapping_add(next.x), later.plane, later.channels, runs, (number, count));
            }
            // SAFETY: the instruction set was checked when the layer was prepared. The plan checked that the position stays
            // inside the planes of its blocks, both read and written; outputs and channels are those of the layer, and so
            // are the taps of its weights; the slices have the layer's lengths. No two tasks share an output at a position.
            unsafe { tiles[outputs - 1](&tile) };
        }
    }
}

/// `parts`, or one less where that makes them fit two threads; at least 1.
fn even(parts: usize) -> usize {
    if parts > 1 { parts / 2 * 2 } else { 1 }
}

/// Positions in `ranges` parts of about the same cost, or fewer where positions are fewer; none is empty.
fn ranges_of(positions: &[Position], cost: usize, ranges: usize) -> Vec<Range<usize>> {
    let mut all = Vec::with_capacity(ranges);
    let (mut from, mut sum) = (0, 0);
    for (at, position) in positions.iter().enumerate() {
        sum += position.cost;
        if sum * ranges >= cost * (all.len() + 1) || at + 1 == positions.len() {
            all.push(from..at + 1);
            from = at + 1;
        }
    }
    if from < positions.len() {
        all.push(from..positions.len());
    }
    all
}
