//! How a convolution may be run: the parameters of the tile kernels, and which settings are worth timing.

use super::ConvGeometry;
use crate::planes::{Kernels, padded, spread};
use crate::{Isa, LINE, Map};

/// One way to run a convolution; all give results that differ in rounding only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvChoice {
    /// Outputs that share every entry: 1, 2, 4 or 8. Positions that only some of them have are filled up with zeros.
    pub group: usize,
    /// Vectors of pixels per tile, at most.
    pub vectors: usize,
    /// Columns of one strip of the input's aligned copies; those beyond the width of the output are computed and dropped. 0 for
    /// one padded copy, in which taps start anywhere.
    pub pitch: usize,
    /// Output rows that are computed from one filling of the copies.
    pub piece_rows: usize,
    /// Input channels per block, so that what a tile reads of one stays in the first-level cache.
    pub block_channels: usize,
}

/// What the tile kernels read, see [`ConvChoice::pitch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChosenSource {
    Map,
    Spread,
    Padded,
}

/// Bytes of first-level cache that a tile's input should fit into.
const FIRST_LEVEL: usize = 32 << 10;
/// Bytes of second-level cache that the copies of one piece should fit into.
const SECOND_LEVEL: usize = 576 << 10;

impl ConvChoice {
    /// What the tile kernels read.
    pub(crate) fn source(&self, geometry: &ConvGeometry, input: Map) -> ChosenSource {
        let one_tap = geometry.kernel == [1, 1] && geometry.stride == [1, 1] && geometry.pads == [0; 4];
        if one_tap && input.stride.is_multiple_of(LINE) {
            ChosenSource::Map
        } else if self.pitch == 0 {
            ChosenSource::Padded
        } else {
            ChosenSource::Spread
        }
    }

    /// A good guess for `nnz` weights with `group` outputs per entry.
    pub fn guess(isa: Isa, geometry: &ConvGeometry, input: Map, nnz: usize, group: usize) -> Self {
        let pitch = pitches(isa, geometry)[0];
        Self::fitted(isa, geometry, input, nnz, group, usize::MAX, pitch)
    }

    /// What is worth timing, the guess first.
    pub fn candidates(isa: Isa, geometry: &ConvGeometry, input: Map, nnz: usize, group: usize) -> Vec<Self> {
        let with = |vectors, pitch| Self::fitted(isa, geometry, input, nnz, group, vectors, pitch);
        let pitches = pitches(isa, geometry);
        let guess = with(usize::MAX, pitches[0]);
        let mut choices: Vec<Self> = pitches.iter().map(|pitch| with(usize::MAX, *pitch)).collect();
        choices.push(with(guess.vectors.div_ceil(2), guess.pitch));
        choices.push(Self { block_channels: geometry.in_channels, ..guess });
        let mut different = Vec::with_capacity(choices.len());
        for choice in choices {
            if !different.contains(&choice) {
                different.push(choice);
            }
        }
        different
    }

    /// Tiles of at most `vectors` vectors, with pieces and blocks that fit the caches.
    fn fitted(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        nnz: usize,
        group: usize,
        vectors: usize,
        pitch: usize,
    ) -> Self {
        let kernels = Kernels::of(isa);
        let (height, width) = (geometry.out_height(), geometry.out_width());
        let mut choice = Self { group, vectors: 1, pitch, piece_rows: height, block_channels: geometry.in_channels };
        let source = choice.source(geometry, input);
        // pixels from one row to the next
        let row = match source {
            ChosenSource::Map => width,
            ChosenSource::Spread => pitch,
            ChosenSource::Padded => padded::pitch(geometry),
        };
        let all = (height * row).div_ceil(kernels.lanes);
        let most = kernels.most_vectors(group).min(vectors).min(all);
        // tiles of equal width
        choice.vectors = all.div_ceil(all.div_ceil(most));
        let tile = choice.vectors * kernels.lanes;
        let tile_rows = tile.div_ceil(row).max(1);
        let entries = nnz / geometry.out_channels;
        if source == ChosenSource::Map {
            // pieces are what threads share: a tile each, all about the same
            let output = Map::tight(geometry.out_channels, height, width);
            let pieces = if output.is_shared_by_rows() { output.pixels().div_ceil(tile) } else { 1 };
            choice.piece_rows = (height * width).div_ceil(pieces).div_ceil(width);
            choice.block_channels = block(geometry.in_channels, tile * 4, entries);
            return choice;
        }
        let [kernel_rows, columns] = geometry.kernel;
        let [down, across] = geometry.stride;
        let copies = match source {
            ChosenSource::Padded => kernel_rows.min(down) * columns.min(across),
            // rows that a unit does not divide need another copy for each of their misalignments
            _ => {
                columns * kernel_rows.min(down) * if pitch.is_multiple_of(spread::unit(kernels.lanes)) { 1 } else { 2 }
            }
        };
        let below = kernel_rows * geometry.dilation[0] / down;
        let elements = |output_rows: usize| copies * (output_rows + below) * row;
        let bytes = |output_rows: usize| geometry.in_channels * elements(output_rows) * 4;
        // pieces of few channels stay in the first-level cache from copying to multiplying
        let cached =
            if source == ChosenSource::Padded && bytes(tile_rows) <= FIRST_LEVEL { FIRST_LEVEL } else { SECOND_LEVEL };
        choice.piece_rows = tile_rows;
        while choice.piece_rows < height && bytes(choice.piece_rows + tile_rows) <= cached {
            choice.piece_rows += tile_rows;
        }
        // about the same for all pieces, and two at least
        let least = if height >= 2 * tile_rows { 2 } else { 1 };
        let pieces = height.div_ceil(choice.piece_rows).max(least);
        choice.piece_rows = height.div_ceil(pieces).next_multiple_of(tile_rows).min(height);
        choice.block_channels = block(geometry.in_channels, elements(tile_rows) * 4, entries);
        if source == ChosenSource::Padded {
            // offsets of 16 bits count elements there
            let most = (usize::from(u16::MAX) / (elements(choice.piece_rows) + 4 * LINE * copies)).max(1);
            choice.block_channels = choice.block_channels.min(most);
        }
        choice
    }
}

/// Pitches that are worth timing, the likely best first.
fn pitches(isa: Isa, geometry: &ConvGeometry) -> Vec<usize> {
    let width = geometry.out_width();
    let narrow = LINE / 2;
    // rows of two lines follow each other in the output too, so that whole vectors are stored one after another
    let lines = if width == 2 * LINE { width } else { LINE };
    let short = Kernels::of(isa).lanes <= narrow;
    let strips = if width <= narrow || short && !width.is_multiple_of(LINE) { narrow } else { lines };
    // every second pixel of every second row: one tap needs one copy of the others only
    if geometry.kernel == [1, 1] || short && geometry.stride != [1, 1] && width > LINE {
        vec![PADDED, strips]
    } else {
        vec![strips, PADDED]
    }
}

/// The pitch that stands for one padded copy.
const PADDED: usize = 0;

/// Channels per block: as many as fit into the first-level cache, but not so few that the sums are loaded and stored for
/// less than a dozen entries.
fn block(channels: usize, bytes_per_channel: usize, entries_per_row: usize) -> usize {
    let cached = (channels * bytes_per_channel).div_ceil(FIRST_LEVEL);
    let paying = (entries_per_row / ENTRIES_PER_BLOCK).max(1);
    channels.div_ceil(cached.min(paying))
}

/// Fewer entries per row and block than this do not pay for loading and storing the sums once more.
const ENTRIES_PER_BLOCK: usize = 12;
