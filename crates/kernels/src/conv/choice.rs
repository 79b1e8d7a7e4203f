//! How a convolution may be run: the parameters of the tile kernels, and which settings are worth timing.

use super::ConvGeometry;
use crate::planes::Kernels;
use crate::{Isa, LINE, Map};

/// One way to run a convolution; all give results that differ in rounding only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvChoice {
    /// Outputs that share every entry: 1, 2, 4 or 8. Positions that only some of them have are filled up with zeros.
    pub group: usize,
    /// Vectors of pixels per tile, at most.
    pub vectors: usize,
    /// Columns of one strip of the spread input; those beyond the width of the output are computed and dropped.
    pub pitch: usize,
    /// Output rows that are computed from one filling of the copies.
    pub piece_rows: usize,
    /// Input channels per block, so that what a tile reads of one stays in the first-level cache.
    pub block_channels: usize,
}

/// Bytes of first-level cache that a tile's input should fit into.
const FIRST_LEVEL: usize = 32 << 10;
/// Bytes of second-level cache that the copies of one piece should fit into.
const SECOND_LEVEL: usize = 512 << 10;

impl ConvChoice {
    /// Whether a convolution of one tap reads its input map without copies.
    pub(crate) fn is_direct(&self, geometry: &ConvGeometry, input: Map) -> bool {
        geometry.kernel == [1, 1]
            && geometry.stride == [1, 1]
            && geometry.pads == [0; 4]
            && input.stride.is_multiple_of(LINE)
    }

    /// A good guess for `nnz` weights with `group` outputs per entry.
    pub fn guess(isa: Isa, geometry: &ConvGeometry, input: Map, nnz: usize, group: usize) -> Self {
        Self::with_vectors(isa, geometry, input, nnz, group, usize::MAX)
    }

    /// As [`ConvChoice::guess`], with at most `vectors` vectors per tile.
    pub fn with_vectors(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        nnz: usize,
        group: usize,
        vectors: usize,
    ) -> Self {
        let kernels = Kernels::of(isa);
        let (height, width) = (geometry.out_height(), geometry.out_width());
        // rows of two lines follow each other in the output too, so that whole vectors are stored one after another
        let pitch = match width {
            ..=8 => 8,
            _ if width == 2 * LINE => width,
            _ => LINE,
        };
        let mut choice = Self { group, vectors: 1, pitch, piece_rows: height, block_channels: geometry.in_channels };
        let direct = choice.is_direct(geometry, input);
        let plane = if direct { height * width } else { height * pitch };
        let all = plane.div_ceil(kernels.lanes);
        let most = kernels.most_vectors(group).min(vectors).min(all);
        // tiles of equal width
        choice.vectors = all.div_ceil(all.div_ceil(most));
        let tile = choice.vectors * kernels.lanes;
        if direct {
            // pieces are what threads share
            choice.piece_rows = (4 * tile).div_ceil(width).min(height);
            let per_channel = tile * 4;
            choice.block_channels = block(geometry.in_channels, per_channel, nnz / geometry.out_channels);
            return choice;
        }
        let columns = geometry.kernel[1];
        let [rows, step] = [geometry.kernel[0] * geometry.dilation[0], geometry.stride[0]];
        let copies = columns * geometry.kernel[0].min(step) * if pitch % LINE == 0 { 1 } else { 2 };
        let bytes = |output_rows: usize| geometry.in_channels * copies * (output_rows + rows / step) * pitch * 4;
        let tile_rows = tile.div_ceil(pitch).max(1);
        choice.piece_rows = tile_rows;
        while choice.piece_rows < height && bytes(choice.piece_rows + tile_rows) <= SECOND_LEVEL {
            choice.piece_rows += tile_rows;
        }
        choice.piece_rows = choice.piece_rows.min(height);
        let per_channel = copies * (tile_rows + rows / step) * pitch * 4;
        choice.block_channels = block(geometry.in_channels, per_channel, nnz / geometry.out_channels);
        choice
    }
}

/// Channels per block: as many as fit into the first-level cache, but not so few that the sums are loaded and stored for
/// less than a dozen entries.
fn block(channels: usize, bytes_per_channel: usize, entries_per_row: usize) -> usize {
    let cached = (channels * bytes_per_channel).div_ceil(FIRST_LEVEL);
    let paying = (entries_per_row / ENTRIES_PER_BLOCK).max(1);
    channels.div_ceil(cached.min(paying))
}

/// Fewer entries per row and block than this do not pay for loading and storing the sums once more.
const ENTRIES_PER_BLOCK: usize = 12;
