//! Weights in the order the tile kernels read them: turns, offsets and values, three streams.

use std::ops::Range;

use crate::KernelError;

/// Numbers of a layer's weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// As they are.
    F32(Vec<f32>),
    /// Signed bytes, times one scale per output.
    I8(Vec<i8>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(&values[..]),
            Self::I8(values) => size_of_val(&values[..]),
        }
    }
}

/// One weight: where it belongs, where its input pixels start, and which value it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Output channel.
    pub output: u32,
    /// Block of input channels.
    pub block: u32,
    /// Where it comes in the sum; the same place always has the same offset.
    pub order: u32,
    /// Where its input pixels start, in elements; a multiple of the layout's unit.
    pub offset: u32,
    /// Position in the list of values.
    pub value: u32,
}

/// Outputs of which several share every entry, one group after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Outputs per group: 1, 2, 4 or 8.
    pub group: usize,
    /// First output.
    pub first: usize,
    /// Number of groups.
    pub groups: usize,
}

/// A group whose turn it is, and its entries in this block.
///
/// Groups come in order of their number of entries: the processor then foresees where their loops end. In the order of outputs
/// every group of ten or so entries ended with a wrong guess, which took as long as four entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Turn {
    pub group: u16,
    pub entries: u16,
}

/// Where the streams of one run in one block begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub turns: usize,
    /// Groups that have a turn.
    pub groups: usize,
    pub entries: usize,
    pub values: usize,
}

/// Outputs that one unit of work computes.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub outputs: Range<usize>,
    pub runs: Vec<Run>,
    /// `[block][run]`.
    pub cursors: Vec<Cursor>,
    pub entries: usize,
}

impl Segment {
    /// Its runs, and where their streams begin in block `block`.
    pub fn of_block(&self, block: usize) -> impl Iterator<Item = (&Run, &Cursor)> {
        self.runs.iter().zip(&self.cursors[block * self.runs.len()..])
    }
}

/// Sparse rows, optionally with several outputs per entry, cut into blocks of input channels and segments of outputs.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(crate) segments: Vec<Segment>,
    pub(crate) blocks: usize,
    /// Elements to add to the offsets of each block.
    pub(crate) bases: Vec<u32>,
    /// `[segment][block][run]`, and then the groups; between the first block and the last, only those with entries.
    pub(crate) turns: Vec<Turn>,
    /// In units.
    pub(crate) offsets: Vec<u16>,
    pub(crate) values: Values,
    pub(crate) bias: Vec<f32>,
    pub(crate) scales: Option<Vec<f32>>,
    nnz: usize,
    reach: usize,
}

/// What [`Rows::build`] needs to know besides the weights.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Outputs per group, at most.
    pub group: usize,
    /// Blocks of input channels.
    pub blocks: usize,
    /// Segments of outputs wanted.
    pub segments: usize,
    /// Elements that offsets are multiples of.
    pub unit: usize,
}

impl Rows {
    /// Builds the streams from `items`, sorted by output and then by `order`; blocks never fall along an output.
    ///
    /// Outputs in one group share entries: the union of their positions, filled up with zeros. So an output is summed in the same
    /// order whatever the layout.
    pub(crate) fn build(
        layout: &Layout,
        items: &[Item],
        values: &Values,
        bias: Vec<f32>,
        scales: Option<Vec<f32>>,
    ) -> Result<Self, KernelError> {
        let outputs = bias.len();
        let mut starts = vec![0usize; outputs + 1];
        for item in items {
            starts[item.output as usize + 1] += 1;
        }
        for output in 0..outputs {
            starts[output + 1] += starts[output];
        }
        let mut bases = vec![u32::MAX; layout.blocks];
        for item in items {
            let base = &mut bases[item.block as usize];
            *base = (*base).min(item.offset);
        }
        bases.iter_mut().filter(|base| **base == u32::MAX).for_each(|base| *base = 0);

        let mut rows = Self {
            segments: Vec::new(),
            blocks: layout.blocks,
            bases,
            turns: Vec::new(),
            offsets: Vec::new(),
            values: match values {
                Values::F32(_) => Values::F32(Vec::new()),
                Values::I8(_) => Values::I8(Vec::new()),
            },
            bias,
            scales,
            nnz: items.len(),
            reach: 0,
        };
        for outputs in cut(&starts, layout) {
            rows.push_segment(layout, outputs, items, &starts, values)?;
        }
        rows.turns.shrink_to_fit();
        rows.offsets.shrink_to_fit();
        match &mut rows.values {
            Values::F32(values) => values.shrink_to_fit(),
            Values::I8(values) => values.shrink_to_fit(),
        }
        Ok(rows)
    }

