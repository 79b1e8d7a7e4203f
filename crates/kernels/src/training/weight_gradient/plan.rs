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
    /// Per weight, or once for a shared strip: where the gradient of the output channel starts.
    pub gy_at: Vec<u32>,
    /// Per weight: where its input channel starts, with the offset of its tap.
    pub x_at: Vec<i32>,
    /// Per weight: its row of the kernel.
    pub kernel_rows: Vec<u16>,
    /// Per weight: which of the kept weights it is, in the order of the file.
    pub ranks: Vec<u32>,
    /// Kept weights, those included that no output pixel reaches.
    pub kept: usize,
}

/// All weights of some output channels.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Per some input channels.
    pub strips: Vec<Range<usize>>,
    pub weights: Range<usize>,
    /// Its kept weights in the order of the file.
    pub ranks: Range<usize>,
}

/// Weights whose sums are in registers together, by row of the kernel.
#[derive(Debug)]
pub(super) struct Strip {
    pub key: usize,
    /// Whether all weights are of one output channel.
    pub shared: bool,
    /// Where its part of the plan's `gy_at` starts.
    pub gy_at: usize,
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
    pub fn reaching(&self, kernel_rows: &[u16], rows: &Range<usize>) -> Option<Range<usize>> {
        if rows.start <= self.rows.start && self.rows.end <= rows.end {
            return Some(self.weights.clone());
        }
        let mine = &kernel_rows[self.weights.clone()];
        let (mut start, mut end) = (0, mine.len());
        while start < end && usize::from(mine[start]) < rows.start {
            start += 1;
        }
        while start < end && usize::from(mine[end - 1]) >= rows.end {
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
    rank: u32,
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

    /// Whether all weights and all pixels of one block can be told apart in 32 bits, with the offsets of taps, and the rows of a
    /// kernel in 16.
    pub fn fits(geometry: &ConvGeometry, lanes: usize) -> bool {
        let g = geometry;
        let around = [0, 1].map(|axis| {
            let taps = g.kernel[axis].saturating_mul(g.dilation[axis]);
            g.input[axis].saturating_add(taps).saturating_add(g.pads[axis])
        });
        let plane = around[0].saturating_mul(around[1]).max(g.out_plane());
        let most = plane.saturating_mul(g.in_channels.max(g.out_channels)).saturating_mul(lanes);
        i32::try_from(most.max(g.weights())).is_ok() && u16::try_from(g.kernel[0]).is_ok()
    }

    /// Orders the weights that `keep` names; the layer [fits](Self::fits).
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
            ranks: Vec::new(),
            kept: keep.iter().filter(|keep| **keep).count(),
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
        plan.x_at.reserve_exact(plan.kept);
        plan.kernel_rows.reserve_exact(plan.kept);
        plan.ranks.reserve_exact(plan.kept);
        let outputs = (UNIT * g.out_channels / plan.kept.max(1)).clamp(1, TOGETHER);
        let mut rank = 0;
        for first in (0..g.out_channels).step_by(outputs) {
            let outputs = first..(first + outputs).min(g.out_channels);
            let weight = plan.ranks.len();
            let mut strips = Vec::new();
            let all = &keep[outputs.start * g.patch()..outputs.end * g.patch()];
            let ranks = rank..rank + all.iter().filter(|keep| **keep).count();
            rank = ranks.end;
            for channel in (0..g.group_in()).step_by(channels) {
                let channels = channel..(channel + channels).min(g.group_in());
                let strip = plan.strips.len();
                plan.add_weights(g, lanes, (keep, ranks.start), &key_of, outputs.clone(), channels);
                strips.push(strip..plan.strips.len());
            }
            plan.units.push(Unit { strips, weights: weight..plan.ranks.len(), ranks });
        }
        plan.gy_at.shrink_to_fit();
        plan.strips.shrink_to_fit();
        plan
    }

    /// Adds the weights of some outputs and some input channels of their group.
    ///
    /// * `first`: rank of the first kept weight of these outputs.
    fn add_weights(
        &mut self,
        g: &ConvGeometry,
        lanes: usize,
        (keep, first): (&[bool], usize),
        key_of: &[Option<usize>],
        outputs: Range<usize>,
        channels: Range<usize>,
    ) {
        let taps = key_of.len();
        let mut left = vec![Vec::new(); self.keys.len()];
        let kept = |from: usize, to: usize| keep[from..to].iter().filter(|keep| **keep).count();
        let mut before = first;
        for output in outputs.clone() {
            let mut of_key = vec![Vec::new(); self.keys.len()];
            let start = output * g.patch();
            let first = before + kept(start, start + channels.start * taps);
            let mine = (channels.start * taps..channels.end * taps).filter(|index| keep[start + index]);
            for (index, rank) in mine.zip(first as u32..) {
                let (channel, tap) = (index / taps, index % taps);
                let Some(key) = key_of[tap] else { continue };
                let channel = output / g.group_out() * g.group_in() + channel;
                of_key[key].push(Weight { output, channel, tap: [tap / g.kernel[1], tap % g.kernel[1]], rank });
            }
            before += kept(start, start + g.patch());
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
            let (first, gy_at) = (self.ranks.len(), self.gy_at.len());
            let shared = mine.iter().all(|weight| weight.output == mine[0].output);
            // `fits` has found all of these to be small enough
            let gy_of = |weight: &Weight| (weight.output * g.out_plane() * lanes) as u32;
            self.gy_at.extend(mine.iter().take(if shared { 1 } else { most }).map(gy_of));
            for weight in mine {
                let offset = |axis: usize| (weight.tap[axis] * g.dilation[axis]) as isize - g.pads[axis] as isize;
                let pixel = offset(0) * g.input[1] as isize + offset(1);
                self.x_at.push((((weight.channel * g.in_plane()) as isize + pixel) * lanes as isize) as i32);
                self.kernel_rows.push(weight.tap[0] as u16);
                self.ranks.push(weight.rank);
            }
            let all = |row: fn(usize, usize) -> usize| mine.iter().map(|weight| weight.tap[0]).reduce(row);
            let rows = all(usize::min).zip(all(usize::max)).map_or(0..0, |(first, last)| first..last + 1);
            self.strips.push(Strip { key, shared, gy_at, rows, weights: first..self.ranks.len() });
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
