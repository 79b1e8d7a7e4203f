//! One direction of a layer: its rectangles, tiles and survivors, and how they run.

use std::ops::Range;

use super::Kernels;
use super::lists::{Changes, Lists, Pool};
use super::rects::Rect;
use super::survivors::{Positions, Survivors, Weight};
use super::tiles::Pass;
use super::tiling::{Maps, Shape, Shapes, Tile};
use crate::KernelError;
use crate::team::Team;
use crate::training::{ConvGeometry, Output, tasks};

/// Vectors of the result that the tiles of a task have, at most (unless one tile has more): between chunks they wait in the second-level cache.
const TASK_BYTES: usize = 512 << 10;
/// Tasks wanted, so that threads end at about the same time.
const TASKS: usize = 24;
/// Segments of output channels, at most.
const SEGMENTS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    InputGradient,
}

/// What sums begin with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    Zero,
    Bias(&'a [f32]),
    /// What is there.
    Present,
}

/// Tiles of one rectangle, for one segment of the output channels.
#[derive(Clone, Debug)]
struct Task {
    rect: usize,
    segment: usize,
    tiles: Range<usize>,
}

/// Where the taps of a rectangle lead.
#[derive(Debug)]
struct Area {
    /// For every tap; nothing if the codes are right as they are.
    changes: Option<Changes>,
    /// Elements of the result from one vector of a piece to the next.
    to_step: usize,
}

#[derive(Debug)]
pub(super) struct Plan {
    direction: Direction,
    geometry: ConvGeometry,
    survivors: Survivors,
    /// Of a code that are the tap.
    bits: u32,
    /// Elements of a source channel and of an output channel.
    from_channel: usize,
    to_channel: usize,
    areas: Vec<Area>,
    tiles: Vec<Tile>,
    shapes: Vec<Shape>,
    tasks: Vec<Task>,
}

impl Plan {
    /// * `kept`: flat positions of the survivors, ascending; `lanes`: elements of a vector, `blocks`: vectors per pixel.
    pub fn new(
        direction: Direction,
        geometry: &ConvGeometry,
        kernels: &Kernels,
        blocks: usize,
        kept: &[u32],
    ) -> Result<Self, KernelError> {
        let (group_in, group_out) = (geometry.group_in(), geometry.group_out());
        let (rects, from, to, channels, depth) = match direction {
            Direction::Forward => {
                let [down, right] = [0, 1].map(|axis| super::rects::of_outputs(geometry, axis));
                let channels = [geometry.in_channels, geometry.out_channels];
                (Rect::all(&down, &right), geometry.input, geometry.output, channels, group_in)
            }
            Direction::InputGradient => {
                let [down, right] = [0, 1].map(|axis| super::rects::of_inputs(geometry, axis));
                let channels = [geometry.out_channels, geometry.in_channels];
                (Rect::all(&down, &right), geometry.output, geometry.input, channels, group_out)
            }
        };
        let lanes = kernels.lanes;
        let maps = Maps {
            from: [from[1], from[0] * from[1], channels[0] * from[0] * from[1]],
            to: [to[1], to[0] * to[1], channels[1] * to[0] * to[1]],
            blocks,
            lanes,
            depth,
            density: kept.len() as f64 / geometry.weights() as f64,
        };
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let bits = usize::BITS - (taps - 1).leading_zeros();
        if (maps.from[2] as u64) << bits > u64::from(u32::MAX) {
            return Err(KernelError::TooLarge { what: "a map of a sparse layer" });
        }
        // codes are right for the largest rectangle that no tap misses
        let complete = rects.iter().filter(|rect| rect.taps(from[1]).iter().all(Option::is_some));
        let main = complete.max_by_key(|rect| rect.pixels()).map(|rect| rect.taps(from[1]));
        let main = main.unwrap_or_else(|| vec![Some(0); taps]);

        let chunk = maps.chunk(&rects, kernels.widths);
        let (mut areas, mut tiles, mut shapes, mut ranges) = (Vec::new(), Vec::new(), Shapes::default(), Vec::new());
        for rect in &rects {
            let own = rect.taps(from[1]);
            let moved = |(own, main): (&Option<usize>, &Option<usize>)| {
                own.map(|own| (own.wrapping_sub(main.unwrap_or(0)) as u32) << bits)
            };
            let changes = (own != main).then(|| Changes::new(bits, own.iter().zip(&main).map(moved)));
            areas.push(Area { changes, to_step: rect.right.to_step * lanes });
            let (form, cycles) = maps.form(rect, kernels.widths, chunk);
            let first = tiles.len();
            tiles.extend(maps.tiles(rect, form, &mut shapes));
            ranges.push((first..tiles.len(), form, cycles));
        }
        let segments = TASKS.div_ceil(tiles.len()).clamp(1, SEGMENTS).min(channels[1]);
        let ends = |weight: Weight| {
            let Weight { output, input, .. } = weight;
            let group = output / group_out;
            match direction {
                Direction::Forward => (output, input),
                Direction::InputGradient => (group * group_in + input, output - group * group_out),
            }
        };
        let code = |number: usize, weight: Weight| {
            let channel = match direction {
                Direction::Forward => weight.output / group_out * group_in + weight.input,
                Direction::InputGradient => weight.output,
            };
            let pixel = (channel - number * chunk) * maps.from[1] + main[weight.tap].unwrap_or(0);
            ((pixel as u32) << bits) | weight.tap as u32
        };
        let at = Positions::new(geometry);
        let survivors = Survivors::new(kept, at, channels[1], [depth, chunk, segments], ends, code);

        // long tasks first, so that the short ones even out who is done when
        let total: f64 = ranges.iter().map(|(_, _, cycles)| cycles).sum();
        let mut tasks = Vec::new();
        for (rect, (range, form, cycles)) in ranges.into_iter().enumerate() {
            let tile = cycles / range.len() as f64;
            let bytes = form.pieces * form.width * channels[1].div_ceil(segments) * lanes * size_of::<f32>();
            let even = (total * segments as f64 / TASKS as f64 / tile) as usize;
            let most = (TASK_BYTES / bytes).min(even).max(1);
            for segment in 0..segments {
                for first in range.clone().step_by(most) {
                    let tiles = first..range.end.min(first + most);
                    tasks.push((tile * tiles.len() as f64, Task { rect, segment, tiles }));
                }
            }
        }
        tasks.sort_by(|a, b| b.0.total_cmp(&a.0));
        let tasks = tasks.into_iter().map(|(_, task)| task).collect();
        Ok(Self {
            direction,
            geometry: *geometry,
            survivors,
            bits,
            from_channel: maps.from[1] * lanes,
            to_channel: maps.to[1] * lanes,
            areas,
            tiles,
            shapes: shapes.all,
            tasks,
        })
    }

