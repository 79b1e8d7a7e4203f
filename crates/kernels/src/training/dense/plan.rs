//! How a map is cut into tile positions, prepared once: which pixels one call of a tile writes, and what it reads for them.

use super::axis::Stretch;
use super::tile::{Run, Tap};

/// Elements of the copy of what a tile position reads, and of what is read in place: half of a first-level cache.
pub(super) const WINDOW: usize = 6144;
/// Outputs from which on it pays to copy what a tile position reads. A copy lies dense, while the same pixels of a map whose planes
/// are a power of two fall all into the same few lines of the cache.
const COPY_FROM: usize = 16;
/// What copying a line costs, in half cycles.
const COPY_COST: usize = 5;

/// One contraction of a layer: forward, or the input gradient. Lengths in pixels.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub groups: usize,
    /// Channels that are summed over, of one group.
    pub channels: usize,
    /// Channels that are written, of one group.
    pub outputs: usize,
    /// Height and width of what is read.
    pub source: [usize; 2],
    /// Height and width of what is written.
    pub target: [usize; 2],
    pub kernel_width: usize,
    /// Weights of one output and channel.
    pub kernel_taps: usize,
    pub rows: Vec<Stretch>,
    pub columns: Vec<Stretch>,
    /// Weights from one output to the next.
    pub w_out: usize,
    /// Weights from one channel to the next.
    pub w_channel: usize,
}

impl Side {
    pub fn source_plane(&self) -> usize {
        self.source[0] * self.source[1]
    }

    pub fn target_plane(&self) -> usize {
        self.target[0] * self.target[1]
    }

    /// Pixels from one block of images to the next in what is read.
    pub fn source_block(&self) -> usize {
        self.groups * self.channels * self.source_plane()
    }

    /// Pixels from one block of images to the next in what is written.
    pub fn target_block(&self) -> usize {
        self.groups * self.outputs * self.target_plane()
    }
}

/// What the tiles of one size and set of taps have in common. In elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Vectors of a tile.
    pub vectors: usize,
    /// Relative to the copy, or to the source where there is none.
    pub taps: Vec<Tap>,
    /// What is copied per channel; empty where tiles read in place.
    pub runs: Vec<Run>,
    /// Elements per channel that are read.
    pub len: usize,
    /// From one vector to the next in what is written.
    pub y_step: usize,
    /// The last element of the source that is read per channel, from the first pixel's.
    last: usize,
}

/// Where one tile stands, from the first channel of its group in the first block of its blocks. In elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub window: usize,
    pub x: usize,
    pub y: usize,
    /// What it costs per channel, in half cycles.
    pub cost: usize,
    order: [usize; 3],
}

/// All tile positions of some blocks of images.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub windows: Vec<Window>,
    /// By row.
    pub positions: Vec<Position>,
    /// Of all positions, per channel.
    pub cost: usize,
}

/// `len` as the fewest parts of at most `most` each, that differ by one at most: start and length of each.
pub(super) fn split(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = len.div_ceil(most);
    (0..parts).map(move |part| (part * len / parts, (part + 1) * len / parts - part * len / parts))
}

/// Half cycles that a tap of all outputs takes with tiles of `vectors`: two multiply-adds a cycle, two loads a cycle, sums
/// that wait four cycles for themselves, and the loop.
fn tap_cost(outputs: usize, vectors: usize, most: &[usize]) -> usize {
    let cost = |outputs: usize| (outputs * vectors).max(outputs + vectors + 2).max(8) + 2;
    split(outputs, most[vectors - 1]).map(|(_, outputs)| cost(outputs)).sum()
}

/// Pixels of a rectangle in one direction: down, to the right, or from block to block. Lengths in pixels.
#[derive(Clone, Copy)]
struct Axis {
    count: usize,
    /// From one to the next in what is read.
    source_step: usize,
    /// From one to the next in what is written.
    target_step: usize,
    /// What the axis never leaves in what is read: a row, or a plane.
    span: usize,
}

/// One way to lay vectors into a rectangle: along the last of its axes.
struct Way {
    axes: [Axis; 3],
    /// Vectors of a tile at most.
    most: usize,
}

impl Plan {
    /// Cuts the maps of `blocks` blocks.
    ///
    /// * `most`: outputs of a tile of one vector, of two, ..., at most.
    pub fn new(side: &Side, blocks: usize, lanes: usize, most: &[usize]) -> Self {
        let mut plan = Self { windows: Vec::new(), positions: Vec::new(), cost: 0 };
        for rows in &side.rows {
            for columns in &side.columns {
                plan.rectangle(side, rows, columns, blocks, lanes, most);
            }
        }
        plan.positions.sort_by_key(|position| position.order);
        plan.cost = plan.positions.iter().map(|position| position.cost).sum();
        plan
    }

