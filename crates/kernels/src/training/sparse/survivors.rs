//! The weights that survived, in the order the tiles multiply them.

use std::ops::Range;

use super::tiles::Turn;
use crate::team::{Team, balance};
use crate::training::{ConvGeometry, Output, tasks};

/// The survivors of some output channels within one chunk of source channels.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub turns: Range<usize>,
    pub entries: Range<usize>,
}

/// Which weight each entry holds, chunk after chunk of the source channels (counted within their group), and within a chunk
/// segment after segment of the output channels.
#[derive(Clone, Debug)]
pub(super) struct Survivors {
    /// Source channels of a group per chunk.
    pub chunk: usize,
    pub chunks: usize,
    pub segments: usize,
    /// `[chunk][segment]`.
    pub units: Vec<Unit>,
    /// Within a unit by number of entries, so that how often a loop runs is easy to foresee.
    pub turns: Vec<Turn>,
    /// Flat position of every entry's weight.
    positions: Vec<u32>,
    /// Where its tap leads; see [`super::tiles::Pass`].
    pub codes: Vec<u32>,
}

/// A flat position taken apart.
#[derive(Clone, Copy)]
pub(super) struct Weight {
    pub output: usize,
    /// Counted within the group.
    pub input: usize,
    pub tap: usize,
}

/// Divides without dividing.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    divisor: u32,
    /// 2^64 / divisor, rounded up; 0 for 1.
    inverse: u64,
}

impl Divisor {
    fn new(divisor: usize) -> Self {
        let divisor = divisor as u32;
        Self { divisor, inverse: if divisor == 1 { 0 } else { u64::MAX / u64::from(divisor) + 1 } }
    }

    /// Exact for every 32-bit number.
    fn split(self, number: u32) -> (u32, u32) {
        if self.inverse == 0 {
            return (number, 0);
        }
        let quotient = ((u128::from(self.inverse) * u128::from(number)) >> 64) as u32;
        (quotient, number - quotient * self.divisor)
    }
}

/// Takes flat positions of weights apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions {
    patch: Divisor,
    taps: Divisor,
}

impl Positions {
    pub fn new(geometry: &ConvGeometry) -> Self {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        Self { patch: Divisor::new(geometry.patch()), taps: Divisor::new(taps) }
    }

    fn of(self, position: u32) -> Weight {
        let (output, rest) = self.patch.split(position);
        let (input, tap) = self.taps.split(rest);
        Weight { output: output as usize, input: input as usize, tap: tap as usize }
    }
}

impl Survivors {
    /// * `kept`: flat positions, ascending; `outputs`: channels of the result.
    /// * `ends`: of a weight, the channel of the result it adds to, and the source channel within the group that it multiplies.
    /// * `code`: what leads to the source, given the number of the chunk.
    pub fn new(
        kept: &[u32],
        at: Positions,
        outputs: usize,
        [depth, chunk, segments]: [usize; 3],
        ends: impl Fn(Weight) -> (usize, usize),
        code: impl Fn(usize, Weight) -> u32,
    ) -> Self {
        let chunks = depth.div_ceil(chunk);
        let cell = |weight: Weight| {
            let (output, channel) = ends(weight);
            (channel / chunk, output)
        };
        let mut counts = vec![0u32; chunks * outputs];
        for position in kept {
            let (chunk, output) = cell(at.of(*position));
            counts[chunk * outputs + output] += 1;
        }
        // one more for each: an output without survivors is written as well
        let weight =
            |output: usize| (0..chunks).map(|chunk| u64::from(counts[chunk * outputs + output])).sum::<u64>() + 1;
        let segments: Vec<_> = balance((0..outputs).map(weight), segments);
        let (mut units, mut turns, mut entries) = (Vec::new(), Vec::new(), 0);
        let mut starts = vec![0usize; chunks * outputs];
        for chunk in 0..chunks {
            let counts = &counts[chunk * outputs..][..outputs];
            for segment in &segments {
                let first = (turns.len(), entries);
                let all = segment.clone().map(|output| Turn { output: output as u32, entries: counts[output] });
                turns.extend(all.filter(|turn| chunk == 0 || turn.entries > 0));
                turns[first.0..].sort_by_key(|turn| turn.entries);
                for turn in &turns[first.0..] {
                    starts[chunk * outputs + turn.output as usize] = entries;
                    entries += turn.entries as usize;
                }
                units.push(Unit { turns: first.0..turns.len(), entries: first.1..entries });
            }
        }
        let (mut positions, mut codes) = (vec![0; kept.len()], vec![0; kept.len()]);
        for position in kept {
            let weight = at.of(*position);
            let (chunk, output) = cell(weight);
            let next = &mut starts[chunk * outputs + output];
            (positions[*next], codes[*next]) = (*position, code(chunk, weight));
            *next += 1;
        }
        Self { chunk, chunks, segments: segments.len(), units, turns, positions, codes }
    }

    /// Reads the values of all survivors.
    pub fn gather(&self, team: &Team, w: &[f32], values: &mut [f32]) {
        let values = Output::new(values);
        tasks(team, self.units.len(), |unit| {
            let range = self.units[unit].entries.clone();
            // SAFETY: units cover the entries without overlap, and each is one task.
            let values = unsafe { values.part(range.start, range.len()) };
            for (value, position) in values.iter_mut().zip(&self.positions[range]) {
                *value = w[*position as usize];
            }
        });
    }

    /// Of a unit, the most turns and entries.
    pub fn most(&self) -> (usize, usize) {
        let most = |len: fn(&Unit) -> usize| self.units.iter().map(len).max().unwrap_or(0);
        (most(|unit| unit.turns.len()), most(|unit| unit.entries.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide_like_division() {
        for divisor in [1, 2, 3, 7, 9, 4608, 65_537, u32::MAX as usize] {
            for number in [0, 1, 2, 8, 9, 4607, 4608, 1 << 20, u32::MAX - 1, u32::MAX] {
                let expected = (number / divisor as u32, number % divisor as u32);
                assert_eq!(Divisor::new(divisor).split(number), expected, "{number} / {divisor}");
            }
        }
    }
}
