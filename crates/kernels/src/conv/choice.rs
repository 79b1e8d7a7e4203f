//! How a convolution may be run: the parameters of the tile kernels, and which settings are worth timing.

use super::ConvGeometry;
use crate::planes::tiles::FEW_SUMS;
use crate::planes::{Kernels, padded, spread};
use crate::{Isa, LINE, Map};

/// One way to run a convolution; all give results that differ in rounding only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvChoice {
    /// Outputs that share every entry: 1, 2, 4 or 8. Positions that only some of them have are filled up with zeros.
    pub group: usize,
    /// Vectors of pixels per tile, at most; more where pixels are so few that tiles would be idle otherwise.
    pub vectors: usize,
    /// Columns of one strip of the input's aligned copies; those beyond the width of the output are computed and dropped. 0 for
    /// one padded copy (per phase of the stride), in which taps start anywhere. Of no account where the map itself is read.
    pub pitch: usize,
    /// Output rows of one piece, which is computed from one filling of the copies; about as many where the map itself is read.
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
/// The same where blocks have as few channels as pay, and only the width of tiles is to be chosen: 40 of 48 KB gave the best times
/// (with 128 channels 10 vectors of 8 pixels, 5 to 10 % faster than 13; of 16 pixels 5 to 7, 10 to 20 % faster).
const FIRST_LEVEL_OF_TILES: usize = 40 << 10;
/// Pixels of a tile below which its rows cost more than what the cache saves.
const LEAST_PIXELS: usize = 5 * LINE;
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
        let vectors = cached_vectors(isa, geometry, input, nnz, group);
        Self::fitted(isa, geometry, input, nnz, group, vectors, pitches(isa, geometry)[0])
    }

    /// What is worth timing, the guess first.
    pub fn candidates(isa: Isa, geometry: &ConvGeometry, input: Map, nnz: usize, group: usize) -> Vec<Self> {
        let with = |vectors, pitch| Self::fitted(isa, geometry, input, nnz, group, vectors, pitch);
        let pitches = pitches(isa, geometry);
        let guess = with(cached_vectors(isa, geometry, input, nnz, group), pitches[0]);
        let widest = with(usize::MAX, pitches[0]);
        let mut choices = vec![guess, widest];
        choices.extend(pitches.iter().map(|pitch| with(usize::MAX, *pitch)));
        choices.push(with(widest.vectors.div_ceil(2), guess.pitch));
        let reached = Reads::new(isa, geometry, input, guess).most_channels(guess.piece_rows);
        choices.push(Self { block_channels: geometry.in_channels.min(reached), ..guess });
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
        let reads = Reads::new(isa, geometry, input, choice);
        let all = (height * reads.row).div_ceil(kernels.lanes);
        let most = kernels.most_vectors(group).min(vectors).min(all);
        // tiles of equal width
        let equal = |vectors: usize| vectors.div_ceil(vectors.div_ceil(most));
        choice.vectors = equal(all);
        let tile = choice.vectors * kernels.lanes;
        let by_rows = height * width > SHARED_BY_ROWS;
        if reads.source == ChosenSource::Map {
            choice.pitch = PADDED;
            choice.piece_rows = if by_rows { (tile / width).max(1) } else { height };
        } else {
            let vectors = |rows: usize| (rows * reads.row).div_ceil(kernels.lanes);
            // the last piece has fewer rows, and the same tiles
            let busy = |rows: usize, last: usize| {
                let (widest, last) = (equal(vectors(rows)), vectors(last));
                group * (last / last.div_ceil(widest)) > FEW_SUMS
            };
            choice.piece_rows = reads.piece_rows(geometry, tile, by_rows, busy);
            choice.vectors = equal(vectors(choice.piece_rows));
        }
        let bytes =
            if reads.source == ChosenSource::Map { tile * 4 } else { reads.elements(tile.div_ceil(reads.row)) * 4 };
        let block = block(geometry.in_channels, bytes, nnz / geometry.out_channels);
        choice.block_channels = block.min(reads.most_channels(choice.piece_rows));
        choice
    }
}

/// What the tiles read of one channel.
struct Reads {
    source: ChosenSource,
    /// Elements from one row of pixels to the next.
    row: usize,
    /// Copies of a piece.
    copies: usize,
    /// Rows that a copy has beyond those of the piece.
    below: usize,
    /// Elements from one plane of the input to the next.
    stride: usize,
    /// Elements that offsets count in.
    unit: usize,
}