    fn push_segment(
        &mut self,
        layout: &Layout,
        outputs: Range<usize>,
        items: &[Item],
        starts: &[usize],
        values: &Values,
    ) -> Result<(), KernelError> {
        let runs = runs(outputs.clone(), layout.group);
        let entries_before = self.offsets.len();
        let mut cursors = Vec::with_capacity(layout.blocks * runs.len());
        // of every output, what no block has taken yet
        let mut left: Vec<&[Item]> = outputs.clone().map(|output| &items[starts[output]..starts[output + 1]]).collect();
        // of a block: order, member of the group, offset and value; and which of them belong to each group
        let (mut entries, mut groups) = (Vec::<[u32; 4]>::new(), Vec::new());
        for block in 0..layout.blocks as u32 {
            let idle = block > 0 && block as usize + 1 < layout.blocks;
            for run in &runs {
                entries.clear();
                groups.clear();
                for group in 0..run.groups {
                    let before = entries.len();
                    for member in 0..run.group {
                        let row = &mut left[run.first - outputs.start + group * run.group + member];
                        let (inside, later) = row.split_at(row.partition_point(|item| item.block <= block));
                        entries.extend(inside.iter().map(|item| [item.order, member as u32, item.offset, item.value]));
                        *row = later;
                    }
                    let own = &mut entries[before..];
                    if run.group > 1 {
                        own.sort_unstable();
                    }
                    let positions = own.chunk_by(|a, b| a[0] == b[0]).count();
                    if positions > 0 || !idle {
                        groups.push((positions, group, before..entries.len()));
                    }
                }
                groups.sort_by_key(|(positions, ..)| *positions);
                cursors.push(Cursor {
                    turns: self.turns.len(),
                    groups: groups.len(),
                    entries: self.offsets.len(),
                    values: self.values.len(),
                });
                for (positions, group, range) in &groups {
                    let number = |number: usize| {
                        u16::try_from(number).map_err(|_| KernelError::TooLarge { what: "a block of input channels" })
                    };
                    self.turns.push(Turn { group: number(*group)?, entries: number(*positions)? });
                    for position in entries[range.clone()].chunk_by(|a, b| a[0] == b[0]) {
                        self.push_entry(position[0][2], self.bases[block as usize], run.group, layout.unit)?;
                        for [_, member, _, value] in position {
                            let slot = self.values.len() - run.group + *member as usize;
                            match (&mut self.values, values) {
                                (Values::F32(to), Values::F32(from)) => to[slot] = from[*value as usize],
                                (Values::I8(to), Values::I8(from)) => to[slot] = from[*value as usize],
                                _ => unreachable!("the streams were made of the same kind of values"),
                            }
                        }
                    }
                }
            }
        }
        let entries = self.offsets.len() - entries_before;
        self.segments.push(Segment { outputs, runs, cursors, entries });
        Ok(())
    }

