//! Where the padded copy of a plane lies in scratch memory, and at which offset each tap finds its pixels there.

use std::ops::Range;

use super::MOST_TAPS;
use crate::conv::ConvGeometry;
use crate::{Isa, KernelError, LINE, Map};

/// Elements of padded planes that are copied before they are folded: half of a small first-level cache. Several small planes
/// are copied together, so that their stores have left the store buffer when they are loaded at other alignments.
const COPIED: usize = 4096;

/// Larger planes have two bands at least, for threads to share. One pass over 192 planes of 28x28 with the 1x1 convolution behind it took two threads 122 us by
/// rows and 109 by planes (165 one thread); over 128 of 56x56 they gain 1.87 by rows.
const WHOLE_PLANES: usize = 64 * LINE;

/// Planes copied together, at most.
const MOST_TOGETHER: usize = 16;

/// Sizes and offsets of one layer; everything that does not depend on weights.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub isa: Isa,
    pub input: Map,
    pub output: Map,
    /// What padding holds.
    pub padding: f32,
    /// Vertical and horizontal step; there are `stride[0] * stride[1]` phases, row phase first.
    pub stride: [usize; 2],
    /// Rows of padding above the input.
    pub top: usize,
    /// Columns of padding left of the input.
    pub left: usize,
    /// Padded rows from the first to the last that one output row reads.
    pub span: usize,
    /// Per column phase: which elements of a row hold pixels; the others are padding.
    pub columns: Vec<[usize; 2]>,
    /// Elements from one row of a phase to the next. The padding at the right of a row is the padding at the left of the next.
    pub pitch: usize,
    /// Elements from one phase to the next.
    pub phase_len: usize,
    /// Element 0 of the first row; the rows' main tap is then aligned.
    pub origin: usize,
    /// Elements of one copied band.
    pub copy_len: usize,
    /// Output rows of one band; a unit is a band of a group of channels.
    pub band: usize,
    /// Channels of one group, copied together.
    pub together: usize,
    /// Runs of vertically neighbouring taps.
    pub runs: Vec<Run>,
    /// The taps (`ky * kernel width + kx`) in the order in which they are folded.
    pub order: Vec<usize>,
}

/// `count` taps whose pixels lie one `pitch` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// From an output pixel's position (`row * pitch + column`) to the first tap's pixel.
    pub offset: usize,
    /// 1 to [`MOST_TAPS`].
    pub count: usize,
}

