//! Dense weights in the order the tiles read them.

use std::ops::Range;

use super::Kernels;
use crate::conv::ConvGeometry;

/// Groups of equally many outputs, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Outputs per group.
    pub outputs: usize,
    /// First output.
    pub first: usize,
    /// Number of groups.
    pub groups: usize,
    /// Channel group of the convolution.
    pub channels: usize,
}

/// Outputs that one unit of work computes.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub outputs: Range<usize>,
    pub runs: Vec<Run>,
    /// Where the weights of the first run begin, by block.
    pub starts: Vec<usize>,
}

/// Weights by block of input channels, segment, run, group, entry and output.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    pub segments: Vec<Segment>,
    pub weights: Vec<f32>,
}

impl Panels {
    /// * `weights`: as the geometry says, outputs first.
    /// * `outputs`: of a group, at most; one of the kernel's shapes.
    /// * `per_block`: input channels of a block.
    /// * `segments`: wanted at least, as far as there are groups.
    pub fn new(
        kernels: &Kernels,
        geometry: &ConvGeometry,
        weights: &[f32],
        outputs: usize,
        per_block: usize,
        segments: usize,
    ) -> Self {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let inputs = geometry.in_channels / geometry.groups;
        let mut panels =
            Self { segments: cut(kernels, geometry, outputs, segments), weights: Vec::with_capacity(weights.len()) };
        for first in (0..inputs).step_by(per_block) {
            let channels = first..(first + per_block).min(inputs);
            for segment in &mut panels.segments {
                segment.starts.push(panels.weights.len());
                for run in &segment.runs {
                    for group in 0..run.groups {
                        for entry in channels.start * taps..channels.end * taps {
                            let at = |g: usize| (run.first + group * run.outputs + g) * inputs * taps + entry;
                            panels.weights.extend((0..run.outputs).map(|g| weights[at(g)]));
                        }
                    }
                }
            }
        }
        panels
    }
}

/// Segments with about as many outputs each, cut between full groups and between the channel groups of the convolution.
fn cut(kernels: &Kernels, geometry: &ConvGeometry, outputs: usize, wanted: usize) -> Vec<Segment> {
    let of_channels = geometry.out_channels / geometry.groups;
    let per_segment = geometry.out_channels.div_ceil(wanted.max(1)).next_multiple_of(outputs);
    let mut segments: Vec<Segment> = Vec::new();
    for channels in 0..geometry.groups {
        let end = (channels + 1) * of_channels;
        let mut first = channels * of_channels;
        while first < end {
            let fresh = segments.last().is_none_or(|segment| segment.outputs.len() >= per_segment);
            if fresh {
                segments.push(Segment { outputs: first..first, runs: Vec::new(), starts: Vec::new() });
            }
            let segment = segments.last_mut().expect("there is one now");
            let room = (per_segment - segment.outputs.len()).min(end - first);
            let mut sizes = kernels.shapes.iter().map(|(size, _)| *size).filter(|size| *size <= outputs);
            let size = sizes.find(|size| *size <= room).expect("there are groups of one output");
            let groups = room / size;
            segment.runs.push(Run { outputs: size, first, groups, channels });
            first += groups * size;
            segment.outputs.end = first;
        }
    }
    segments
}