impl Reads {
    fn new(isa: Isa, geometry: &ConvGeometry, input: Map, choice: ConvChoice) -> Self {
        let ([kernel_rows, columns], [down, across]) = (geometry.kernel, geometry.stride);
        let source = choice.source(geometry, input);
        let unit = spread::unit(Kernels::of(isa).lanes);
        // rows that a unit does not divide need another copy for each of their misalignments
        let misaligned = if choice.pitch.is_multiple_of(unit) { 1 } else { 2 };
        let (row, copies, unit) = match source {
            ChosenSource::Map => (geometry.out_width(), 0, LINE),
            ChosenSource::Spread => (choice.pitch, columns * kernel_rows.min(down) * misaligned, unit),
            ChosenSource::Padded => (padded::pitch(geometry), kernel_rows.min(down) * columns.min(across), 1),
        };
        Self { source, row, copies, below: kernel_rows * geometry.dilation[0] / down, stride: input.stride, unit }
    }

    /// Elements that the copies take for `rows` rows of the output.
    fn elements(&self, rows: usize) -> usize {
        self.copies * (rows + self.below) * self.row
    }

    /// Elements that offsets within one channel reach, at most; copies are rounded up to lines.
    fn reach(&self, rows: usize) -> usize {
        if self.source == ChosenSource::Map { self.stride } else { self.elements(rows) + 4 * LINE * self.copies }
    }

    /// Channels that 16-bit offsets reach.
    fn most_channels(&self, rows: usize) -> usize {
        (usize::from(u16::MAX) * self.unit / self.reach(rows)).max(1)
    }

    /// Output rows of a piece, about as many for all: as the second-level cache holds copies of, at least two pieces where threads
    /// share the map by rows, and so that the tiles of pieces and of the last have `busy` sums if that can be had.
    fn piece_rows(
        &self,
        geometry: &ConvGeometry,
        tile: usize,
        by_rows: bool,
        busy: impl Fn(usize, usize) -> bool,
    ) -> usize {
        let height = geometry.out_height();
        let bytes = |rows: usize| geometry.in_channels * self.elements(rows) * 4;
        let reached = |rows: usize| self.reach(rows) <= usize::from(u16::MAX) * self.unit;
        let tile_rows = (tile / self.row).max(1);
        // pieces of few channels stay in the first-level cache from copying to multiplying
        let first = self.source == ChosenSource::Padded && bytes(tile_rows) <= FIRST_LEVEL;
        let cached = if first { FIRST_LEVEL } else { SECOND_LEVEL };
        let fits = |rows: usize| reached(rows) && bytes(rows) <= cached;
        let most = (1..=height).rev().find(|rows| reached(*rows) && (*rows <= tile_rows || fits(*rows))).unwrap_or(1);
        let halves = by_rows && height >= 2 * tile_rows;
        let wanted = height.div_ceil(most).max(if halves { 2 } else { 1 });
        let even = |pieces: usize| height.div_ceil(pieces);
        // rows of the last piece
        let last = |pieces: usize| (height - 1) % even(pieces) + 1;
        let good = |pieces: &usize| busy(even(*pieces), last(*pieces)) && reached(even(*pieces));
        even((1..=wanted).rev().find(good).unwrap_or(wanted))
    }
}

/// Maps of more pixels are cut into pieces so that threads share them from top to bottom, others by their outputs. Of small planes each
/// thread would have a few lines only, while processors fetch what lies behind them too, which is the other's: layers of 512 planes
/// of 14x14 took two threads 39 us by rows, 31 by planes, and one thread 25; of 128 planes of 28x28 13 by rows and 20 by planes.
const SHARED_BY_ROWS: usize = 24 * LINE;

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

/// Vectors per tile so that what it reads of a block of the map itself stays in the first-level cache; copies are cut to fit anyway.
fn cached_vectors(isa: Isa, geometry: &ConvGeometry, input: Map, nnz: usize, group: usize) -> usize {
    let lanes = Kernels::of(isa).lanes;
    let choice = ConvChoice { group, vectors: 1, pitch: PADDED, piece_rows: 1, block_channels: 1 };
    if choice.source(geometry, input) != ChosenSource::Map {
        return usize::MAX;
    }
    let block = geometry.in_channels.div_ceil(paying_blocks(nnz / geometry.out_channels));
    let cached = FIRST_LEVEL_OF_TILES / (block * lanes * size_of::<f32>());
    cached.max(LEAST_PIXELS.div_ceil(lanes)).max((FEW_SUMS + 1).div_ceil(group))
}

/// Channels per block: as many as fit into the first-level cache, but not so few that the sums are loaded and stored for
/// less than a dozen entries.
fn block(channels: usize, bytes_per_channel: usize, entries_per_row: usize) -> usize {
    let cached = (channels * bytes_per_channel).div_ceil(FIRST_LEVEL);
    channels.div_ceil(cached.min(paying_blocks(entries_per_row)))
}

/// Blocks, at most, whose rows have enough entries.
fn paying_blocks(entries_per_row: usize) -> usize {
    (entries_per_row / ENTRIES_PER_BLOCK).max(1)
}

/// Fewer entries per row and block than this do not pay for loading and storing the sums once more.
const ENTRIES_PER_BLOCK: usize = 12;