impl Window {
    /// Plans the layer `geometry`, one group per channel, between two maps.
    ///
    /// # Errors
    /// A geometry that is not depthwise or does not fit its maps, see [`KernelError`].
    pub fn plan(isa: Isa, geometry: &ConvGeometry, input: Map, output: Map, padding: f32) -> Result<Self, KernelError> {
        let isa = isa.or_portable();
        geometry.validate()?;
        let (channels, groups) = (geometry.in_channels, geometry.groups);
        for (what, found) in [("input channels", channels), ("output channels", geometry.out_channels)] {
            if found != groups {
                return Err(KernelError::Groups { what, channels: found, groups });
            }
        }
        let [out_height, out_width] = [geometry.out_height(), geometry.out_width()];
        check_slabs("input", Map::tight(channels, geometry.in_height, geometry.in_width), input)?;
        check_slabs("output", Map::tight(channels, out_height, out_width), Map { edges: 0, ..output })?;
        if output.edges > 0 {
            return Err(KernelError::Map { what: "output", expected: Map { edges: 0, ..output }, found: output });
        }

        let ([kh, kw], stride, [dh, dw]) = (geometry.kernel, geometry.stride, geometry.dilation);
        let [top, left, ..] = geometry.pads;
        // Elements of a phase's row that valid output pixels read.
        let reach = (kw - 1) * dw / stride[1];
        let read = out_width + reach;
        let columns: Vec<[usize; 2]> = (0..stride[1])
            .map(|phase| {
                let first = |column: usize| column.saturating_sub(phase).div_ceil(stride[1]).min(read);
                [first(left), first(left + input.width)]
            })
            .collect();
        let (least, most) = columns.iter().fold((usize::MAX, 0), |(a, b), [from, to]| (a.min(*from), b.max(*to)));
        let lanes = isa.lanes();
        let pitch = most.max(read - least).next_multiple_of(lanes);
        // Without a horizontal stride the tap over the pixel itself is aligned, else the first one.
        let lead = if stride[1] == 1 { columns[0][0] } else { 0 };
        let origin = lead.next_multiple_of(LINE) - lead;
        let span = (kh - 1) * dh;
        let size = |band: usize| {
            let rows = ((band - 1) * stride[0] + span + 1).div_ceil(stride[0]);
            // A vector behind every phase, for what its last row spills.
            let phase_len = rows.checked_mul(pitch)?.checked_add(lanes)?;
            let phases = phase_len.checked_mul(stride[0])?.checked_mul(stride[1])?;
            let copy_len = phases.checked_add(origin + reach + out_width.max(lanes))?.next_multiple_of(LINE);
            (copy_len <= i32::MAX as usize).then_some((phase_len, copy_len))
        };
        let fits = |band: usize| size(band).is_some_and(|(_, copy_len)| copy_len <= COPIED);
        let height = output.slab_height();
        let most_rows = (1..=height).rev().find(|band| *band <= super::MOST_ROWS || fits(*band)).unwrap_or(1);
        // threads share large planes from top to bottom, as convolutions do
        let shared = output.slabs == 1 && height > super::MOST_ROWS && output.pixels() > WHOLE_PLANES;
        let band = height.div_ceil(height.div_ceil(most_rows).max(if shared { 2 } else { 1 }));
        let Some((phase_len, copy_len)) = size(band) else {
            return Err(KernelError::TooLarge { what: "the padded input" });
        };
        let together = (COPIED / copy_len).clamp(1, MOST_TOGETHER).min(channels);

        let (mut runs, mut order) = (vec![], vec![]);
        for kx in 0..kw {
            for row_phase in 0..stride[0] {
                let taps = (0..kh).filter(|ky| ky * dh % stride[0] == row_phase);
                let rows: Vec<(usize, usize)> = taps.map(|ky| (ky * dh / stride[0], ky * kw + kx)).collect();
                let phase = row_phase * stride[1] + kx * dw % stride[1];
                for neighbours in rows.chunk_by(|a, b| a.0 + 1 == b.0) {
                    let parts = neighbours.len().div_ceil(MOST_TAPS);
                    for run in neighbours.chunks(neighbours.len().div_ceil(parts)) {
                        let offset = phase * phase_len + run[0].0 * pitch + kx * dw / stride[1];
                        runs.push(Run { offset, count: run.len() });
                        order.extend(run.iter().map(|(_, tap)| *tap));
                    }
                }
            }
        }
        Ok(Self {
            isa,
            input,
            output,
            padding,
            stride,
            top,
            left,
            span,
            columns,
            pitch,
            phase_len,
            origin,
            copy_len,
            band,
            together,
            runs,
            order,
        })
    }

    /// Bands times groups of channels.
    pub fn units(&self) -> usize {
        self.output.slabs * self.bands() * self.groups()
    }

    /// Of one slab of the output.
    fn bands(&self) -> usize {
        self.output.slab_height().div_ceil(self.band)
    }

    fn groups(&self) -> usize {
        self.output.channels.div_ceil(self.together)
    }

    /// Slab of a unit, and its output rows there: slabs and bands follow each other from top to bottom.
    pub fn unit_rows(&self, unit: usize) -> (usize, Range<usize>) {
        let band = unit / self.groups();
        let first = band % self.bands() * self.band;
        (band / self.bands(), first..self.output.slab_height().min(first + self.band))
    }

    /// See [`crate::Layer::halo`].
    pub fn halo(&self) -> usize {
        self.top.max((self.span + 1).saturating_sub(self.top + self.stride[0]))
    }

    /// Channels of a unit.
    pub fn unit_channels(&self, unit: usize) -> Range<usize> {
        let first = unit % self.groups() * self.together;
        first..self.output.channels.min(first + self.together)
    }

    /// About as much as the unit takes, in rows of planes.
    pub fn unit_cost(&self, unit: usize) -> u64 {
        (self.unit_rows(unit).1.len() * self.unit_channels(unit).len()) as u64
    }

    /// Elements of scratch memory, including what aligning its start may skip.
    pub fn scratch_len(&self) -> usize {
        self.together * self.copy_len + LINE
    }
}

/// Checks that `found` has the sizes of `expected`, lies in one slab, and has planes that do not overlap.
pub(crate) fn check_map(what: &'static str, expected: Map, found: Map) -> Result<(), KernelError> {
    if !found.is_whole() {
        return Err(KernelError::Map { what, expected, found });
    }
    check_slabs(what, expected, found)
}

