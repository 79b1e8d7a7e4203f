//! Gradients of all weights of a layer.

use std::ops::Range;

use super::bands::{Band, Bands, common};
use super::kernels::{Kernels, checked, kernels_of};
use super::one_pixel::OnePixel;
use super::scratch::{Pool, Sums};
use super::tiles::{Rect, Steps, Tile};
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes, Output, tasks};
use crate::{Isa, KernelError};

/// Bytes of sums that a task keeps between bands: what of the second-level cache the pixels of a band leave.
const SUMS: usize = 256 << 10;
/// Input channels of a task, where kernels have one tap and where they have more.
const CHANNELS: [usize; 2] = [48, 24];
/// Most output channels of a task.
const OUTPUTS: usize = 64;
/// Bytes of a tile's pixels that should stay in the first-level cache from tap to tap.
const FIRST_LEVEL: usize = 32 << 10;
/// Bytes of pixels of a task that should stay in the second-level cache from tile to tile.
const SECOND_LEVEL: usize = 640 << 10;
/// Most bands of which it is noted what the taps reach.
const BANDS: usize = 32;
/// Pixels of a row above which it is cut.
const WIDE: usize = 64;
/// Tasks per thread that are made where the layer is large enough.
const TASKS: usize = 2;

/// Computes the weight gradient of a convolution (or of a fully connected layer: 1x1 maps).
#[derive(Debug)]
pub struct WeightGradient {
    isa: Isa,
    geometry: ConvGeometry,
    lanes: Lanes,
    /// Most outputs and channels of a tile.
    tile: (usize, usize),
    bands: Bands,
    /// Bands that a tile goes through before the next tile's turn.
    together: usize,
    scratch: Pool<Scratch>,
    /// What computes a fully connected layer.
    one_pixel: Option<OnePixel>,
}

/// What a task needs.
#[derive(Debug)]
struct Scratch {
    /// What the taps reach of some bands.
    rects: Vec<Rect>,
    /// Per tap, whether a band before had pixels.
    started: Vec<bool>,
}

/// A part of the weights: some outputs and some input channels of one group, at some taps.
struct Task {
    /// Among all output channels.
    outputs: Range<usize>,
    /// Among the channels of the group.
    channels: Range<usize>,
    /// First input channel of the group.
    first_channel: usize,
    taps: Range<usize>,
}

/// Into how many tasks each group is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    outputs: usize,
    channels: usize,
    taps: usize,
}

impl WeightGradient {
    /// Prepares a layer for batches of `lanes` on `isa`.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is none, or `lanes` are not those of `isa`.
    pub fn new(isa: Isa, geometry: ConvGeometry, lanes: Lanes) -> Result<Self, KernelError> {
        let isa = checked(isa, &geometry, lanes)?;
        let kernels = kernels_of(isa);
        let tile = if geometry.group_in() <= kernels.few_channels.1 { kernels.few_channels } else { kernels.tile };
        let bands = Bands::new(&geometry, lanes, band_pixels(&geometry, tile, kernels.lanes));
        let one_pixel = OnePixel::new(isa, geometry, lanes);
        let scratch = Pool::new(1, Scratch::none);
        let mut layer = Self { isa, geometry, lanes, tile, bands, together: 1, scratch, one_pixel };
        if layer.one_pixel.is_some() {
            return Ok(layer);
        }
        let cut = layer.cut(1);
        let g = &layer.geometry;
        let (outputs, channels) = (g.group_out().div_ceil(cut.outputs), g.group_in().div_ceil(cut.channels));
        let taps = taps_of(g);
        if layer.at_once() {
            layer.together = bands.count().max(1);
        } else if taps > 1 {
            // With one tap pixels are used once per tile: there a band stays in the first-level cache from tile to tile.
            let bytes = (outputs * g.out_plane() + channels * g.in_plane()) * lanes.len(1) * size_of::<f32>();
            let of_band = bytes.div_ceil(bands.count().max(1)).max(1);
            layer.together = (SECOND_LEVEL / of_band).clamp(1, BANDS);
        }
        let together = layer.together;
        layer.scratch = Pool::new(g.weights(), move || Scratch {
            rects: Vec::with_capacity(together * taps),
            started: Vec::with_capacity(taps),
        });
        Ok(layer)
    }

