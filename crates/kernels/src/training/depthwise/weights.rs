//! The gradient of the weights: every sum of a channel stays in registers for a run of columns.

use super::super::planes::Planes;
use super::super::simd::{Kernel, Simd};
use super::super::{ConvGeometry, Output};
use super::sweep::{Run, Sweep, Taps};

pub(super) struct WeightGradient<'a> {
    pub sweep: &'a Sweep,
    pub geometry: &'a ConvGeometry,
    /// The lengths of the input.
    pub from: Planes,
    /// The lengths of the output.
    pub to: Planes,
    pub x: &'a [f32],
    pub gy: &'a [f32],
    pub gw: Output<'a>,
}

/// The sums of up to 3x3 weights, three to a row.
type Sums<V> = [V; 9];

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let [height, width] = self.geometry.kernel;
        // SAFETY: the weights of this channel belong to this task alone.
        let gw = unsafe { self.gw.part(task * height * width, height * width) };
        let near = self.sweep.runs.iter().all(|run| run.taps.source_step == 1 && matches!(run.advance, 1 | 2));
        if height <= 3 && width <= 3 && near {
            let mut sums: Sums<S::V> = [s.splat(0.0); 9];
            for block in 0..self.to.lanes.blocks() {
                let (x, gy) = self.planes::<S>(task, block);
                self.plane(s, x, gy, &mut sums);
            }
            for (i, gw) in gw.iter_mut().enumerate() {
                *gw = s.sum(sums[i / width * 3 + i % width]);
            }
        } else {
            for (i, gw) in gw.iter_mut().enumerate() {
                let mut sum = s.splat(0.0);
                for block in 0..self.to.lanes.blocks() {
                    let (x, gy) = self.planes::<S>(task, block);
                    sum = self.one_weight(s, x, gy, [i / width, i % width], sum);
                }
                *gw = s.sum(sum);
            }
        }
    }
}

impl WeightGradient<'_> {
    /// The planes of the input and of the output's gradient that output channel `o` is about.
    #[inline(always)]
    fn planes<S: Simd>(&self, o: usize, block: usize) -> (&[f32], &[f32]) {
        let x = &self.x[self.from.at(block, o / self.geometry.group_out())..][..self.from.plane()];
        (x, &self.gy[self.to.at(block, o)..][..self.to.plane()])
    }

    #[inline(always)]
    fn plane<S: Simd>(&self, s: S, x: &[f32], gy: &[f32], sums: &mut Sums<S::V>) {
        let pitch = self.geometry.input[1] * S::LANES;
        for (taps, gy) in self.sweep.rows.iter().zip(gy.chunks_exact(self.geometry.output[1] * S::LANES)) {
            let row = Row { x, pitch, taps: *taps, gy };
            for run in &self.sweep.runs {
                match (taps.count, run.advance) {
                    (3, 1) => row.columns::<S, 3, 1>(s, run, sums),
                    (2, 1) => row.columns::<S, 2, 1>(s, run, sums),
                    (1, 1) => row.columns::<S, 1, 1>(s, run, sums),
                    (3, 2) => row.columns::<S, 3, 2>(s, run, sums),
                    (2, 2) => row.columns::<S, 2, 2>(s, run, sums),
                    (1, 2) => row.columns::<S, 1, 2>(s, run, sums),
                    // no tap reaches this row
                    _ => {}
                }
            }
        }
    }

    /// One weight over one plane, for kernels of any size.
    #[inline(always)]
    fn one_weight<S: Simd>(&self, s: S, x: &[f32], gy: &[f32], [ky, kx]: [usize; 2], mut sum: S::V) -> S::V {
        let g = self.geometry;
        let columns = g.reached(1, kx);
        for oy in g.reached(0, ky) {
            let row = (oy * g.stride[0] + ky * g.dilation[0] - g.pads[0]) * g.input[1];
            for ox in columns.clone() {
                let column = ox * g.stride[1] + kx * g.dilation[1] - g.pads[1];
                let gy = s.load(&gy[(oy * g.output[1] + ox) * S::LANES..]);
                sum = s.fma(gy, s.load(&x[(row + column) * S::LANES..]), sum);
            }
        }
        sum
    }
}

/// One row of the output's gradient and the rows of the input that its taps read.
#[derive(Clone, Copy)]
struct Row<'a> {
    x: &'a [f32],
    pitch: usize,
    taps: Taps,
    gy: &'a [f32],
}

impl Row<'_> {
    #[inline(always)]
    fn columns<S: Simd, const R: usize, const ADVANCE: usize>(self, s: S, run: &Run, sums: &mut Sums<S::V>) {
        match run.taps.count {
            3 => self.run::<S, R, 3, ADVANCE>(s, run, sums),
            2 => self.run::<S, R, 2, ADVANCE>(s, run, sums),
            1 => self.run::<S, R, 1, ADVANCE>(s, run, sums),
            // no tap reaches these columns
            _ => {}
        }
    }

    /// One run of columns, with `R` rows of `N` taps.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const N: usize, const ADVANCE: usize>(
        self,
        s: S,
        run: &Run,
        sums: &mut Sums<S::V>,
    ) {
        let mut here = [[s.splat(0.0); N]; R];
        let place = |r: usize, n: usize| (self.taps.first + r) * 3 + run.taps.first + n;
        for r in 0..R {
            for n in 0..N {
                here[r][n] = sums[place(r, n)];
            }
        }
        let len = ((run.columns - 1) * ADVANCE + N) * S::LANES;
        let mut rows = [self.x; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &self.x[self.taps.source_of(r) * self.pitch + run.taps.source * S::LANES..][..len];
        }
        let gy = &self.gy[run.to * S::LANES..][..run.columns * S::LANES];
        let mut column = 0;
        while run.columns - column >= 4 {
            tile::<S, R, N, ADVANCE, 4>(s, &mut here, &rows, gy, column);
            column += 4;
        }
        while run.columns > column {
            tile::<S, R, N, ADVANCE, 1>(s, &mut here, &rows, gy, column);
            column += 1;
        }
        for r in 0..R {
            for n in 0..N {
                sums[place(r, n)] = here[r][n];
            }
        }
    }
}

/// `T` columns from `column` on.
#[inline(always)]
fn tile<S: Simd, const R: usize, const N: usize, const ADVANCE: usize, const T: usize>(
    s: S,
    sums: &mut [[S::V; N]; R],
    rows: &[&[f32]; R],
    gy: &[f32],
    column: usize,
) {
    let gy = &gy[column * S::LANES..][..T * S::LANES];
    for r in 0..R {
        let x = &rows[r][column * ADVANCE * S::LANES..][..((T - 1) * ADVANCE + N) * S::LANES];
        for n in 0..N {
            for t in 0..T {
                let gy = s.load(&gy[t * S::LANES..]);
                sums[r][n] = s.fma(gy, s.load(&x[(t * ADVANCE + n) * S::LANES..]), sums[r][n]);
            }
        }
    }
}
