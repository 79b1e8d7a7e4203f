//! Which ways to run a dense convolution are worth timing.

use super::Kernels;
use super::layer::DenseChoice;
use crate::Isa;
use crate::conv::ConvGeometry;

/// Bytes of first-level cache that a tile's input should fit into.
const FIRST_LEVEL: usize = 24 << 10;
/// Bytes of second-level cache that the copies of one piece and block, and what waits of its sums, should fit into.
const SECOND_LEVEL: usize = 384 << 10;
/// Entries of a block, at least: fewer do not pay for loading and storing the sums once more.
const LEAST_ENTRIES: usize = 96;

impl DenseChoice {
    /// What is worth timing, the likely best first.
    pub fn candidates(isa: Isa, geometry: &ConvGeometry) -> Vec<Self> {
        let shapes: &[(usize, usize)] = match isa {
            Isa::Avx512 => &[(8, 3), (6, 4), (12, 2)],
            Isa::Avx2 => &[(6, 2)],
            Isa::Neon => &[(8, 3), (12, 2)],
            Isa::Neon32 => &[(4, 3)],
            Isa::Scalar => &[(4, 1)],
        };
        let mut choices: Vec<Self> = Vec::new();
        for (outputs, vectors) in shapes {
            let choice = Self::guess(isa, geometry, *outputs, *vectors);
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        choices
    }

    /// Sizes of pieces and blocks for tiles of `outputs` by `vectors`.
    pub fn guess(isa: Isa, geometry: &ConvGeometry, outputs: usize, vectors: usize) -> Self {
        let kernels = Kernels::of(isa);
        let (height, width) = (geometry.out_height(), geometry.out_width());
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let channels = geometry.in_channels / geometry.groups;
        let tile = (vectors * kernels.lanes).min(height * width);
        // every kernel row and column phase reads a line more than the tile's pixels
        let phases = geometry.kernel[1].min(geometry.stride[1]);
        let bytes = 4 * (tile + 16) * geometry.kernel[0] * phases;
        let bytes = if taps == 1 { 4 * tile } else { bytes };
        let blocks = (channels * bytes).div_ceil(FIRST_LEVEL).min((channels * taps / LEAST_ENTRIES).max(1));
        let block_channels = channels.div_ceil(blocks);
        let row_copies = 4 * block_channels * geometry.groups * geometry.in_width * geometry.stride[0];
        let row_sums = if blocks > 1 { 4 * geometry.out_channels * width } else { 0 };
        let rows = (SECOND_LEVEL / row_copies.max(row_sums)).clamp(1, height);
        let pieces = height.div_ceil(rows);
        Self { outputs, vectors, piece_rows: height.div_ceil(pieces), block_channels }
    }
}