    /// Chunks of source channels.
    #[cfg(test)]
    pub fn chunks(&self) -> usize {
        self.survivors.chunks
    }

    /// Of a unit, the most turns and entries.
    pub fn most(&self) -> (usize, usize) {
        self.survivors.most()
    }

    /// Elements of the source and of the result, in `blocks` blocks.
    pub fn lens(&self, blocks: usize) -> [usize; 2] {
        let (inputs, outputs) = (self.geometry.in_channels, self.geometry.out_channels);
        match self.direction {
            Direction::Forward => [inputs * self.from_channel * blocks, outputs * self.to_channel * blocks],
            Direction::InputGradient => [outputs * self.from_channel * blocks, inputs * self.to_channel * blocks],
        }
    }

    /// * `w`: all weights; `values`: room for one per survivor.
    ///
    /// # Safety
    /// The CPU has the instructions of `kernels`; `from` and `to` have the lengths of [`Plan::lens`] for the blocks of the plan, and a bias one number
    /// per output channel.
    #[allow(clippy::too_many_arguments, reason = "what a layer reads and writes")]
    pub unsafe fn run(
        &self,
        team: &Team,
        kernels: &Kernels,
        w: &[f32],
        values: &mut [f32],
        pool: &Pool,
        from: &[f32],
        to: &mut [f32],
        start: Start<'_>,
    ) {
        self.survivors.gather(team, w, values);
        let (values, to) = (&*values, Output::new(to));
        tasks(team, self.tasks.len(), |number| {
            let task = &self.tasks[number];
            let filtered = self.areas[task.rect].changes.is_some();
            let mut lists = filtered.then(|| pool.take());
            // SAFETY: by this function's contract; no other task has these tiles and output channels.
            unsafe { self.task(kernels, task, values, lists.as_mut(), from, to, start) };
            if let Some(lists) = lists {
                pool.give(lists);
            }
        });
    }

    /// # Safety
    /// As `run`; nobody else uses the outputs of the task.
    #[allow(clippy::too_many_arguments, reason = "what a layer reads and writes")]
    unsafe fn task(
        &self,
        kernels: &Kernels,
        task: &Task,
        values: &[f32],
        mut lists: Option<&mut Lists>,
        from: &[f32],
        to: Output<'_>,
        start: Start<'_>,
    ) {
        let survivors = &self.survivors;
        let area = &self.areas[task.rect];
        for chunk in 0..survivors.chunks {
            let unit = &survivors.units[chunk * survivors.segments + task.segment];
            let mut turns = &survivors.turns[unit.turns.clone()];
            let mut codes = &survivors.codes[unit.entries.clone()];
            let mut values = &values[unit.entries.clone()];
            if let (Some(lists), Some(changes)) = (lists.as_deref_mut(), &area.changes) {
                // SAFETY: the CPU has the instructions, by this function's contract.
                (turns, codes, values) = unsafe { lists.filter(kernels, changes, turns, codes, values, chunk == 0) };
            }
            if turns.is_empty() {
                continue;
            }
            let load = chunk > 0 || matches!(start, Start::Present);
            let bias = if let Start::Bias(bias) = start { bias.as_ptr() } else { std::ptr::null() };
            let chunk = chunk * survivors.chunk * self.from_channel;
            for tile in &self.tiles[task.tiles.clone()] {
                let shape = &self.shapes[tile.shape as usize];
                let pass = Pass {
                    turns,
                    codes: codes.as_ptr(),
                    values: values.as_ptr(),
                    bits: self.bits,
                    x: from.as_ptr().wrapping_add(chunk + tile.from),
                    x_pieces: &shape.from,
                    y: to.at(tile.to),
                    y_pieces: &shape.to,
                    y_step: area.to_step,
                    y_channel: self.to_channel,
                    load,
                    bias,
                };
                // SAFETY: features, lengths and who else writes by this function's contract. Codes lead to pixels of the source because the
                // taps of the rectangle do for all its pixels; tiles are pixels of the rectangle.
                unsafe { (kernels.pass)(shape.pieces, shape.width, &pass) };
            }
        }
    }
}