    /// Computes `gw`, whatever was there before.
    ///
    /// * `x`: the layer's input, `[N / L][C][H][W][L]`; `gy`: the gradient of its output, laid out alike, 0 in the lanes of images
    ///   that do not count.
    /// * `gw`: `[O][C / groups][kh][kw]`.
    ///
    /// # Panics
    /// When a length is wrong or this processor lacks the instructions.
    pub fn run(&self, team: &Team, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        let g = &self.geometry;
        assert!(self.isa.runs_here(), "{} cannot run on this CPU", self.isa.name());
        assert_eq!(x.len(), self.lanes.len(g.in_channels * g.in_plane()), "length of the input");
        assert_eq!(gy.len(), self.lanes.len(g.out_channels * g.out_plane()), "length of the output's gradient");
        assert_eq!(gw.len(), g.weights(), "length of the weights' gradient");
        if let Some(layer) = &self.one_pixel {
            return layer.run(team, x, gy, gw);
        }
        let cut = self.cut(team.threads());
        let gw = Output::new(gw);
        tasks(team, g.groups * cut.outputs * cut.channels * cut.taps, |index| {
            self.run_task(&self.task(cut, index), x, gy, gw);
        });
    }

    /// Whether the whole batch of a tile's channels stays in the cache from output to output. Then a task has the channels of one
    /// tile, whose sums stay in the first-level cache until their lanes are added.
    fn at_once(&self) -> bool {
        let g = &self.geometry;
        let pixels = OUTPUTS.min(g.group_out()) * g.out_plane() + self.tile.1.min(g.group_in()) * g.in_plane();
        taps_of(g) > 1
            && self.bands.count() <= BANDS
            && pixels.saturating_mul(self.lanes.len(1) * size_of::<f32>()) <= SECOND_LEVEL
    }

    /// Tasks whose sums fit the cache, and for several threads enough of them.
    fn cut(&self, threads: usize) -> Cut {
        let g = &self.geometry;
        let (m, k) = self.tile;
        let taps = taps_of(g);
        let target = if taps == 1 {
            CHANNELS[0]
        } else if self.at_once() {
            k
        } else {
            CHANNELS[1]
        };
        let channels = g.group_in().div_ceil(k).div_ceil(target.div_ceil(k));
        let vectors = g.group_in().div_ceil(channels) * taps;
        let fitting = SUMS / (vectors * self.lanes.lanes * size_of::<f32>());
        let mut outputs = g.group_out().div_ceil(m).div_ceil((fitting.min(OUTPUTS) / m).max(1));
        let wanted = if threads == 1 { 1 } else { TASKS * threads };
        while g.groups * channels * outputs < wanted && outputs < g.group_out().div_ceil(m) {
            outputs = (2 * outputs).min(g.group_out().div_ceil(m));
        }
        let taps = wanted.div_ceil(g.groups * channels * outputs).min(taps);
        Cut { outputs, channels, taps }
    }

    fn task(&self, cut: Cut, index: usize) -> Task {
        let g = &self.geometry;
        let part = |index: usize, parts: usize, len: usize| index * len / parts..(index + 1) * len / parts;
        let (index, taps) = (index / cut.taps, part(index % cut.taps, cut.taps, taps_of(g)));
        let (index, channels) = (index / cut.channels, part(index % cut.channels, cut.channels, g.group_in()));
        let (group, outputs) = (index / cut.outputs, part(index % cut.outputs, cut.outputs, g.group_out()));
        let first = group * g.group_out();
        let outputs = first + outputs.start..first + outputs.end;
        Task { outputs, channels, first_channel: group * g.group_in(), taps }
    }

