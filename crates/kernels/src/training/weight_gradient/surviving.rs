//! Gradients of the weights that pruning left.

use std::ops::Range;

use super::bands::{Band, Bands, common};
use super::dense::steps;
use super::kernels::{checked, kernels_of};
use super::plan::{Key, Plan, Strip};
use super::scratch::Pool;
use super::tiles::Bundle;
use crate::gemv::Lines;
use crate::team::Team;
use crate::training::{ConvGeometry, Lanes, Output, tasks};
use crate::{Isa, KernelError};

/// Bytes of input that a band should have, so that they stay in the second-level cache from output to output.
const SECOND_LEVEL: usize = 768 << 10;
/// Bytes of one output channel's gradient in a band: what of the first-level cache is for it.
const FIRST_LEVEL: usize = 16 << 10;
/// Pixels of a map below which a band has several blocks, so that a weight's tap has to fit in all of them.
const SMALL: usize = 48;

/// Computes the gradient of the weights of a convolution that are kept; those of the others are 0.
#[derive(Debug)]
pub struct SurvivingWeightGradient {
    isa: Isa,
    geometry: ConvGeometry,
    lanes: Lanes,
    bands: Bands,
    plan: Plan,
    scratch: Pool<Scratch>,
}

/// What a task needs.
#[derive(Debug)]
struct Scratch {
    /// A vector per weight.
    sums: Lines<f32>,
    /// What the keys reach of a band.
    regions: Vec<Region>,
    /// Which of them are those of each key.
    of_key: Vec<Range<usize>>,
}

