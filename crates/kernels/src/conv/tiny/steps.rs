//! Weights of sparse rows in the order that the kernel reads them: steps of some rows side by side.

use std::ops::Range;

use super::MOST_ROWS;
use super::sparse::Group;
use crate::planes::Values;

/// One weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub row: u32,
    pub block: u32,
    /// From its block on, as the kernel reads it.
    pub offset: u16,
    /// Its place in the list of values.
    pub value: u32,
}

/// Streams of all segments and blocks.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    /// Rows of each segment; the unit of work.
    pub segments: Vec<Range<usize>>,
    pub blocks: usize,
    /// `[segment][block]`: groups, and the first entry.
    pub parts: Vec<(Range<usize>, usize)>,
    pub groups: Vec<Group>,
    pub offsets: Vec<u16>,
    pub values: Values,
}

impl Steps {
    /// Sorts and interleaves.
    ///
    /// * `items`: in order of rows, then of blocks.
    /// * `together`: rows side by side. Rows of similar length in a block share a group, so that few steps are filled up; what
    ///   fills them has offset 0, where the kernel finds zeros, and value 0.
    pub fn build(
        items: &[Item],
        values: &Values,
        rows: usize,
        blocks: usize,
        segments: usize,
        together: usize,
    ) -> Self {
        let mut starts = vec![0usize; rows + 1];
        items.iter().for_each(|item| starts[item.row as usize + 1] += 1);
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let size = rows.div_ceil(segments.max(1)).next_multiple_of(together);
        let empty = match values {
            Values::F32(_) => Values::F32(Vec::new()),
            Values::I8(_) => Values::I8(Vec::new()),
        };
        let segments = (0..rows).step_by(size).map(|first| first..(first + size).min(rows)).collect();
        let (parts, groups, offsets) = (Vec::new(), Vec::new(), Vec::new());
        let mut steps = Self { segments, blocks, parts, groups, offsets, values: empty };
        for segment in steps.segments.clone() {
            let mut left: Vec<&[Item]> = segment.clone().map(|row| &items[starts[row]..starts[row + 1]]).collect();
            for block in 0..blocks as u32 {
                let cut = |(index, row): (usize, &mut &[Item])| {
                    let (now, later) = row.split_at(row.partition_point(|item| item.block <= block));
                    *row = later;
                    (segment.start + index, now.to_vec())
                };
                let mut here: Vec<(usize, Vec<Item>)> = left.iter_mut().enumerate().map(cut).collect();
                here.sort_by_key(|(_, row)| std::cmp::Reverse(row.len()));
                let before = steps.groups.len();
                let first = steps.offsets.len();
                for group in here.chunks(together).take_while(|group| !group[0].1.is_empty()) {
                    steps.push(group, values, rows, together);
                }
                steps.parts.push((before..steps.groups.len(), first));
            }
        }
        steps.offsets.shrink_to_fit();
        match &mut steps.values {
            Values::F32(values) => values.shrink_to_fit(),
            Values::I8(values) => values.shrink_to_fit(),
        }
        steps
    }

    /// Adds a group, whose longest row comes first.
    fn push(&mut self, group: &[(usize, Vec<Item>)], values: &Values, idle: usize, together: usize) {
        let mut rows = [idle as u16; MOST_ROWS];
        rows.iter_mut().zip(group).for_each(|(to, (row, _))| *to = *row as u16);
        let count = group[0].1.len();
        for step in 0..count {
            for lane in 0..together {
                let item = group.get(lane).and_then(|(_, row)| row.get(step));
                self.offsets.push(item.map_or(0, |item| item.offset));
                match (&mut self.values, values) {
                    (Values::F32(to), Values::F32(from)) => to.push(item.map_or(0.0, |item| from[item.value as usize])),
                    (Values::I8(to), Values::I8(from)) => to.push(item.map_or(0, |item| from[item.value as usize])),
                    _ => unreachable!("the stream was made of the same kind of values"),
                }
            }
        }
        // a row has at most 2^32 weights, see `ConvGeometry::validate`
        self.groups.push(Group { rows, steps: count as u32 });
    }

    /// Streams of one segment in one block.
    pub fn part(&self, segment: usize, block: usize) -> (&[Group], usize) {
        let (groups, first) = &self.parts[segment * self.blocks + block];
        (&self.groups[groups.clone()], *first)
    }

    /// Entries of one segment, those that fill up included.
    pub fn entries(&self, segment: usize) -> usize {
        let end = self.parts.get((segment + 1) * self.blocks).map_or(self.offsets.len(), |(_, first)| *first);
        end - self.parts[segment * self.blocks].1
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::F32(values) => size_of_val(&values[..]),
            Values::I8(values) => size_of_val(&values[..]),
        };
        values + size_of_val(&self.offsets[..]) + size_of_val(&self.groups[..]) + size_of_val(&self.parts[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_similar_length_run_side_by_side_and_are_filled_up_with_zeros() {
        // row 1 has two weights in block 0, rows 0 and 2 one each, row 0 another in block 1
        let item = |row, block, offset, value| Item { row, block, offset, value };
        let items = [item(0, 0, 4, 0), item(0, 1, 8, 1), item(1, 0, 2, 2), item(1, 0, 6, 3), item(2, 0, 6, 4)];
        let values = Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        let steps = Steps::build(&items, &values, 3, 2, 1, 2);
        assert_eq!(steps.offsets, [2, 4, 6, 0, 6, 0, 8, 0]);
        assert_eq!(steps.values, Values::F32(vec![3.0, 1.0, 4.0, 0.0, 5.0, 0.0, 2.0, 0.0]));
        let (groups, first) = steps.part(0, 0);
        assert_eq!((groups.len(), groups[0].steps, groups[0].rows[..2].to_vec(), first), (2, 2, vec![1, 0], 0));
        assert_eq!(groups[1].rows[..2], [2, 3]);
        let (groups, first) = steps.part(0, 1);
        assert_eq!((groups.len(), groups[0].steps, groups[0].rows[..2].to_vec(), first), (1, 1, vec![0, 1], 6));
        assert_eq!(steps.entries(0), 8);
    }

    #[test]
    fn segments_cover_all_rows() {
        for (rows, segments) in [(1, 8), (17, 3), (64, 8), (65, 8)] {
            let steps = Steps::build(&[], &Values::I8(vec![]), rows, 1, segments, 8);
            let covered: Vec<usize> = steps.segments.iter().flat_map(Clone::clone).collect();
            assert_eq!(covered, (0..rows).collect::<Vec<_>>());
            assert!((0..steps.segments.len()).all(|segment| steps.entries(segment) == 0));
        }
    }
}
