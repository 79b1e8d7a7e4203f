//! Sparse rows in the order the kernels read them.
//!
//! Rows are sorted by length and cut into groups that are computed side by side, one row a lane, so that no sum crosses
//! lanes. Columns are cut into blocks whose spread input fits the first-level cache. A *segment*, one group in one block,
//! has first its look-up steps (see `schedule`), then gather steps (16-bit positions), then single non-zeros.
//!
//! The spread input has a zero after every [`COLUMNS_PER_CHUNK`] columns. Lanes that have nothing to do in a step point
//! there with a weight of 0, so that an infinite or NaN input meets only weights that exist.

use super::lines::{Lines, Plain};
use super::schedule;

/// Elements of a chunk of the spread input, the last of which is 0.
pub(super) const CHUNK: usize = 16;
/// Columns of a chunk.
pub(super) const COLUMNS_PER_CHUNK: usize = CHUNK - 1;
/// Chunks of one block of columns: 8-bit chunk numbers, 12-bit positions, 16 KiB.
pub(super) const CHUNKS_PER_BLOCK: usize = 256;
/// Columns of one block.
pub(super) const COLUMNS_PER_BLOCK: usize = CHUNKS_PER_BLOCK * COLUMNS_PER_CHUNK;
/// Elements of the spread input of one block.
pub(super) const SPREAD: usize = CHUNKS_PER_BLOCK * CHUNK;
/// A position that is 0 in every block.
const ZERO: u16 = COLUMNS_PER_CHUNK as u16;

/// What weights are stored as.
pub(super) trait Value: Plain + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Whether a row's sum is multiplied with a scale.
    const SCALED: bool;

    /// The number, not yet scaled.
    fn number(self) -> f32;
}

impl Value for f32 {
    const SCALED: bool = false;

    fn number(self) -> f32 {
        self
    }
}

impl Value for i8 {
    const SCALED: bool = true;

    fn number(self) -> f32 {
        f32::from(self)
    }
}

/// A non-zero that no step holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Single<T> {
    pub position: u16,
    pub lane: u16,
    pub value: T,
}

/// Where the parts of one group in one block of columns start, and how many steps it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Values of the look-up steps, then of the gather steps.
    pub values: usize,
    /// Look-up steps, a multiple of [`schedule::STEPS_PER_WORD`].
    pub lookups: usize,
    /// Index words of the look-up steps: `lanes` for [`schedule::STEPS_PER_WORD`] steps.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 looks up"))]
    pub words: usize,
    /// Chunk pairs of the look-up steps.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 looks up"))]
    pub chunks: usize,
    /// Gather steps.
    pub gathers: usize,
    /// Positions of the gather steps.
    pub positions: usize,
    /// First and one after the last single non-zero.
    pub singles: [usize; 2],
}

/// Weights of a fully connected layer in kernel order.
#[derive(Clone, Debug)]
pub(super) struct Slices<T> {
    pub rows: usize,
    pub cols: usize,
    pub lanes: usize,
    pub nnz: usize,
    /// `segments[group * blocks + block]`.
    pub segments: Vec<Segment>,
    /// Output row of each lane of each group; only the last group may be shorter than `lanes`.
    pub row_of_lane: Vec<u32>,
    /// One for every lane.
    pub bias: Vec<f32>,
    /// One for every lane where values are scaled, else none.
    pub scales: Vec<f32>,
    pub words: Lines<u32>,
    pub chunks: Vec<[u8; 2]>,
    pub positions: Lines<u16>,
    pub values: Lines<T>,
    pub singles: Vec<Single<T>>,
}

/// The parts while they grow.
#[derive(Default)]
struct Parts<T> {
    words: Vec<u32>,
    chunks: Vec<[u8; 2]>,
    positions: Vec<u16>,
    values: Vec<T>,
    singles: Vec<Single<T>>,
}

