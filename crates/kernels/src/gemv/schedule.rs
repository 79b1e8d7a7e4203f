//! Which non-zeros of sixteen rows one table look-up fetches together.
//!
//! A look-up picks, for every row, one of 32 inputs: two chunks of the spread input, any two. A row takes part in a step
//! when one of the step's chunks holds a non-zero of it that is not done yet. Greedy: the chunk that serves most rows, then
//! the one that serves most together with it; rows with most left to do count more, so that they end together.

use super::slices::CHUNK;

/// Rows of one step.
pub(super) const ROWS: usize = 16;
/// Steps whose indices share one word: six times five bits.
pub(super) const STEPS_PER_WORD: usize = 6;
/// Rows that must take part. A full step takes 77 bytes, as much as 13 gathered non-zeros. Measured on LeNet-300-100 at
/// 90 % zeros: 2.6 us and 6.2, 5.9, 5.7, 5.6 bytes a non-zero with 4, 6, 8, 11 rows, the last 0.3 us slower.
const FEWEST_ROWS: u32 = 8;

/// One look-up for sixteen rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// The two chunks that it looks into.
    pub chunks: [u8; 2],
    /// For each row the element among the 32, and which of the row's non-zeros it meets.
    pub picks: [Option<(u8, u16)>; ROWS],
}

/// Chooses steps for the non-zeros of up to sixteen rows, given as positions in the spread input, increasing in a row.
/// The number of steps is a multiple of [`STEPS_PER_WORD`]; what no step takes is for the caller.
pub(super) fn steps(rows: &[Vec<u16>]) -> Vec<Step> {
    let mut left = Left::of(rows);
    let mut steps = vec![];
    while let Some(step) = left.take_best() {
        steps.push(step);
    }
    steps.truncate(steps.len() / STEPS_PER_WORD * STEPS_PER_WORD);
    steps
}

/// What is not done yet, by chunk.
struct Left {
    /// Rows that have something in the chunk.
    rows: Vec<u16>,
    /// For each row its next non-zero in the chunk, and the one after its last.
    spans: Vec<[(u16, u16); ROWS]>,
    /// Non-zeros that a row still has in all chunks.
    total: [u16; ROWS],
    positions: Vec<Vec<u16>>,
}

impl Left {
    fn of(rows: &[Vec<u16>]) -> Self {
        let last = rows.iter().filter_map(|row| row.last()).max();
        let chunks = last.map_or(0, |last| *last as usize / CHUNK + 1);
        let mut left = Self {
            rows: vec![0; chunks],
            spans: vec![[(0, 0); ROWS]; chunks],
            total: [0; ROWS],
            positions: rows.to_vec(),
        };
        for (row, positions) in rows.iter().enumerate() {
            left.total[row] = positions.len() as u16;
            for (at, position) in positions.iter().enumerate() {
                let chunk = *position as usize / CHUNK;
                let span = &mut left.spans[chunk][row];
                if left.rows[chunk] >> row & 1 == 0 {
                    left.rows[chunk] |= 1 << row;
                    span.0 = at as u16;
                }
                span.1 = at as u16 + 1;
            }
        }
        left
    }

    /// The chunk that serves most rows besides those of `served`.
    fn best(&self, served: u16, urgent: u16) -> usize {
        let mut best = (0, 0);
        for (chunk, rows) in self.rows.iter().enumerate() {
            let rows = rows | served;
            // three for every row and one more for an urgent one, counted at once
            let counted = (u64::from(rows) * 0x1_0001_0001) | (u64::from(rows & urgent) << 48);
            let score = counted.count_ones();
            if score > best.0 {
                best = (score, chunk);
            }
        }
        best.1
    }

    fn take_best(&mut self) -> Option<Step> {
        let most = *self.total.iter().max().expect("sixteen rows");
        if most == 0 {
            return None;
        }
        let urgent = (0..ROWS).fold(0, |urgent, row| urgent | u16::from(self.total[row] + 1 >= most) << row);
        let first = self.best(0, urgent);
        let second = self.best(self.rows[first], urgent);
        let served = self.rows[first] | self.rows[second];
        if served.count_ones() < FEWEST_ROWS {
            return None;
        }
        let mut step = Step { chunks: [first as u8, second as u8], picks: [None; ROWS] };
        for row in (0..ROWS).filter(|row| served >> row & 1 == 1) {
            let count = |chunk: usize| self.spans[chunk][row].1 - self.spans[chunk][row].0;
            let table = usize::from(count(second) > count(first));
            let chunk = [first, second][table];
            let span = &mut self.spans[chunk][row];
            let index = self.positions[row][span.0 as usize] as usize % CHUNK + table * CHUNK;
            step.picks[row] = Some((index as u8, span.0));
            span.0 += 1;
            if span.0 == span.1 {
                self.rows[chunk] &= !(1 << row);
            }
            self.total[row] -= 1;
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_meets_non_zeros_of_its_two_chunks_once() {
        let rows: Vec<Vec<u16>> =
            (0..16u16).map(|row| (0..400).filter(|p| p % 16 != 15 && (p * 7 + row * 5) % 11 < 2).collect()).collect();
        let steps = steps(&rows);
        assert!(!steps.is_empty() && steps.len().is_multiple_of(STEPS_PER_WORD));
        let mut met = vec![];
        for step in &steps {
            let picks: Vec<_> = step.picks.iter().enumerate().filter_map(|(row, pick)| Some((row, (*pick)?))).collect();
            assert!(picks.len() >= FEWEST_ROWS as usize);
            for (row, (index, at)) in picks {
                let chunk = step.chunks[index as usize / CHUNK] as usize;
                assert_eq!(rows[row][at as usize] as usize, chunk * CHUNK + index as usize % CHUNK);
                met.push((row, at));
            }
        }
        let count = met.len();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met.len(), count, "a non-zero was met twice");
        assert!(count * 10 > rows.iter().map(Vec::len).sum::<usize>() * 9, "{count} non-zeros in steps");
    }

    #[test]
    fn few_rows_or_few_non_zeros_make_no_step() {
        assert_eq!(steps(&vec![(0..15).collect(); 7]), []);
        assert_eq!(steps(&vec![vec![3, 20]; 16]), []);
        assert_eq!(steps(&vec![vec![]; 16]), []);
        assert_eq!(steps(&vec![(0..12).collect(); 16]).len(), 12);
    }
}
