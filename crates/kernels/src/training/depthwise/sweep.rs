//! Which taps reach which pixel, worked out once: per row, and per run of columns that the same taps reach.

use super::super::ConvGeometry;

/// The taps along one axis that reach one pixel of what is written, in ascending order, and what they read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taps {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    /// What the first tap reads; the others read `source_step` further each.
    pub source: usize,
    pub source_step: isize,
}

impl Taps {
    /// Taps and what they read, both in equal steps.
    fn of(pairs: &[(usize, usize)]) -> Self {
        let [(first, source), rest @ ..] = pairs else { return Self::default() };
        let (step, source_step) =
            rest.first().map_or((1, 1), |(tap, next)| (tap - first, *next as isize - *source as isize));
        Self { first: *first, step, count: pairs.len(), source: *source, source_step }
    }

    /// What tap number `i` of them reads.
    #[inline(always)]
    pub fn source_of(&self, i: usize) -> usize {
        self.source.wrapping_add_signed(i as isize * self.source_step)
    }

    /// Tap number `i` of them.
    #[inline(always)]
    pub fn tap(&self, i: usize) -> usize {
        self.first + i * self.step
    }
}

/// Columns that follow each other in steps and are reached by the same taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first column that is written.
    pub to: usize,
    pub to_step: usize,
    pub columns: usize,
    /// The taps that reach it; those of the next column read `advance` further.
    pub taps: Taps,
    pub advance: usize,
}

/// Every row and every run of columns of one plane.
#[derive(Debug)]
pub(super) struct Sweep {
    pub rows: Vec<Taps>,
    pub runs: Vec<Run>,
}

impl Sweep {
    /// Outputs reading inputs.
    pub fn forward(g: &ConvGeometry) -> Self {
        let taps = |axis: usize| -> Vec<Taps> {
            let reads = |o: usize, k: usize| {
                let at = (o * g.stride[axis] + k * g.dilation[axis]).checked_sub(g.pads[axis])?;
                (at < g.input[axis]).then_some((k, at))
            };
            let of = |o: usize| (0..g.kernel[axis]).filter_map(|k| reads(o, k)).collect::<Vec<_>>();
            (0..g.output[axis]).map(|o| Taps::of(&of(o))).collect()
        };
        Self { rows: taps(0), runs: runs(&taps(1), 1, g.stride[1]) }
    }

    /// Inputs whose gradient is read off those of outputs.
    pub fn backward(g: &ConvGeometry) -> Self {
        let taps = |axis: usize| -> Vec<Taps> {
            let reads = |i: usize, k: usize| {
                let at = (i + g.pads[axis]).checked_sub(k * g.dilation[axis])?;
                let o = at / g.stride[axis];
                (at.is_multiple_of(g.stride[axis]) && o < g.output[axis]).then_some((k, o))
            };
            let of = |i: usize| (0..g.kernel[axis]).filter_map(|k| reads(i, k)).collect::<Vec<_>>();
            (0..g.input[axis]).map(|i| Taps::of(&of(i))).collect()
        };
        Self { rows: taps(0), runs: runs(&taps(1), g.stride[1], 1) }
    }
}

/// Every `to_step`-th column is reached by the same taps, `advance` further, but near the borders.
fn runs(columns: &[Taps], to_step: usize, advance: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for phase in 0..to_step.min(columns.len()) {
        let mut last: Option<Run> = None;
        for to in (phase..columns.len()).step_by(to_step) {
            let taps = columns[to];
            let follows = |run: &Run| {
                let source = run.taps.source + if taps.count > 0 { run.columns * advance } else { 0 };
                Taps { source, ..run.taps } == taps
            };
            match &mut last {
                Some(run) if follows(run) => run.columns += 1,
                _ => runs.extend(last.replace(Run { to, to_step, columns: 1, taps, advance })),
            }
        }
        runs.extend(last);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_padded_layer_is_its_two_borders_and_what_lies_between() {
        let g = ConvGeometry {
            groups: 2,
            in_channels: 2,
            out_channels: 2,
            input: [1, 9],
            output: [1, 9],
            kernel: [1, 3],
            stride: [1, 1],
            pads: [0, 1],
            dilation: [1, 1],
        };
        let columns = |sweep: Sweep| -> Vec<_> {
            sweep.runs.iter().map(|r| (r.to, r.columns, r.taps.count, r.taps.source, r.taps.source_step)).collect()
        };
        assert_eq!(columns(Sweep::forward(&g)), [(0, 1, 2, 0, 1), (1, 7, 3, 0, 1), (8, 1, 2, 7, 1)]);
        assert_eq!(columns(Sweep::backward(&g)), [(0, 1, 2, 1, -1), (1, 7, 3, 2, -1), (8, 1, 2, 8, -1)]);
        let g = ConvGeometry { output: [1, 5], stride: [1, 2], ..g };
        assert_eq!(columns(Sweep::forward(&g)), [(0, 1, 2, 0, 1), (1, 3, 3, 1, 1), (4, 1, 2, 7, 1)]);
        // even columns see the middle tap, odd ones the two others
        assert_eq!(columns(Sweep::backward(&g)), [(0, 5, 1, 0, 1), (1, 4, 2, 1, -1)]);
    }
}
