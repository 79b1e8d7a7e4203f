//! One plane out of another: forward and the gradient of the input, which differ in who reads what.

use super::super::ConvGeometry;
use super::super::gradient::Sink;
use super::super::planes::Planes;
use super::super::simd::{Kernel, Simd};
use super::sweep::{Run, Sweep, Taps};

/// What a plane is made of.
#[derive(Clone, Copy)]
pub(super) enum Sources<'a> {
    /// An output, of the input channel it belongs to.
    Forward {
        /// Output channels per input channel.
        multiplier: usize,
        bias: Option<&'a [f32]>,
    },
    /// The gradient of an input, of all output channels that read it.
    Backward { multiplier: usize },
}

pub(super) struct Sweeping<'a> {
    pub sweep: &'a Sweep,
    pub geometry: &'a ConvGeometry,
    /// The lengths of what is read.
    pub from: Planes,
    /// The lengths of what is written.
    pub to: Planes,
    pub source: &'a [f32],
    pub weights: &'a [f32],
    pub sources: Sources<'a>,
    pub to_sink: Sink<'a>,
}

impl Kernel for Sweeping<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        for plane in self.to.planes_of(task) {
            let (block, c) = (plane / self.to.channels, plane % self.to.channels);
            // SAFETY: this plane belongs to this task alone.
            let to = unsafe { self.to_sink.to.part(plane * self.to.plane(), self.to.plane()) };
            let (mut start, outputs) = match self.sources {
                Sources::Forward { bias, .. } => (Some(bias.map_or(0.0, |bias| bias[c])), c..c + 1),
                Sources::Backward { multiplier } => {
                    ((!self.to_sink.accumulate).then_some(0.0), c * multiplier..(c + 1) * multiplier)
                }
            };
            for o in outputs {
                let channel = match self.sources {
                    Sources::Forward { multiplier, .. } => o / multiplier,
                    Sources::Backward { .. } => o,
                };
                self.plane(s, start, self.from.at(block, channel), o, to);
                // what follows is added to what is there now
                start = None;
            }
        }
    }
}

/// What all tiles of a row share.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// What every sum starts with; none: what is there.
    start: Option<f32>,
    /// One plane.
    source: &'a [f32],
    /// Numbers of a row of it.
    pitch: usize,
    /// The taps down.
    taps: Taps,
    /// `[kh, kw]`.
    weights: &'a [f32],
    /// Columns of the kernel.
    width: usize,
}

impl Sweeping<'_> {
    /// Adds the taps of output channel `o` to one plane, from the plane that starts at `source`.
    #[inline(always)]
    fn plane<S: Simd>(&self, s: S, start: Option<f32>, source: usize, o: usize, to: &mut [f32]) {
        let [height, width] = self.geometry.kernel;
        let read_width = if matches!(self.sources, Sources::Forward { .. }) {
            self.geometry.input[1]
        } else {
            self.geometry.output[1]
        };
        let pitch = read_width * S::LANES;
        let written = to.len() / self.sweep.rows.len();
        let weights = &self.weights[o * height * width..][..height * width];
        let source = &self.source[source..][..self.from.plane()];
        for (taps, to) in self.sweep.rows.iter().zip(to.chunks_exact_mut(written)) {
            let row = Row { start, source, pitch, taps: *taps, weights, width };
            for run in &self.sweep.runs {
                match (run.taps.count, run.advance, run.taps.source_step) {
                    (1, 1, _) => row.run::<S, 1, 1, 1>(s, run, to),
                    (2, 1, 1) => row.run::<S, 2, 1, 1>(s, run, to),
                    (3, 1, 1) => row.run::<S, 3, 1, 1>(s, run, to),
                    (2, 2, 1) => row.run::<S, 2, 2, 1>(s, run, to),
                    (3, 2, 1) => row.run::<S, 3, 2, 1>(s, run, to),
                    (2, 1, -1) => row.run::<S, 2, 1, -1>(s, run, to),
                    (3, 1, -1) => row.run::<S, 3, 1, -1>(s, run, to),
                    _ => row.any(s, run, to),
                }
            }
        }
    }
}

impl Row<'_> {
    /// One run of columns that `N` taps reach, each of which reads `STEP` further than the one before; columns advance by `ADVANCE`.
    #[inline(always)]
    fn run<S: Simd, const N: usize, const ADVANCE: usize, const STEP: isize>(self, s: S, run: &Run, to: &mut [f32]) {
        let mut column = 0;
        while run.columns - column >= 8 && S::TILE >= 8 {
            self.tile::<S, 8, N, ADVANCE, STEP>(s, run, column, to);
            column += 8;
        }
        while run.columns - column >= 4 {
            self.tile::<S, 4, N, ADVANCE, STEP>(s, run, column, to);
            column += 4;
        }
        if run.columns - column >= 2 {
            self.tile::<S, 2, N, ADVANCE, STEP>(s, run, column, to);
            column += 2;
        }
        if run.columns > column {
            self.tile::<S, 1, N, ADVANCE, STEP>(s, run, column, to);
        }
    }

    /// `T` columns of a run, from its column `column` on.
    #[inline(always)]
    fn tile<S: Simd, const T: usize, const N: usize, const ADVANCE: usize, const STEP: isize>(
        self,
        s: S,
        run: &Run,
        column: usize,
        to: &mut [f32],
    ) {
        let to = &mut to[(run.to + column * run.to_step) * S::LANES..];
        let place = run.to_step * S::LANES;
        let mut sums = [s.splat(self.start.unwrap_or(0.0)); T];
        if self.start.is_none() {
            for t in 0..T {
                sums[t] = s.load(&to[t * place..]);
            }
        }
        // the leftmost column that is read
        let left = run.taps.source + column * ADVANCE - if STEP < 0 { N - 1 } else { 0 };
        for i in 0..self.taps.count {
            let from = self.taps.source_of(i) * self.pitch + left * S::LANES;
            let source = &self.source[from..][..((T - 1) * ADVANCE + N) * S::LANES];
            let weights = &self.weights[self.taps.tap(i) * self.width + run.taps.first..];
            for n in 0..N {
                let weight = s.splat(weights[n * run.taps.step]);
                let first = if STEP < 0 { N - 1 - n } else { n };
                for t in 0..T {
                    sums[t] = s.fma(weight, s.load(&source[(t * ADVANCE + first) * S::LANES..]), sums[t]);
                }
            }
        }
        for t in 0..T {
            s.store(&mut to[t * place..], sums[t]);
        }
    }

    /// Any run, pixel by pixel.
    #[inline(always)]
    fn any<S: Simd>(self, s: S, run: &Run, to: &mut [f32]) {
        for column in 0..run.columns {
            let to = &mut to[(run.to + column * run.to_step) * S::LANES..];
            let mut sum = match self.start {
                Some(start) => s.splat(start),
                None => s.load(to),
            };
            for i in 0..self.taps.count {
                let source = &self.source[self.taps.source_of(i) * self.pitch..];
                let weights = &self.weights[self.taps.tap(i) * self.width..];
                for n in 0..run.taps.count {
                    let read = run.taps.source_of(n) + column * run.advance;
                    sum = s.fma(s.splat(weights[run.taps.tap(n)]), s.load(&source[read * S::LANES..]), sum);
                }
            }
            s.store(to, sum);
        }
    }
}