    fn push_entry(&mut self, offset: u32, base: u32, group: usize, unit: usize) -> Result<(), KernelError> {
        debug_assert_eq!((offset - base) as usize % unit, 0, "offsets are multiples of their unit");
        let units = (offset - base) as usize / unit;
        let units = u16::try_from(units).map_err(|_| KernelError::TooLarge { what: "a block of input channels" })?;
        self.offsets.push(units);
        self.reach = self.reach.max(offset as usize);
        match &mut self.values {
            Values::F32(values) => values.resize(values.len() + group, 0.0),
            Values::I8(values) => values.resize(values.len() + group, 0),
        }
        Ok(())
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Weights that were given.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// The same rows for planes that lie `to` elements apart instead of `from`, both multiples of the unit; all offsets are multiples of
    /// `from`. `None` when one no longer fits.
    pub(crate) fn moved(&self, from: usize, to: usize) -> Option<Self> {
        let offsets = self.offsets.iter().map(|offset| u16::try_from(usize::from(*offset) * to / from).ok());
        let bases = self.bases.iter().map(|base| u32::try_from(*base as usize * to / from).ok());
        let (offsets, bases) = (offsets.collect::<Option<_>>()?, bases.collect::<Option<_>>()?);
        Some(Self {
            segments: self.segments.clone(),
            blocks: self.blocks,
            bases,
            turns: self.turns.clone(),
            offsets,
            values: self.values.clone(),
            bias: self.bias.clone(),
            scales: self.scales.clone(),
            nnz: self.nnz,
            reach: self.reach / from * to,
        })
    }

    /// Largest offset in elements; the input must reach `reach` + the pixels of the widest tile.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// Bytes that weights, positions, turns, bias and scales occupy.
    pub fn bytes(&self) -> usize {
        let scales = self.scales.as_ref().map_or(0, |scales| size_of_val(&scales[..]));
        let cursors: usize = self.segments.iter().map(|segment| size_of_val(&segment.cursors[..])).sum();
        let streams = size_of_val(&self.turns[..]) + size_of_val(&self.offsets[..]) + self.values.bytes();
        streams + cursors + size_of_val(&self.bias[..]) + scales + size_of_val(&self.bases[..])
    }
}

/// Cuts the outputs into segments with about as many weights each; borders lie between full groups.
fn cut(starts: &[usize], layout: &Layout) -> Vec<Range<usize>> {
    let outputs = starts.len() - 1;
    let groups = outputs.div_ceil(layout.group);
    let wanted = layout.segments.clamp(1, groups.max(1));
    // a row costs its weights and the loading and storing of its sums
    let cost = |group: usize| starts[(group * layout.group).min(outputs)] + 8 * group * layout.group;
    let mut cuts = vec![0];
    for segment in 1..wanted {
        let target = cost(groups) * segment / wanted;
        let group = (0..=groups).position(|group| cost(group) >= target).unwrap_or(groups);
        let left = groups - (wanted - segment);
        cuts.push(group.clamp(cuts[segment - 1] + 1, left));
    }
    cuts.push(groups);
    cuts.windows(2).map(|pair| pair[0] * layout.group..(pair[1] * layout.group).min(outputs)).collect()
}

/// Full groups first, then what is left in ever smaller groups.
fn runs(outputs: Range<usize>, group: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut first, mut group) = (outputs.start, group);
    while first < outputs.end {
        let groups = (outputs.end - first) / group;
        if groups > 0 {
            runs.push(Run { group, first, groups });
            first += groups * group;
        }
        group /= 2;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(output: u32, block: u32, offset: u32, value: u32) -> Item {
        Item { output, block, order: offset, offset, value }
    }

    #[test]
    fn streams_lie_segment_after_segment_and_block_after_block() {
        let items = [item(0, 0, 32, 0), item(0, 1, 64, 1), item(1, 0, 16, 2), item(2, 1, 80, 3)];
        let values = Values::F32(vec![1.0, 2.0, 3.0, 4.0]);
        let layout = Layout { group: 1, blocks: 2, segments: 1, unit: 16 };
        let rows = Rows::build(&layout, &items, &values, vec![0.0; 3], None).unwrap();
        let turn = |group, entries| Turn { group, entries };
        // few entries first, and in the order of outputs among equals
        let first = [turn(2, 0), turn(0, 1), turn(1, 1)];
        assert_eq!(rows.turns, [first, [turn(1, 0), turn(0, 1), turn(2, 1)]].concat());
        assert_eq!(rows.bases, [16, 64]);
        assert_eq!(rows.offsets, [1, 0, 0, 1]);
        assert_eq!(rows.values, Values::F32(vec![1.0, 3.0, 2.0, 4.0]));
        assert_eq!((rows.nnz(), rows.reach(), rows.outputs()), (4, 80, 3));
    }

    #[test]
    fn a_group_shares_the_union_of_its_positions() {
        let items = [item(0, 0, 0, 0), item(0, 0, 32, 1), item(1, 0, 32, 2), item(2, 0, 16, 3)];
        let values = Values::I8(vec![1, 2, 3, 4]);
        let layout = Layout { group: 2, blocks: 1, segments: 1, unit: 16 };
        let rows = Rows::build(&layout, &items, &values, vec![0.0; 3], Some(vec![1.0; 3])).unwrap();
        assert_eq!(rows.segments[0].runs.len(), 2);
        assert_eq!(rows.turns, [Turn { group: 0, entries: 2 }, Turn { group: 0, entries: 1 }]);
        assert_eq!(rows.offsets, [0, 2, 1]);
        assert_eq!(rows.values, Values::I8(vec![1, 0, 2, 3, 4]));
    }

    #[test]
    fn segments_have_about_the_same_weights_and_cover_all_outputs() {
        let items: Vec<Item> = (0..100).map(|i| item(if i < 60 { 0 } else { i / 10 }, 0, i * 16, i)).collect();
        let values = Values::F32(vec![1.0; 100]);
        for (group, segments) in [(1, 1), (1, 3), (4, 2), (4, 9), (8, 100)] {
            let layout = Layout { group, blocks: 1, segments, unit: 16 };
            let rows = Rows::build(&layout, &items, &values, vec![0.0; 10], None).unwrap();
            let covered: Vec<usize> = rows.segments.iter().flat_map(|segment| segment.outputs.clone()).collect();
            assert_eq!(covered, (0..10).collect::<Vec<_>>());
            assert!(rows.segments.iter().all(|segment| !segment.outputs.is_empty()));
        }
    }

    #[test]
    fn a_block_that_16_bits_cannot_span_is_refused() {
        let items = [item(0, 0, 0, 0), item(0, 0, 16 * 65536, 1)];
        let layout = Layout { group: 1, blocks: 1, segments: 1, unit: 16 };
        let refused = Rows::build(&layout, &items, &Values::F32(vec![1.0; 2]), vec![0.0], None);
        assert_eq!(refused.unwrap_err(), KernelError::TooLarge { what: "a block of input channels" });
    }
}