/// Output pixels of a band, and rows of the kernel that reach them.
#[derive(Clone, Debug)]
struct Region {
    rows: Range<usize>,
    cols: Range<usize>,
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
        if u32::try_from(keep.len()).is_err() {
            return Err(KernelError::TooLarge { what: "the weights" });
        }
        let several_blocks = geometry.out_plane() < SMALL || Plan::reach_alike(&geometry);
        let pixels = band_pixels(&geometry, lanes.lanes);
        let pixels = if several_blocks { pixels } else { pixels.min(geometry.out_plane()) };
        let bands = Bands::new(&geometry, lanes, pixels);
        let plan = Plan::new(&geometry, lanes.lanes, keep, several_blocks);
        let largest = plan.tasks.iter().map(|task| task.weights.len()).max().unwrap_or(0);
        let keys = plan.keys.len();
        let scratch = Pool::new(plan.tasks.len(), || Scratch {
            sums: Lines::zeros(largest * lanes.lanes),
            regions: Vec::with_capacity(keys * (2 * geometry.kernel[0] + 1)),
            of_key: Vec::with_capacity(keys),
        });
        Ok(Self { isa, geometry, lanes, bands, plan, scratch })
    }

    /// Computes `gw`, whatever was there before; see [`super::WeightGradient::run`], whose bits the kept weights' gradients have.
    ///
    /// # Panics
    /// When a length is wrong or this processor lacks the instructions.
    pub fn run(&self, team: &Team, x: &[f32], gy: &[f32], gw: &mut [f32]) {
        let g = &self.geometry;
        assert!(self.isa.runs_here(), "{} cannot run on this CPU", self.isa.name());
        assert_eq!(x.len(), self.lanes.len(g.in_channels * g.in_plane()), "length of the input");
        assert_eq!(gy.len(), self.lanes.len(g.out_channels * g.out_plane()), "length of the output's gradient");
        assert_eq!(gw.len(), g.weights(), "length of the weights' gradient");
        let gw = Output::new(gw);
        tasks(team, self.plan.tasks.len(), |task| self.run_task(task, x, gy, gw));
    }

    fn run_task(&self, task: usize, x: &[f32], gy: &[f32], gw: Output<'_>) {
        let task = &self.plan.tasks[task];
        let patch = self.geometry.patch();
        let first = task.outputs.start * patch;
        // SAFETY: no other task has these outputs.
        let gw = unsafe { gw.part(first, task.outputs.len() * patch) };
        gw.fill(0.0);
        let lanes = self.lanes.lanes;
        let mut scratch = self.scratch.take();
        let Scratch { sums, regions, of_key } = &mut *scratch;
        let sums = &mut sums.as_mut_slice()[..task.weights.len() * lanes];
        let bands = self.bands.count();
        // With one band of whole maps each weight's pixels are one rectangle, at which its sums start.
        let fresh = bands == 1 && self.plan.one_rectangle;
        if !fresh {
            sums.fill(0.0);
        }
        for index in 0..bands {
            let band = self.bands.get(index);
            self.reach(&band, regions, of_key);
            for strip in &self.plan.strips[task.strips.clone()] {
                for region in &regions[of_key[strip.key].clone()] {
                    self.add(
                        strip,
                        region,
                        &band,
                        x,
                        gy,
                        &mut sums[(strip.weights.start - task.weights.start) * lanes..],
                        fresh,
                    );
                }
            }
        }
        let add_lanes = kernels_of(self.isa).add_lanes;
        let mut totals = [0.0; 16];
        for (positions, sums) in self.plan.positions[task.weights.clone()].chunks(lanes).zip(sums.chunks(lanes * lanes))
        {
            // SAFETY: the processor was asserted in `run`; there is a vector of sums per weight, and no vector has more lanes
            // than there are totals.
            unsafe { add_lanes(sums.as_ptr(), positions.len(), totals.as_mut_ptr()) };
            for (position, total) in positions.iter().zip(totals) {
                gw[*position as usize - first] = total;
            }
        }
    }

    /// Finds what every key reaches of a band.
    fn reach(&self, band: &Band, regions: &mut Vec<Region>, of_key: &mut Vec<Range<usize>>) {
        regions.clear();
        of_key.clear();
        for Key { rows, cols } in &self.plan.keys {
            let first = regions.len();
            let cols = common(cols, &band.cols);
            match rows {
                _ if cols.is_empty() => {}
                Some(rows) => {
                    let (rows, kernel_rows) = (common(rows, &band.rows), 0..self.geometry.kernel[0]);
                    if !rows.is_empty() {
                        regions.push(Region { rows, cols, kernel_rows });
                    }
                }
                None => {
                    for (rows, kernel_rows) in &self.plan.row_parts {
                        let rows = common(rows, &band.rows);
                        if !rows.is_empty() {
                            regions.push(Region { rows, cols: cols.clone(), kernel_rows: kernel_rows.clone() });
                        }
                    }
                }
            }
            of_key.push(first..regions.len());
        }
    }

    /// Adds a region to the sums of those weights of a strip that reach it.
    #[allow(clippy::too_many_arguments, reason = "one strip of one region of one task")]
    fn add(&self, strip: &Strip, region: &Region, band: &Band, x: &[f32], gy: &[f32], sums: &mut [f32], fresh: bool) {
        let (g, plan, lanes) = (&self.geometry, &self.plan, self.lanes.lanes);
        let Some(weights) = strip.reaching(&plan.kernel_rows, &region.kernel_rows) else { return };
        let sums = &mut sums[(weights.start - strip.weights.start) * lanes..][..weights.len() * lanes];
        let (gy_steps, x_steps) = steps(g, lanes);
        let (row, col) = (region.rows.start, region.cols.start);
        let gy_first = band.block * gy_steps.block + row * gy_steps.row + col * lanes;
        let x_first = band.block * x_steps.block + row * x_steps.row + col * g.stride[1] * lanes;
        let bundle = Bundle {
            gy: gy.as_ptr().wrapping_add(gy_first),
            x: x.as_ptr().wrapping_add(x_first),
            gy_at: &plan.gy_at[weights.clone()],
            x_at: &plan.x_at[weights],
            shared: strip.shared,
            gy_steps,
            x_steps,
            x_pixel: g.stride[1] * lanes,
            blocks: band.blocks,
            rows: region.rows.len(),
            cols: region.cols.len(),
            sums: sums.as_mut_ptr(),
            fresh,
        };
        // SAFETY: the processor was asserted in `run`, as were the lengths of `x` and `gy`. Blocks of the band and channels of the
        // plan exist; the region has only outputs that the taps of its kernel rows and of its key's columns reach, so the
        // pixels they read exist as well. There is a vector of sums per weight.
        unsafe { (kernels_of(self.isa).add_bundle)(&bundle) };
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
