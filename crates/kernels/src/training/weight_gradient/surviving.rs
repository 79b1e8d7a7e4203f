//! Gradients of the weights that pruning left.

use std::ops::Range;

use super::bands::{Band, Bands, common};
use super::dense::steps;
use super::kernels::{Kernels, checked, kernels_of};
use super::plan::{Key, Plan, Strip, Unit};
use super::scratch::{Pool, Sums};
use super::tiles::{Rect, Steps};
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes, Output, tasks};
use crate::{Isa, KernelError};

/// Bytes of input that a band should have, so that they stay in the second-level cache from output to output.
const SECOND_LEVEL: usize = 768 << 10;
/// Bytes of one output channel's gradient in a band: what of the first-level cache is for it.
const FIRST_LEVEL: usize = 16 << 10;
/// Most vectors of sums that are kept from band to band, and where all pixels of a weight are added at once.
const SUMS: [usize; 2] = [8192, 1024];
/// Fewest input channels worth a turn of their own: so many that an output has some weights at each tap.
const CHANNELS: usize = 64;
/// Weights per input channel from which a thread has two tasks. Each of them reads all of the input.
const BUSY: usize = 32;
/// Pixels of a map below which a band has several blocks, so that a weight's tap has to fit in all of them.
const SMALL: usize = 48;

/// Computes the gradients of the weights of a convolution that are kept, and of no others.
#[derive(Debug)]
pub struct SurvivingWeightGradient {
    isa: Isa,
    geometry: ConvGeometry,
    lanes: Lanes,
    bands: Bands,
    plan: Plan,
    /// Most vectors of sums of a task, unless a single unit has more.
    sums: usize,
    scratch: Pool<Scratch>,
}

/// What a task needs.
#[derive(Debug)]
struct Scratch {
    /// What the keys reach of a band.
    regions: Vec<Region>,
    /// Which of them are those of each key.
    of_key: Vec<Range<usize>>,
}

/// Output pixels of a band, and rows of the kernel that reach them.
#[derive(Clone, Debug)]
struct Region {
    rect: Rect,
    kernel_rows: Range<usize>,
}

impl SurvivingWeightGradient {
    /// Prepares the weights of a layer that `keep` names, `[O][C / groups][kh][kw]`, for batches of `lanes` on `isa`.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is none, `lanes` are not those of `isa`, or `keep` has the wrong length.
    pub fn new(isa: Isa, geometry: ConvGeometry, lanes: Lanes, keep: &[bool]) -> Result<Self, KernelError> {
        let isa = checked(isa, &geometry, lanes)?;
        if keep.len() != geometry.weights() {
            return Err(KernelError::ValueCount { expected: geometry.weights(), found: keep.len() });
        }
        if !Plan::fits(&geometry, lanes.lanes) {
            return Err(KernelError::TooLarge { what: "the layer" });
        }
        let several_blocks = geometry.out_plane() < SMALL || Plan::reach_alike(&geometry);
        let pixels = band_pixels(&geometry, lanes.lanes);
        let mut pixels = if several_blocks { pixels } else { pixels.min(geometry.out_plane()) };
        let mut channels = geometry.group_in();
        // Rather all pixels of some channels than a few pixels of all, if these are enough channels.
        let batch = lanes.len(geometry.in_plane()).max(1) * size_of::<f32>();
        let all = lanes.blocks().max(1) * geometry.out_plane();
        if several_blocks && SECOND_LEVEL / batch >= CHANNELS && all * lanes.lanes * size_of::<f32>() <= FIRST_LEVEL {
            channels = channels.div_ceil(channels.div_ceil(SECOND_LEVEL / batch));
            pixels = all;
        }
        let bands = Bands::new(&geometry, lanes, pixels);
        let plan = Plan::new(&geometry, lanes.lanes, keep, several_blocks, channels);
        let sums = SUMS[usize::from(several_blocks && bands.count() == 1 && channels == geometry.group_in())];
        let keys = plan.keys.len();
        let scratch = Pool::new(plan.units.len(), move || Scratch {
            regions: Vec::with_capacity(keys * (2 * geometry.kernel[0] + 1)),
            of_key: Vec::with_capacity(keys),
        });
        Ok(Self { isa, geometry, lanes, bands, plan, sums, scratch })
    }