/// As [`check_map`], for any number of slabs.
pub(crate) fn check_slabs(what: &'static str, expected: Map, found: Map) -> Result<(), KernelError> {
    let same = Map { stride: expected.stride, slabs: 1, edges: 0, ..found } == expected;
    let rows = found.stride.checked_add(2 * found.edges.min(found.height) * found.width);
    let len = rows.and_then(|rows| found.channels.checked_mul(rows)?.checked_mul(found.slabs));
    let fits =
        same && found.slabs > 0 && found.height.is_multiple_of(found.slabs) && found.edges <= found.slab_height();
    if fits
        && found.stride >= found.slab_height() * found.width
        && len.is_some_and(|len| len <= isize::MAX as usize / 4)
    {
        return Ok(());
    }
    Err(KernelError::Map { what, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(geometry: ConvGeometry) -> Window {
        let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
        let output = Map::aligned(geometry.out_channels, geometry.out_height(), geometry.out_width());
        Window::plan(Isa::Scalar, &geometry, input, output, 0.0).unwrap()
    }

    #[test]
    fn rows_share_their_padding_and_columns_of_taps_are_runs() {
        let window = plan(ConvGeometry { pads: [1; 4], groups: 3, ..ConvGeometry::new(3, [7, 7], 3, [3, 3]) });
        assert_eq!((window.pitch, window.origin, &window.columns[..]), (8, 15, &[[1, 8]][..]));
        assert_eq!(window.runs, [0, 1, 2].map(|offset| Run { offset, count: 3 }));
        assert_eq!(window.order, [0, 3, 6, 1, 4, 7, 2, 5, 8]);
        assert_eq!((window.band, window.together, window.units()), (7, 3, 1));
    }

    #[test]
    fn a_stride_of_two_has_four_phases() {
        let pads = [0, 1, 1, 0];
        let window = plan(ConvGeometry { pads, stride: [2, 2], groups: 1, ..ConvGeometry::new(1, [8, 8], 1, [3, 3]) });
        // column 0 is padding: phase 0 holds padding and pixels 1, 3, 5, 7, phase 1 pixels 0, 2, 4, 6
        assert_eq!((window.pitch, &window.columns[..]), (8, &[[1, 5], [0, 4]][..]));
        let rows = window.phase_len;
        assert_eq!(rows, 5 * 8 + 8);
        let run = |offset, count| Run { offset, count };
        let expected = [run(0, 2), run(2 * rows, 1), run(rows, 2), run(3 * rows, 1), run(1, 2), run(2 * rows + 1, 1)];
        assert_eq!(window.runs, expected);
    }

    #[test]
    fn large_planes_are_cut_into_bands_that_fit() {
        let window = plan(ConvGeometry { pads: [1; 4], groups: 2, ..ConvGeometry::new(2, [112, 112], 2, [3, 3]) });
        assert!(window.band >= 16 && window.copy_len <= COPIED && window.together == 1);
    }

    #[test]
    fn a_huge_stride_is_refused_before_memory_is_taken() {
        let geometry =
            ConvGeometry { stride: [20_000, 20_000], groups: 1, ..ConvGeometry::new(1, [20, 20], 1, [3, 3]) };
        let error = Window::plan(Isa::Scalar, &geometry, Map::tight(1, 20, 20), Map::tight(1, 1, 1), 0.0);
        assert_eq!(error.unwrap_err(), KernelError::TooLarge { what: "the padded input" });
    }

    #[test]
    fn other_maps_and_other_groups_are_named() {
        let geometry = ConvGeometry { groups: 2, ..ConvGeometry::new(4, [3, 3], 4, [3, 3]) };
        let (input, output) = (Map::tight(4, 3, 3), Map::tight(4, 1, 1));
        let error = |geometry: &ConvGeometry, input, output| {
            Window::plan(Isa::Scalar, geometry, input, output, 0.0).unwrap_err()
        };
        let groups = KernelError::Groups { what: "input channels", channels: 4, groups: 2 };
        assert_eq!(error(&geometry, input, output), groups);
        let geometry = ConvGeometry { groups: 4, ..geometry };
        let short = Map { stride: 8, ..input };
        assert_eq!(error(&geometry, short, output), KernelError::Map { what: "input", expected: input, found: short });
        let wide = Map::tight(4, 1, 2);
        assert_eq!(error(&geometry, input, wide), KernelError::Map { what: "output", expected: output, found: wide });
    }
}
