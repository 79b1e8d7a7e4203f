//! Mean and variance per channel.

use super::super::Output;
use super::super::planes::{MAX_GROUP, Planes, fits};
use super::super::simd::{Kernel, Simd, isa_of, run};
use super::CHUNK;
use crate::team::Team;

/// Mean and biased variance of every channel of `x`, over all pixels of all images that count.
///
/// # Panics
/// When a length does not fit, or this processor has no instruction set with as many lanes.
pub fn moments(team: &Team, planes: Planes, x: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    fits("the map", x.len(), planes.len());
    fits("the means", mean.len(), planes.channels);
    fits("the variances", variance.len(), planes.channels);
    let kernel = Moments { planes, x, mean: Output::new(mean), variance: Output::new(variance) };
    run(team, isa_of(planes.lanes.lanes), planes.channel_tasks(), &kernel);
}

struct Moments<'a> {
    planes: Planes,
    x: &'a [f32],
    mean: Output<'a>,
    variance: Output<'a>,
}

impl Kernel for Moments<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, task: usize) {
        let channels = self.planes.channels_of(task);
        // SAFETY: these channels belong to this task alone.
        let (mean, variance) = unsafe {
            (self.mean.part(channels.start, channels.len()), self.variance.part(channels.start, channels.len()))
        };
        of_channels(s, self.planes, task, self.x, mean, variance);
    }
}

/// The moments of the channels of a task.
#[inline(always)]
pub(super) fn of_channels<S: Simd>(
    s: S,
    planes: Planes,
    task: usize,
    x: &[f32],
    mean: &mut [f32],
    variance: &mut [f32],
) {
    let mut sums = [Running::default(); MAX_GROUP];
    for block in 0..planes.lanes.blocks() {
        let images = planes.lanes.images(block);
        for (c, sum) in planes.channels_of(task).zip(&mut sums) {
            for chunk in x[planes.at(block, c)..][..planes.plane()].chunks(CHUNK * S::LANES) {
                let centre = if sum.count > 0.0 { sum.mean as f32 } else { first_mean(s, chunk, images) };
                sum.merge(of_chunk(s, chunk, images, centre));
            }
        }
    }
    for ((mean, variance), sum) in mean.iter_mut().zip(variance).zip(sums) {
        *mean = sum.mean as f32;
        *variance = (sum.squares / sum.count.max(1.0)) as f32;
    }
}

/// Count, mean and sum of squared deviations of some numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Running {
    /// Adds other numbers (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1).
    fn merge(&mut self, other: Self) {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.mean += apart * (other.count / count);
        self.squares += other.squares + apart * apart * (self.count * other.count / count);
        self.count = count;
    }
}

/// Of the first `images` lanes of whole vectors, by their deviations from `centre`.
///
/// That is close to their mean, or as far from it as chunks are from each other, which the variance then holds anyway: so what
/// cancels is no larger than what is left.
#[inline(always)]
fn of_chunk<S: Simd>(s: S, chunk: &[f32], images: usize, centre: f32) -> Running {
    let count = (chunk.len() / S::LANES * images) as f64;
    let [sum, squares] = deviations(s, chunk, s.splat(-centre));
    let (sum, squares) = (lanes_sum(s, sum, images), lanes_sum(s, squares, images));
    let apart = sum / count;
    Running { count, mean: f64::from(centre) + apart, squares: (squares - sum * apart).max(0.0) }
}

/// The mean of the first `images` lanes of whole vectors.
#[inline(always)]
fn first_mean<S: Simd>(s: S, chunk: &[f32], images: usize) -> f32 {
    let count = (chunk.len() / S::LANES * images) as f64;
    (lanes_sum(s, sum(s, chunk), images) / count) as f32
}

/// The sum of the vectors of `chunk`, with four sums at work.
#[inline(always)]
fn sum<S: Simd>(s: S, chunk: &[f32]) -> S::V {
    let mut sums = [s.splat(0.0); 4];
    let four = chunk.chunks_exact(4 * S::LANES);
    for x in four.remainder().chunks_exact(S::LANES) {
        sums[0] = s.add(sums[0], s.load(x));
    }
    for x in four {
        for i in 0..4 {
            sums[i] = s.add(sums[i], s.load(&x[i * S::LANES..]));
        }
    }
    four_as_one(s, sums)
}

#[inline(always)]
fn four_as_one<S: Simd>(s: S, sums: [S::V; 4]) -> S::V {
    s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))
}

/// The sums of `x + from` and of its square.
#[inline(always)]
fn deviations<S: Simd>(s: S, chunk: &[f32], from: S::V) -> [S::V; 2] {
    let (mut sums, mut squares) = ([s.splat(0.0); 4], [s.splat(0.0); 4]);
    let four = chunk.chunks_exact(4 * S::LANES);
    for x in four.remainder().chunks_exact(S::LANES) {
        let d = s.add(s.load(x), from);
        (sums[0], squares[0]) = (s.add(sums[0], d), s.add(squares[0], s.mul(d, d)));
    }
    for x in four {
        for i in 0..4 {
            let d = s.add(s.load(&x[i * S::LANES..]), from);
            (sums[i], squares[i]) = (s.add(sums[i], d), s.add(squares[i], s.mul(d, d)));
        }
    }
    [four_as_one(s, sums), four_as_one(s, squares)]
}

/// The first `images` lanes, added in f64.
#[inline(always)]
pub(super) fn lanes_sum<S: Simd>(s: S, vector: S::V, images: usize) -> f64 {
    let numbers = s.numbers(vector);
    numbers[..images].iter().map(|v| f64::from(*v)).sum()
}