    /// Weights that are kept.
    pub fn kept(&self) -> usize {
        self.plan.kept
    }

    /// Computes `gw`, one number per kept weight in the order of the file, whatever was there before; see
    /// [`super::WeightGradient::run`], whose bits they have.
    ///
    /// # Panics
    /// When a length is wrong or this processor lacks the instructions.
    pub fn run(&self, team: &Team, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        let g = &self.geometry;
        assert!(self.isa.runs_here(), "{} cannot run on this CPU", self.isa.name());
        assert_eq!(x.len(), self.lanes.len(g.in_channels * g.in_plane()), "length of the input");
        assert_eq!(gy.len(), self.lanes.len(g.out_channels * g.out_plane()), "length of the output's gradient");
        assert_eq!(gw.len(), self.plan.kept, "length of the kept weights' gradient");
        let gw = Output::new(gw);
        let cuts = self.cuts(team.threads());
        tasks(team, cuts, |task| {
            let units = self.cut(cuts, task)..self.cut(cuts, task + 1);
            // units of many weights each are a task of their own
            let mut first = units.start;
            while first < units.end {
                let weights = |end: usize| self.plan.units[end - 1].weights.end - self.plan.units[first].weights.start;
                let end =
                    (first + 2..=units.end).take_while(|end| weights(*end) <= self.sums).last().unwrap_or(first + 1);
                self.run_units(&self.plan.units[first..end], x, gy, gw);
                first = end;
            }
        });
    }

    /// Number of tasks for so many threads.
    fn cuts(&self, threads: usize) -> usize {
        let all = self.plan.ranks.len();
        let fitting = all.div_ceil(SUMS[0]).max(1);
        let wanted =
            if threads == 1 || all / self.geometry.in_channels < BUSY * threads { threads } else { 2 * threads };
        fitting.next_multiple_of(wanted).min(self.plan.units.len())
    }

    /// The first unit of task `index` of `count`, so that all have about as many weights.
    fn cut(&self, count: usize, index: usize) -> usize {
        if index == count {
            return self.plan.units.len();
        }
        let before = self.plan.ranks.len() * index / count;
        self.plan.units.partition_point(|unit| (unit.weights.start + unit.weights.end) / 2 < before)
    }

    fn run_units(&self, units: &[Unit], x: &[f32], gy: &[f32], gw: Output<'_>) {
        let (Some(one), Some(last)) = (units.first(), units.last()) else { return };
        let weights = one.weights.start..last.weights.end;
        let first = one.ranks.start;
        // SAFETY: units have the weights of some outputs each, and no other task has these units.
        let gw = unsafe { gw.part(first, last.ranks.end - first) };
        // A tap that reaches no output has no sum.
        gw.fill(0.0);
        let (kernels, lanes) = (kernels_of(self.isa), self.lanes.lanes);
        let mut scratch = self.scratch.take();
        let Scratch { regions, of_key } = &mut *scratch;
        let mut sums = Sums::take(weights.len() * lanes);
        let sums = sums.as_mut_slice();
        let bands = self.bands.count();
        // With one band of whole maps each weight's pixels are one rectangle, at which its sums start.
        let fresh = bands == 1 && self.plan.one_rectangle;
        if !fresh {
            sums.fill(0.0);
        }
        for index in 0..bands {
            let band = self.bands.get(index);
            self.reach(&band, fresh, regions, of_key);
            for channels in 0..one.strips.len() {
                for strip in units.iter().flat_map(|unit| &self.plan.strips[unit.strips[channels].clone()]) {
                    let sums =
                        &mut sums[(strip.weights.start - weights.start) * lanes..][..strip.weights.len() * lanes];
                    for region in &regions[of_key[strip.key].clone()] {
                        self.add(&kernels, strip, region, x, gy, sums);
                    }
                }
            }
        }
        let mut totals = [0.0; 16];
        for (ranks, sums) in self.plan.ranks[weights].chunks(lanes).zip(sums.chunks(lanes * lanes)) {
            // SAFETY: the processor was asserted in `run`; there is a vector of sums per weight, and no vector has more lanes
            // than there are totals.
            unsafe { (kernels.add_lanes)(sums.as_ptr(), ranks.len(), totals.as_mut_ptr()) };
            for (rank, total) in ranks.iter().zip(&totals) {
                gw[*rank as usize - first] = *total;
            }
        }
    }