impl<T: Value> Slices<T> {
    /// Sorts and interleaves; `nonzeros` are strictly increasing flat indices below `bias.len() * cols`, `scales` has one
    /// per row exactly where values are scaled, `lookups` needs 16 lanes.
    pub fn build(
        lanes: usize,
        lookups: bool,
        cols: usize,
        nonzeros: &[(u32, T)],
        bias: &[f32],
        scales: &[f32],
    ) -> Self {
        assert!(!lookups || lanes == schedule::ROWS, "look-ups are for {} rows", schedule::ROWS);
        assert!(scales.len() == if T::SCALED { bias.len() } else { 0 }, "one scale per row");
        let rows = bias.len();
        let mut starts = vec![0usize; rows + 1];
        for (index, _) in nonzeros {
            starts[*index as usize / cols + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut row_of_lane: Vec<u32> = (0..rows as u32).collect();
        let len = |row: u32| starts[row as usize + 1] - starts[row as usize];
        row_of_lane.sort_by_key(|row| std::cmp::Reverse(len(*row)));

        let mut parts = Parts::default();
        let mut segments = vec![];
        for group in row_of_lane.chunks(lanes) {
            let row = |row: &u32| &nonzeros[starts[*row as usize]..starts[*row as usize + 1]];
            let mut left: Vec<&[(u32, T)]> = group.iter().map(row).collect();
            for first in (0..cols).step_by(COLUMNS_PER_BLOCK) {
                let in_block = |entry: &(u32, T)| (entry.0 as usize % cols) < first + COLUMNS_PER_BLOCK;
                let mut cut = |entries: &mut &[(u32, T)]| {
                    let (now, later) = entries.split_at(entries.partition_point(in_block));
                    *entries = later;
                    let position = |index: u32| position(index as usize % cols - first);
                    (now.iter().map(|entry| position(entry.0)).collect(), now.iter().map(|entry| entry.1).collect())
                };
                let block: Vec<(Vec<u16>, Vec<T>)> = left.iter_mut().map(&mut cut).collect();
                segments.push(parts.push(lanes, lookups, block));
            }
        }
        let padded = rows.next_multiple_of(lanes);
        let by_lane = |of_row: &[f32]| {
            let mut by_lane: Vec<f32> = row_of_lane.iter().map(|row| of_row[*row as usize]).collect();
            by_lane.resize(padded, 0.0);
            by_lane
        };
        parts.chunks.shrink_to_fit();
        parts.singles.shrink_to_fit();
        Self {
            rows,
            cols,
            lanes,
            nnz: nonzeros.len(),
            bias: by_lane(bias),
            scales: if T::SCALED { by_lane(scales) } else { vec![] },
            segments,
            row_of_lane,
            words: Lines::of(&parts.words),
            chunks: parts.chunks,
            positions: Lines::of(&parts.positions),
            values: Lines::of(&parts.values),
            singles: parts.singles,
        }
    }

    /// Number of blocks of columns.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(COLUMNS_PER_BLOCK)
    }

    /// Number of groups of rows.
    pub fn groups(&self) -> usize {
        self.rows.div_ceil(self.lanes)
    }

    /// Output rows of the lanes of `group`.
    pub fn rows_of(&self, group: usize) -> &[u32] {
        let first = group * self.lanes;
        &self.row_of_lane[first..self.rows.min(first + self.lanes)]
    }

    /// Values that `group` reads, those of idle lanes included.
    pub fn work(&self, group: usize) -> usize {
        let segments = &self.segments[group * self.blocks()..][..self.blocks()];
        let of = |s: &Segment| (s.lookups + 2 * s.gathers) * self.lanes + 2 * (s.singles[1] - s.singles[0]);
        segments.iter().map(of).sum::<usize>() + self.lanes
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.segments[..])
            + size_of_val(&self.row_of_lane[..])
            + size_of_val(&self.bias[..])
            + size_of_val(&self.scales[..])
            + size_of_val(&self.words[..])
            + size_of_val(&self.chunks[..])
            + size_of_val(&self.positions[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.singles[..])
    }
}

impl<T: Value> Parts<T> {
    /// Adds a segment; `rows` are positions and values of each lane.
    fn push(&mut self, lanes: usize, lookups: bool, mut rows: Vec<(Vec<u16>, Vec<T>)>) -> Segment {
        let steps = if lookups {
            let positions: Vec<Vec<u16>> = rows.iter().map(|row| row.0.clone()).collect();
            schedule::steps(&positions)
        } else {
            vec![]
        };
        let mut segment = Segment {
            values: self.values.len(),
            lookups: steps.len(),
            words: self.words.len(),
            chunks: self.chunks.len(),
            gathers: 0,
            positions: self.positions.len(),
            singles: [self.singles.len(); 2],
        };
        let mut taken: Vec<Vec<bool>> = rows.iter().map(|row| vec![false; row.0.len()]).collect();
        for together in steps.chunks(schedule::STEPS_PER_WORD) {
            let mut words = vec![0; lanes];
            for (at, step) in together.iter().enumerate() {
                self.chunks.push(step.chunks);
                for lane in 0..lanes {
                    let (index, value) = match step.picks[lane] {
                        Some((index, entry)) => {
                            taken[lane][entry as usize] = true;
                            (index, rows[lane].1[entry as usize])
                        }
                        None => (ZERO as u8, T::default()),
                    };
                    words[lane] |= u32::from(index) << (5 * at);
                    self.values.push(value);
                }
            }
            self.words.extend(words);
        }
        for (row, taken) in rows.iter_mut().zip(&taken) {
            let mut keep = taken.iter().map(|taken| !taken);
            row.0.retain(|_| keep.next() == Some(true));
            let mut keep = taken.iter().map(|taken| !taken);
            row.1.retain(|_| keep.next() == Some(true));
        }
        // a gather of all lanes takes as long as two or three single non-zeros, but the bytes of twelve
        let enough = lanes.div_ceil(3);
        while rows.iter().filter(|row| row.0.len() > segment.gathers).count() >= enough {
            for lane in 0..lanes {
                let entry = rows.get(lane).filter(|row| row.0.len() > segment.gathers);
                self.positions.push(entry.map_or(ZERO, |row| row.0[segment.gathers]));
                self.values.push(entry.map_or(T::default(), |row| row.1[segment.gathers]));
            }
            segment.gathers += 1;
        }
        for (lane, (positions, values)) in rows.iter().enumerate() {
            let left = positions.iter().zip(values).skip(segment.gathers);
            self.singles.extend(left.map(|(p, v)| Single { position: *p, lane: lane as u16, value: *v }));
        }
        segment.singles[1] = self.singles.len();
        segment
    }
}

/// Where a column of a block lies in the spread input.
pub(super) fn position(column: usize) -> u16 {
    (column / COLUMNS_PER_CHUNK * CHUNK + column % COLUMNS_PER_CHUNK) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_similar_length_share_a_group() {
        // row r of 9 has r % 3 + 1 non-zeros
        let nonzeros: Vec<(u32, f32)> =
            (0..9u32).flat_map(|r| (0..=r % 3).map(move |k| (r * 4 + k, r as f32))).collect();
        let slices = Slices::build(8, false, 4, &nonzeros, &[0.5; 9], &[]);
        assert_eq!(slices.rows_of(0), [2, 5, 8, 1, 4, 7, 0, 3]);
        assert_eq!(slices.rows_of(1), [6]);
        let [first, second] = slices.segments[..] else { panic!("two groups, one block") };
        assert_eq!((first.gathers, first.singles, second.gathers, second.singles), (3, [0, 0], 0, [0, 1]));
        assert_eq!(slices.positions[16..24], [2, 2, 2, ZERO, ZERO, ZERO, ZERO, ZERO]);
        assert_eq!(slices.values[16..24], [2.0, 5.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(slices.singles, [Single { position: 0, lane: 0, value: 6.0 }]);
        assert_eq!((slices.nnz, slices.bias.len(), slices.bias[8..10].to_vec()), (18, 16, vec![0.5, 0.0]));
    }

    #[test]
    fn a_column_leaves_room_for_the_zero_of_its_chunk() {
        assert_eq!([0, 14, 15, 30].map(position), [0, 14, 16, 32]);
        assert_eq!(position(COLUMNS_PER_BLOCK - 1) as usize, SPREAD - 2);
    }
}