    /// Adds the tiles of one rectangle, their vectors along the axis where that takes the least time.
    fn rectangle(
        &mut self,
        side: &Side,
        rows: &Stretch,
        columns: &Stretch,
        blocks: usize,
        lanes: usize,
        most: &[usize],
    ) {
        let [source_width, target_width] = [side.source[1], side.target[1]];
        let tap = |row: &(usize, usize), column: &(usize, usize)| Tap {
            x: (row.1 * source_width + column.1) * lanes,
            w: row.0 * side.kernel_width + column.0,
        };
        let taps: Vec<Tap> =
            rows.taps.iter().flat_map(|row| columns.taps.iter().map(move |column| tap(row, column))).collect();
        let down = Axis {
            count: rows.count,
            source_step: rows.source_step * source_width,
            target_step: rows.step * target_width,
            span: side.source_plane(),
        };
        let right = Axis {
            count: columns.count,
            source_step: columns.source_step,
            target_step: columns.step,
            span: source_width,
        };
        let over = Axis {
            count: blocks,
            source_step: side.source_block(),
            target_step: side.target_block(),
            span: side.source_plane(),
        };
        let ways = [
            Way { axes: [over, down, right], most: most.len() },
            Way { axes: [over, right, down], most: most.len() },
            Way { axes: [down, right, over], most: most.len() },
            Way { axes: [over, down, right], most: 1 },
        ];
        let (_, way) = ways
            .iter()
            .filter_map(|way| Some((way.cost(side, &taps, lanes, most)?, way)))
            .min_by_key(|(cost, _)| *cost)
            .expect("single vectors are always possible");
        let start = rows.first * target_width + columns.first;
        let [outer, middle, inner] = way.axes;
        for (first, vectors) in split(inner.count, way.most) {
            let window = Window::new(&taps, inner, vectors, side.outputs, lanes).expect("the way has a cost");
            let cost = window.cost(side, most);
            let number = self.windows.iter().position(|known| *known == window).unwrap_or_else(|| {
                self.windows.push(window);
                self.windows.len() - 1
            });
            for (a, b) in (0..outer.count).flat_map(|a| (0..middle.count).map(move |b| (a, b))) {
                let x = a * outer.source_step + b * middle.source_step + first * inner.source_step;
                let y = start + a * outer.target_step + b * middle.target_step + first * inner.target_step;
                let (block, pixel) = (y / side.target_block(), y % side.target_block());
                let order = [pixel / target_width, block, pixel % target_width];
                let position = Position { window: number, x: x * lanes, y: y * lanes, cost, order };
                self.check(side, &position, blocks, lanes);
                self.positions.push(position);
            }
        }
    }

    /// That a tile stays inside the planes of its blocks, which is what the kernels rely on.
    fn check(&self, side: &Side, position: &Position, blocks: usize, lanes: usize) {
        let window = &self.windows[position.window];
        let source = ((blocks - 1) * side.source_block() + side.source_plane()) * lanes;
        let target = ((blocks - 1) * side.target_block() + side.target_plane()) * lanes;
        assert!(
            window.taps.is_empty() || position.x + window.last + lanes <= source,
            "a tile reads outside its planes"
        );
        let last = position.y + (window.vectors - 1) * window.y_step;
        assert!(last + lanes <= target, "a tile writes outside its planes");
    }

    /// Channels at once, so that what a tile position reads stays in the first-level cache.
    pub fn channels_at_once(&self) -> usize {
        let longest = self.windows.iter().map(|window| window.len).max().unwrap_or(0);
        (WINDOW / longest.max(1)).max(1)
    }
}

impl Way {
    /// Half cycles per channel; `None` where a copy would be needed that is too large.
    fn cost(&self, side: &Side, taps: &[Tap], lanes: usize, most: &[usize]) -> Option<usize> {
        let [outer, middle, inner] = self.axes;
        let tile = |vectors| Some(Window::new(taps, inner, vectors, side.outputs, lanes)?.cost(side, most));
        let row: Option<usize> = split(inner.count, self.most).map(|(_, vectors)| tile(vectors)).sum();
        Some(outer.count * middle.count * row?)
    }
}

impl Window {
    /// What tiles of `vectors` along `axis` read; `None` where that has to be copied and is too much.
    fn new(taps: &[Tap], axis: Axis, vectors: usize, outputs: usize, lanes: usize) -> Option<Self> {
        let [step, y_step, span] = [axis.source_step, axis.target_step, axis.span].map(|pixels| pixels * lanes);
        // taps whose pixels lie whole steps apart share a run
        let alike = |a: usize, b: usize| a / span == b / span && a % step == b % step;
        let mut runs: Vec<Run> = Vec::new();
        for tap in taps {
            match runs.iter_mut().find(|run| alike(run.from, tap.x)) {
                None => runs.push(Run { from: tap.x, step, count: vectors }),
                Some(run) => {
                    let first = run.from.min(tap.x);
                    let end = (run.from + run.count * step).max(tap.x + vectors * step);
                    *run = Run { from: first, step, count: (end - first) / step };
                }
            }
        }
        let len = runs.iter().map(|run| run.count).sum::<usize>() * lanes;
        let last = runs.iter().map(|run| run.from + (run.count - 1) * step).max().unwrap_or(0);
        let in_place = Self { vectors, taps: taps.to_vec(), runs: Vec::new(), len, y_step, last };
        if vectors == 1 || taps.is_empty() || (step == lanes && (outputs < COPY_FROM || len > WINDOW)) {
            return Some(in_place);
        }
        if len > WINDOW {
            return None;
        }
        let mut starts = Vec::with_capacity(runs.len());
        let mut start = 0;
        for run in &runs {
            starts.push(start);
            start += run.count * lanes;
        }
        let copied = |tap: &Tap| {
            let at = runs.iter().position(|run| alike(run.from, tap.x)).expect("each tap has a run");
            Tap { x: starts[at] + (tap.x - runs[at].from) / step * lanes, w: tap.w }
        };
        let taps = taps.iter().map(copied).collect();
        Some(Self { taps, runs, ..in_place })
    }

    /// Half cycles of one position, all outputs, per channel.
    fn cost(&self, side: &Side, most: &[usize]) -> usize {
        let lines: usize = self.runs.iter().map(|run| run.count).sum();
        self.taps.len() * tap_cost(side.outputs, self.vectors, most) + lines * COPY_COST
    }
}