    /// Finds what every key reaches of a band.
    fn reach(&self, band: &Band, fresh: bool, regions: &mut Vec<Region>, of_key: &mut Vec<Range<usize>>) {
        regions.clear();
        of_key.clear();
        for Key { rows, cols } in &self.plan.keys {
            let first = regions.len();
            let cols = common(cols, &band.cols);
            let mut reached = |rows: &Range<usize>, kernel_rows: &Range<usize>| {
                let rows = common(rows, &band.rows);
                if !rows.is_empty() && !cols.is_empty() {
                    let rect = self.rect(band, &rows, &cols, fresh);
                    regions.push(Region { rect, kernel_rows: kernel_rows.clone() });
                }
            };
            match rows {
                Some(rows) => reached(rows, &(0..self.geometry.kernel[0])),
                None => self.plan.row_parts.iter().for_each(|(rows, kernel_rows)| reached(rows, kernel_rows)),
            }
            of_key.push(first..regions.len());
        }
    }

    /// Output pixels of a band's blocks, and the input pixels that a tap without an offset would multiply them with.
    fn rect(&self, band: &Band, rows: &Range<usize>, cols: &Range<usize>, fresh: bool) -> Rect {
        let (gy_steps, x_steps) = steps(&self.geometry, self.lanes.lanes);
        let first = |steps: Steps| band.block * steps.block + rows.start * steps.row + cols.start * steps.pixel;
        let (gy, x) = (first(gy_steps), first(x_steps));
        let (blocks, rows, cols) = (band.blocks, rows.len(), cols.len());
        Rect { blocks, rows, cols, gy_steps, x_steps, gy, x, sums: 0, fresh }.simplified()
    }

    /// Adds a region to the sums of those weights of a strip that reach it.
    fn add(&self, kernels: &Kernels, strip: &Strip, region: &Region, x: &[f32], gy: &[f32], sums: &mut [f32]) {
        let (plan, lanes) = (&self.plan, self.lanes.lanes);
        let Some(weights) = strip.reaching(&plan.kernel_rows, &region.kernel_rows) else { return };
        let first = weights.start - strip.weights.start;
        let sums = &mut sums[first * lanes..(first + weights.len()) * lanes];
        let gy_at = &plan.gy_at[strip.gy_at..];
        let gy_at = if strip.shared { &gy_at[..1] } else { &gy_at[first..first + weights.len()] };
        // SAFETY: the processor was asserted in `run`, as were the lengths of `x` and `gy`. Blocks of the band and channels of the
        // plan exist; the region has only outputs that the taps of its kernel rows and of its key's columns reach, so the
        // pixels they read exist as well. There is a vector of sums per weight.
        unsafe {
            (kernels.add_bundle)(&region.rect, gy.as_ptr(), x.as_ptr(), gy_at, &plan.x_at[weights], sums.as_mut_ptr());
        };
    }
}

/// Output pixels of a band.
fn band_pixels(geometry: &ConvGeometry, lanes: usize) -> usize {
    let [height, width] = geometry.output;
    let vector = lanes * size_of::<f32>();
    let input = |rows: usize| {
        let span = (rows - 1) * geometry.stride[0] + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1;
        geometry.in_channels * span.min(geometry.input[0]) * geometry.input[1] * vector
    };
    let fits = |rows: &usize| input(*rows) <= SECOND_LEVEL && rows * width * vector <= FIRST_LEVEL;
    let rows = (2..=height).take_while(fits).last().unwrap_or(1);
    if rows == height {
        let maps = (SECOND_LEVEL / input(rows)).min(FIRST_LEVEL / (rows * width * vector));
        return rows * width * maps.max(1);
    }
    (rows * width).min(FIRST_LEVEL / vector)
}