    fn run_task(&self, task: &Task, x: &[f32], gy: &[f32], gw: Output<'_>) {
        let kernels = kernels_of(self.isa);
        let mut scratch = self.scratch.take();
        let Scratch { rects, started } = &mut *scratch;
        let pitch = task.channels.len() * task.taps.len() * kernels.lanes;
        // `[output][channel][tap]`, a vector each
        let mut sums = Sums::take(task.outputs.len() * pitch);
        let sums = sums.as_mut_slice();
        if self.has_idle_taps() {
            sums.fill(0.0);
        }
        started.clear();
        started.resize(task.taps.len(), false);
        let (high, wide) = (Tiles::new(task.outputs.len(), self.tile.0), Tiles::new(task.channels.len(), self.tile.1));
        let bands = self.bands.count();
        let at_once = bands <= self.together;
        for first in (0..bands).step_by(self.together) {
            let end = (first + self.together).min(bands);
            rects.clear();
            for band in first..end {
                self.reach(&self.bands.get(band), task, rects, started);
            }
            for turn in 0..high.count * wide.count {
                let (output, channel) = if at_once {
                    (turn / wide.count, turn % wide.count)
                } else {
                    (turn % high.count, turn / high.count)
                };
                let (outputs, channels) = (high.get(output), wide.get(channel));
                // Where a tile's sums are complete at once, those of the next outputs take their place, which is in the cache.
                let row = if at_once { 0 } else { outputs.start };
                self.add_tiles(&kernels, task, rects, outputs.clone(), channels, x, gy, &mut sums[row * pitch..]);
                if end == bands && channel + 1 == wide.count {
                    self.add_lanes(&kernels, task, outputs, &sums[row * pitch..], gw);
                }
            }
        }
        if bands == 0 {
            self.add_lanes(&kernels, task, 0..task.outputs.len(), sums, gw);
        }
    }

    /// Whether some tap reaches no output, or there is none.
    fn has_idle_taps(&self) -> bool {
        let idle = |axis: usize| (0..self.geometry.kernel[axis]).any(|tap| self.geometry.reached(axis, tap).is_empty());
        self.lanes.is_empty() || idle(0) || idle(1)
    }

    /// Adds what every tap reaches of a band.
    fn reach(&self, band: &Band, task: &Task, rects: &mut Vec<Rect>, started: &mut [bool]) {
        let (g, lanes) = (&self.geometry, self.lanes.lanes);
        let (gy_steps, x_steps) = steps(g, lanes);
        for (index, tap) in task.taps.clone().enumerate() {
            let tap = [tap / g.kernel[1], tap % g.kernel[1]];
            let (rows, cols) = (common(&band.rows, &g.reached(0, tap[0])), common(&band.cols, &g.reached(1, tap[1])));
            if rows.is_empty() || cols.is_empty() {
                continue;
            }
            let input = |axis: usize, at: usize| at * g.stride[axis] + tap[axis] * g.dilation[axis] - g.pads[axis];
            let rect = Rect {
                blocks: band.blocks,
                rows: rows.len(),
                cols: cols.len(),
                gy_steps,
                x_steps,
                gy: band.block * gy_steps.block + (rows.start * g.output[1] + cols.start) * lanes,
                x: band.block * x_steps.block + (input(0, rows.start) * g.input[1] + input(1, cols.start)) * lanes,
                sums: index * lanes,
                fresh: !started[index],
            };
            rects.push(rect.simplified());
            started[index] = true;
        }
    }

    /// Adds some bands to the sums of some outputs and channels at every tap.
    #[allow(clippy::too_many_arguments, reason = "one tile of one task")]
    fn add_tiles(
        &self,
        kernels: &Kernels,
        task: &Task,
        rects: &[Rect],
        outputs: Range<usize>,
        channels: Range<usize>,
        x: &[f32],
        gy: &[f32],
        sums: &mut [f32],
    ) {
        let (g, lanes) = (&self.geometry, self.lanes.lanes);
        let (gy_steps, x_steps) = steps(g, lanes);
        let gy = &gy[(task.outputs.start + outputs.start) * gy_steps.channel..];
        let x = &x[(task.first_channel + task.channels.start + channels.start) * x_steps.channel..];
        let (sums_channel, taps) = (task.taps.len() * lanes, task.taps.len());
        let sums_output = task.channels.len() * sums_channel;
        let sums = &mut sums[channels.start * sums_channel..];
        let last = (outputs.len() - 1) * sums_output + (channels.len() - 1) * sums_channel + taps * lanes;
        assert!(sums.len() >= last, "sums of a tile that are not there");
        let tile = Tile { outputs: outputs.len(), channels: channels.len(), sums_output, sums_channel };
        // SAFETY: the processor was asserted in `run`, as were the lengths of `x` and `gy`: blocks of the bands, channels of the
        // task, and the rectangles' pixels exist in both, since `reached` gives only outputs whose tap lies in the input. Sums
        // of the tile were asserted above.
        unsafe { (kernels.add_tile)(&tile, rects, gy.as_ptr(), x.as_ptr(), sums.as_mut_ptr()) };
    }

