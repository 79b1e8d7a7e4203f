//! Surviving weights in the order in which they are worked through.
//!
//! Weights of one output channel share each load of its gradient, up to eight of them. Where it has too few, weights of several
//! output channels go together, each with a gradient of its own.

use std::ops::Range;

use super::tiles::{APART, SHARED};
use crate::training::ConvGeometry;

/// Fewest weights of one output channel that are worth a strip of their own: as many sums as hide a multiply-add's latency.
const FEWEST: usize = 4;
/// Most output channels whose left-over weights go together.
const TOGETHER: usize = 8;
/// Weights that they should have: those of some outputs are worked through for a band before the next outputs' turn.
const UNIT: usize = 1024;
/// Weights, and how they are cut into units and strips.
#[derive(Debug)]
pub(super) struct Plan {
    /// What a task has one or more of, in order.
    pub units: Vec<Unit>,
    pub strips: Vec<Strip>,
    pub keys: Vec<Key>,
    /// Whether keys have rows, so that each weight's pixels in a band are one rectangle.
    pub one_rectangle: bool,
    /// Parts of the output's rows that the same rows of the kernel reach.
    pub row_parts: Vec<(Range<usize>, Range<usize>)>,
    /// Per weight: where the gradient of its output channel starts.
    pub gy_at: Vec<usize>,
    /// Per weight: where its input channel starts, with the offset of its tap.
    pub x_at: Vec<isize>,
    /// Per weight: its row of the kernel.
    pub kernel_rows: Vec<usize>,
    /// Per weight: where its gradient goes.
    pub positions: Vec<u32>,
}

/// All weights of some output channels.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub outputs: Range<usize>,
    /// Per some input channels.
    pub strips: Vec<Range<usize>>,
    pub weights: Range<usize>,
}

/// Weights whose sums are in registers together, by row of the kernel.
#[derive(Debug)]
pub(super) struct Strip {
    pub key: usize,
    pub shared: bool,
    /// Its rows of the kernel.
    pub rows: Range<usize>,
    pub weights: Range<usize>,
}

/// What the taps of a strip have in common: which columns of the output they reach, and which rows, if that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub rows: Option<Range<usize>>,
    pub cols: Range<usize>,
}

impl Strip {
    /// Those of its weights that are in `rows` of the kernel.
    pub fn reaching(&self, kernel_rows: &[usize], rows: &Range<usize>) -> Option<Range<usize>> {
        if rows.start <= self.rows.start && self.rows.end <= rows.end {
            return Some(self.weights.clone());
        }
        let mine = &kernel_rows[self.weights.clone()];
        let (mut start, mut end) = (0, mine.len());
        while start < end && mine[start] < rows.start {
            start += 1;
        }
        while start < end && mine[end - 1] >= rows.end {
            end -= 1;
        }
        (start < end).then(|| self.weights.start + start..self.weights.start + end)
    }
}

/// A weight that survived.
#[derive(Clone, Copy)]
struct Weight {
    output: usize,
    channel: usize,
    tap: [usize; 2],
    position: u32,
}

impl Plan {
    /// Whether all taps that reach anything reach the same outputs.
    pub fn reach_alike(geometry: &ConvGeometry) -> bool {
        [0, 1].into_iter().all(|axis| {
            let mut reached =
                (0..geometry.kernel[axis]).map(|tap| geometry.reached(axis, tap)).filter(|r| !r.is_empty());
            let first = reached.next();
            reached.all(|other| Some(other) == first)
        })
    }

