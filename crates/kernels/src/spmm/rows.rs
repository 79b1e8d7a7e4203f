//! Sparse rows in the order a kernel reads them: offset and value interleaved, one stream.

use crate::KernelError;

/// One non-zero: where its input pixels start, and its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Entry {
    /// Offset into the input, in elements.
    pub offset: u32,
    /// Weight.
    pub value: f32,
}

/// Compressed sparse rows with bias, cut into blocks of input channels.
///
/// All rows of block 0 come first, then all rows of block 1, and so on. With more than one block a kernel adds up
/// partial sums through the output, so that the input planes of one block stay in the first-level cache.
#[derive(Clone, Debug)]
pub struct Rows {
    entries: Vec<Entry>,
    /// `starts[block * outputs + o]..[.. + 1]` are the entries of row `o` in `block`.
    starts: Vec<u32>,
    bias: Vec<f32>,
    blocks: usize,
    reach: u32,
}

impl Rows {
    /// Builds the rows.
    ///
    /// * `bias`: one per output; its length is the number of outputs.
    /// * `blocks`: number of input blocks, at least 1.
    /// * `items`: `(output, block, entry)` in the order in which they are to be added, any order of outputs and blocks.
    ///
    /// # Errors
    /// [`KernelError::TooLarge`] for 2^32 non-zeros or more.
    ///
    /// # Panics
    /// When an item names an output or a block that does not exist.
    pub fn build(bias: Vec<f32>, blocks: usize, items: &[(u32, u32, Entry)]) -> Result<Self, KernelError> {
        let too_large = KernelError::TooLarge { what: "the list of non-zeros" };
        if u32::try_from(items.len()).is_err() {
            return Err(too_large);
        }
        let outputs = bias.len();
        let Some(runs) = outputs.checked_mul(blocks) else { return Err(too_large) };
        let mut starts = vec![0u32; runs + 1];
        let run_of = |output: u32, block: u32| {
            assert!((output as usize) < outputs && (block as usize) < blocks, "item outside the rows");
            block as usize * outputs + output as usize
        };
        for &(output, block, _) in items {
            starts[run_of(output, block) + 1] += 1;
        }
        for run in 0..runs {
            starts[run + 1] += starts[run];
        }
        let mut next = starts.clone();
        let mut entries = vec![Entry { offset: 0, value: 0.0 }; items.len()];
        for &(output, block, entry) in items {
            let slot = &mut next[run_of(output, block)];
            entries[*slot as usize] = entry;
            *slot += 1;
        }
        let reach = entries.iter().map(|entry| entry.offset).max().unwrap_or(0);
        Ok(Self { entries, starts, bias, blocks, reach })
    }

    /// Number of output rows.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Number of input blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Stored non-zeros.
    pub fn nnz(&self) -> usize {
        self.entries.len()
    }

    /// Largest offset; the input must reach `reach + pixels`.
    pub fn reach(&self) -> u32 {
        self.reach
    }

    /// Bias of every row.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Entries of row `output` in `block`.
    #[inline]
    pub fn row(&self, block: usize, output: usize) -> &[Entry] {
        let run = block * self.bias.len() + output;
        &self.entries[self.starts[run] as usize..self.starts[run + 1] as usize]
    }

    /// Bytes the rows occupy in memory.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + (self.starts.len() + self.bias.len()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_block_after_block_and_keep_their_order() {
        let entry = |offset| Entry { offset, value: offset as f32 };
        let items = [(1, 1, entry(7)), (0, 0, entry(9)), (1, 0, entry(1)), (0, 0, entry(2)), (1, 1, entry(3))];
        let rows = Rows::build(vec![0.0; 3], 2, &items).unwrap();
        assert_eq!(rows.row(0, 0), [entry(9), entry(2)]);
        assert_eq!(rows.row(0, 1), [entry(1)]);
        assert_eq!(rows.row(1, 0), []);
        assert_eq!(rows.row(1, 1), [entry(7), entry(3)]);
        assert_eq!(rows.row(1, 2), []);
        assert_eq!((rows.nnz(), rows.reach(), rows.bytes()), (5, 9, 40 + 28 + 12));
    }
}