    /// Adds the lanes of all sums of some outputs, the first of which is the first of `sums`.
    fn add_lanes(&self, kernels: &Kernels, task: &Task, outputs: Range<usize>, sums: &[f32], gw: Output<'_>) {
        let (g, all) = (&self.geometry, taps_of(&self.geometry));
        let taps = task.taps.len();
        // sums lie as the weights do, all channels at once where the task has all taps
        let (runs, run) = if taps == all { (1, task.channels.len() * taps) } else { (task.channels.len(), taps) };
        for (row, output) in outputs.enumerate() {
            for at in 0..runs {
                let from = &sums[(row * runs + at) * run * kernels.lanes..][..run * kernels.lanes];
                let first =
                    (task.outputs.start + output) * g.patch() + (task.channels.start + at) * all + task.taps.start;
                // SAFETY: no other task has these weights.
                let to = unsafe { gw.part(first, run) };
                // SAFETY: the processor was asserted in `run`; both slices have the length that is told.
                unsafe { (kernels.add_lanes)(from.as_ptr(), run, to.as_mut_ptr()) };
            }
        }
    }
}

impl Scratch {
    fn none() -> Self {
        Self { rects: Vec::new(), started: Vec::new() }
    }
}

/// `len` in tiles of about equal width.
pub(super) struct Tiles {
    pub len: usize,
    pub count: usize,
}

impl Tiles {
    pub fn new(len: usize, most: usize) -> Self {
        Self { len, count: len.div_ceil(most) }
    }

    pub fn get(&self, index: usize) -> Range<usize> {
        index * self.len / self.count..(index + 1) * self.len / self.count
    }
}

/// Output pixels of a band.
fn band_pixels(geometry: &ConvGeometry, (outputs, channels): (usize, usize), lanes: usize) -> usize {
    let [height, width] = geometry.output;
    let bytes = |rows: usize| {
        let covered = |axis: usize, len: usize| {
            let span = (len - 1) * geometry.stride[axis] + (geometry.kernel[axis] - 1) * geometry.dilation[axis] + 1;
            span.min(geometry.input[axis])
        };
        let x = channels.min(geometry.group_in()) * covered(0, rows) * covered(1, width);
        (x + outputs.min(geometry.group_out()) * rows * width) * lanes * size_of::<f32>()
    };
    let rows = (2..=height).take_while(|rows| bytes(*rows) <= FIRST_LEVEL).last().unwrap_or(1);
    if rows == height {
        // whole maps: as many as fit
        return rows * width * (FIRST_LEVEL / bytes(rows)).max(1);
    }
    if width > WIDE { WIDE } else { rows * width }
}

/// Taps of a kernel.
pub(super) fn taps_of(geometry: &ConvGeometry) -> usize {
    geometry.kernel[0] * geometry.kernel[1]
}

/// Distances within gradients and inputs.
pub(super) fn steps(geometry: &ConvGeometry, lanes: usize) -> (Steps, Steps) {
    let g = geometry;
    let [gy, x] = [g.out_plane() * lanes, g.in_plane() * lanes];
    (
        Steps { channel: gy, block: g.out_channels * gy, row: g.output[1] * lanes, pixel: lanes },
        Steps {
            channel: x,
            block: g.in_channels * x,
            row: g.stride[0] * g.input[1] * lanes,
            pixel: g.stride[1] * lanes,
        },
    )
}