    /// Orders the weights that `keep` names.
    ///
    /// * `one_rectangle`: no strip has taps that reach different rows of the output.
    /// * `channels`: how many input channels of a group stay in the cache; no strip has weights of more.
    pub fn new(geometry: &ConvGeometry, lanes: usize, keep: &[bool], one_rectangle: bool, channels: usize) -> Self {
        let g = geometry;
        let mut plan = Self {
            units: Vec::new(),
            strips: Vec::new(),
            keys: Vec::new(),
            one_rectangle,
            row_parts: row_parts(g),
            gy_at: Vec::new(),
            x_at: Vec::new(),
            kernel_rows: Vec::new(),
            positions: Vec::new(),
        };
        // per tap its key; none where it reaches nothing
        let mut key_of = Vec::new();
        for row in 0..g.kernel[0] {
            for col in 0..g.kernel[1] {
                let (rows, cols) = (g.reached(0, row), g.reached(1, col));
                if rows.is_empty() || cols.is_empty() {
                    key_of.push(None);
                    continue;
                }
                let key = Key { rows: one_rectangle.then_some(rows), cols };
                let known = plan.keys.iter().position(|known| *known == key);
                key_of.push(Some(known.unwrap_or(plan.keys.len())));
                if known.is_none() {
                    plan.keys.push(key);
                }
            }
        }
        let survivors = keep.iter().filter(|keep| **keep).count();
        let outputs = (UNIT * g.out_channels / survivors.max(1)).clamp(1, TOGETHER);
        for first in (0..g.out_channels).step_by(outputs) {
            let outputs = first..(first + outputs).min(g.out_channels);
            let weight = plan.positions.len();
            let mut strips = Vec::new();
            for channel in (0..g.group_in()).step_by(channels) {
                let channels = channel..(channel + channels).min(g.group_in());
                let strip = plan.strips.len();
                plan.add_weights(g, lanes, keep, &key_of, outputs.clone(), channels);
                strips.push(strip..plan.strips.len());
            }
            plan.units.push(Unit { outputs, strips, weights: weight..plan.positions.len() });
        }
        plan
    }

    /// Adds the weights of some outputs and some input channels of their group.
    fn add_weights(
        &mut self,
        g: &ConvGeometry,
        lanes: usize,
        keep: &[bool],
        key_of: &[Option<usize>],
        outputs: Range<usize>,
        channels: Range<usize>,
    ) {
        let taps = key_of.len();
        let mut left = vec![Vec::new(); self.keys.len()];
        for output in outputs.clone() {
            let mut of_key = vec![Vec::new(); self.keys.len()];
            for index in (channels.start * taps..channels.end * taps).filter(|index| keep[output * g.patch() + index]) {
                let (channel, tap) = (index / taps, index % taps);
                let Some(key) = key_of[tap] else { continue };
                let channel = output / g.group_out() * g.group_in() + channel;
                let position = (output * g.patch() + index) as u32;
                of_key[key].push(Weight { output, channel, tap: [tap / g.kernel[1], tap % g.kernel[1]], position });
            }
            for (key, mut weights) in of_key.into_iter().enumerate() {
                let rest = weights.len() % SHARED;
                if rest < FEWEST {
                    left[key].extend(weights.drain(weights.len() - rest..));
                }
                self.add_strips(g, lanes, key, SHARED, weights);
            }
        }
        for (key, weights) in left.into_iter().enumerate() {
            self.add_strips(g, lanes, key, APART, weights);
        }
    }

    /// Adds strips of `most` weights, and one of those that are left.
    fn add_strips(&mut self, g: &ConvGeometry, lanes: usize, key: usize, most: usize, mut weights: Vec<Weight>) {
        if !self.one_rectangle {
            weights.sort_by_key(|weight| weight.tap[0]);
        }
        for mine in weights.chunks(most) {
            let first = self.positions.len();
            for weight in mine {
                let offset = |axis: usize| (weight.tap[axis] * g.dilation[axis]) as isize - g.pads[axis] as isize;
                let pixel = offset(0) * g.input[1] as isize + offset(1);
                self.gy_at.push(weight.output * g.out_plane() * lanes);
                self.x_at.push(((weight.channel * g.in_plane()) as isize + pixel) * lanes as isize);
                self.kernel_rows.push(weight.tap[0]);
                self.positions.push(weight.position);
            }
            let shared = mine.iter().all(|weight| weight.output == mine[0].output);
            let all = |row: fn(usize, usize) -> usize| mine.iter().map(|weight| weight.tap[0]).reduce(row);
            let rows = all(usize::min).zip(all(usize::max)).map_or(0..0, |(first, last)| first..last + 1);
            self.strips.push(Strip { key, shared, rows, weights: first..self.positions.len() });
        }
    }
}

/// Cuts the rows of the output where a row of the kernel begins or ceases to reach them.
fn row_parts(geometry: &ConvGeometry) -> Vec<(Range<usize>, Range<usize>)> {
    let reached: Vec<Range<usize>> = (0..geometry.kernel[0]).map(|tap| geometry.reached(0, tap)).collect();
    let mut cuts: Vec<usize> = reached.iter().flat_map(|rows| [rows.start, rows.end]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let part = |cut: &[usize]| {
        let reaches = |rows: &Range<usize>| rows.start <= cut[0] && cut[1] <= rows.end;
        let first = reached.iter().position(reaches)?;
        let last = reached.iter().rposition(reaches)?;
        Some((cut[0]..cut[1], first..last + 1))
    };
    cuts.windows(2).filter_map(part).collect()
}
