//! Pieces of the maps of a batch that are small enough for the caches, in the order in which they are added up.

use std::ops::Range;

use crate::training::{ConvGeometry, Lanes};

/// Output pixels that are worked through before the next ones: all maps of some blocks, some rows of one block's, or a part
/// of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    /// First block of images, and how many.
    pub block: usize,
    pub blocks: usize,
    pub rows: Range<usize>,
    pub cols: Range<usize>,
}

/// How the output pixels of a batch are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    all: usize,
    output: [usize; 2],
    blocks: usize,
    rows: usize,
    cols: usize,
}

impl Bands {
    /// Bands of about `pixels` output pixels (a block's counts as one), which must be in order of block, row and column.
    pub fn new(geometry: &ConvGeometry, lanes: Lanes, pixels: usize) -> Self {
        let [height, width] = geometry.output;
        let even = |len: usize, most: usize| len.div_ceil(len.div_ceil(most.clamp(1, len.max(1))).max(1));
        let cols = even(width, pixels);
        let rows = if cols < width { 1 } else { even(height, pixels / width) };
        let blocks = if rows < height { 1 } else { even(lanes.blocks(), pixels / geometry.out_plane()) };
        Self { all: lanes.blocks(), output: geometry.output, blocks: blocks.max(1), rows, cols }
    }

    /// Bands per block, or per `blocks` of them.
    fn parts(&self) -> [usize; 2] {
        [self.output[0].div_ceil(self.rows), self.output[1].div_ceil(self.cols)]
    }

    /// Number of bands.
    pub fn count(&self) -> usize {
        let [down, across] = self.parts();
        self.all.div_ceil(self.blocks) * down * across
    }

    /// Band `index`.
    pub fn get(&self, index: usize) -> Band {
        let [down, across] = self.parts();
        let (block, row, col) = (index / (down * across), index / across % down, index % across);
        let part = |at: usize, len: usize, all: usize| at * len..((at + 1) * len).min(all);
        let blocks = part(block, self.blocks, self.all);
        Band {
            block: blocks.start,
            blocks: blocks.len(),
            rows: part(row, self.rows, self.output[0]),
            cols: part(col, self.cols, self.output[1]),
        }
    }
}

/// What two ranges have in common, perhaps nothing.
pub(super) fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pixel_is_in_one_band_and_they_follow_each_other(
            output in [1usize..20, 1usize..20], batch in 0usize..40, pixels in 1usize..200,
        ) {
            let geometry = ConvGeometry {
                groups: 1, in_channels: 1, out_channels: 1, input: output, output, kernel: [1, 1],
                stride: [1, 1], pads: [0, 0], dilation: [1, 1],
            };
            let lanes = Lanes { batch, lanes: 4 };
            let bands = Bands::new(&geometry, lanes, pixels);
            let mut order = Vec::new();
            for band in (0..bands.count()).map(|index| bands.get(index)) {
                for block in band.block..band.block + band.blocks {
                    for row in band.rows.clone() {
                        order.extend(band.cols.clone().map(|col| (block, row, col)));
                    }
                }
            }
            let map = |block| (0..output[0]).flat_map(move |row| (0..output[1]).map(move |col| (block, row, col)));
            prop_assert_eq!(order, (0..lanes.blocks()).flat_map(map).collect::<Vec<_>>());
        }
    }
}
