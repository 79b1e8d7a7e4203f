//! A convolution as a layer of a region: sparse, block-sparse or dense, all through the tile kernels of `planes`.

use std::ops::Range;
use std::sync::Arc;

use super::ConvGeometry;
use super::choice::{ChosenSource, ConvChoice};
use super::places::{Piece, Places, Widths};
use crate::planes::padded::Padded;
use crate::planes::spread::{self, Spread};
use crate::planes::tiles::{FEW_SUMS, Pass};
use crate::planes::{Item, Kernels, Layout, Rows, Segment, Values};
use crate::window::check_slabs;
use crate::{Activation, Call, Isa, KernelError, LINE, Layer, Map, layer};

/// Weights of a convolution, `[out_channels, in_channels / groups, kernel rows, kernel columns]`, bias and scales.
#[derive(Clone, Copy, Debug)]
pub struct ConvWeights<'a> {
    /// Flat indices of the weights that exist, strictly increasing; `None` means all of them.
    pub positions: Option<&'a [u32]>,
    /// One number per position.
    pub values: &'a Values,
    /// One scale per output; exactly where the values are bytes.
    pub scales: Option<&'a [f32]>,
    /// One per output, or none.
    pub bias: Option<&'a [f32]>,
}

/// What the tile kernels read.
#[derive(Debug)]
enum Source {
    /// The input map itself.
    Map,
    /// Several copies of a piece, in which every tap starts where vectors are aligned.
    Spread(Spread),
    /// One copy of a piece per phase of the stride, in which a tap starts anywhere.
    Padded(Padded),
}

impl Source {
    /// Elements of all copies of a piece.
    fn copies_len(&self, geometry: &ConvGeometry) -> usize {
        match self {
            Self::Map => 0,
            Self::Spread(spread) => spread.len(),
            Self::Padded(padded) => geometry.in_channels * padded.per_channel() + LINE,
        }
    }

    /// Elements that offsets are multiples of.
    fn unit(&self) -> usize {
        match self {
            Self::Map => LINE,
            Self::Spread(spread) => spread.unit,
            Self::Padded(_) => 1,
        }
    }
}

/// A prepared convolution.
#[derive(Debug)]
pub struct Conv {
    geometry: ConvGeometry,
    input: Map,
    output: Map,
    activation: Activation,
    choice: ConvChoice,
    kernels: Kernels,
    rows: Rows,
    source: Source,
    /// Pixels from one row to the next as the kernel counts them.
    pitch: usize,
    /// Where the pieces of a strip of a slab begin, in such pixels, those that are dropped included; and the end of the last.
    starts: Vec<usize>,
    /// Strips of `pitch` columns; one unless the input is spread.
    strips: usize,
    /// Tiles: of every piece of a slab where the map itself is read, and otherwise of all pieces but the last and of the last, strip
    /// by strip.
    places: Vec<Places>,
    macs: u64,
}

impl Conv {
    /// Prepares a convolution from planes `input` to planes `output`.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is impossible or does not fit the maps, when an index is out of order or range, when
    /// values, scales or bias have the wrong length, or when a block of channels is too large for 16-bit offsets.
    ///
    /// # Panics
    /// When this CPU lacks the instructions of `isa`.
    pub fn prepare(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        output: Map,
        weights: ConvWeights<'_>,
        activation: Activation,
        choice: ConvChoice,
    ) -> Result<Self, KernelError> {
        geometry.validate()?;
        super::check_maps(geometry, input, output)?;
        let kernels = Kernels::of(isa);
        let bias = crate::bias_or_zeros(weights.bias, geometry.out_channels)?;
        let scales = super::check_values(geometry, &weights)?;
        let (height, width) = (geometry.out_height(), geometry.out_width());

        let piece_rows = choice.piece_rows.clamp(1, height);
        let mut source = match choice.source(geometry, input) {
            ChosenSource::Map => Source::Map,
            ChosenSource::Padded => {
                Source::Padded(Padded::new(geometry, input, piece_rows, geometry.in_channels, kernels.lanes))
            }
            ChosenSource::Spread => {
                let unit = spread::unit(kernels.lanes);
                let pitch = if choice.pitch <= LINE / 2 { LINE / 2 } else { choice.pitch.next_multiple_of(unit) };
                Source::Spread(Spread::new(geometry, input, pitch, piece_rows, kernels.lanes))
            }
        };
        let pitch = match &source {
            Source::Map => width,
            Source::Spread(spread) => spread.pitch,
            Source::Padded(padded) => padded.pitch,
        };
        let pixels = height * pitch;
        let starts: Vec<usize> = match source {
            Source::Map => starts_in_map(&kernels, choice, output),
            _ => (0..pixels).step_by(piece_rows * pitch).chain([pixels]).collect(),
        };
        let pieces = starts.len() - 1;
        let strips = width.div_ceil(pitch);
        if source.copies_len(geometry) > u32::MAX as usize {
            return Err(KernelError::TooLarge { what: "the copies of the input" });
        }

        let per_block = choice.block_channels.clamp(1, geometry.in_channels);
        let offset = |channel, tap| match &mut source {
            Source::Map => channel * input.stride,
            Source::Spread(spread) => spread.offset(channel, tap),
            Source::Padded(padded) => channel * padded.per_channel() + padded.offset(tap),
        };
        let items = items(geometry, weights.positions, offset, per_block)?;
        let macs = (items.len() * height * width) as u64;
        let segments = SEGMENTED_UNITS.div_ceil(strips * pieces);
        let blocks = geometry.in_channels.div_ceil(per_block);
        let layout = Layout { group: choice.group, blocks, segments, unit: source.unit() };
        let rows = Rows::build(&layout, &items, weights.values, bias, scales)?;

        let places = |strip: usize, piece: usize| {
            let (start, rows) = (strip * pitch, (starts[piece + 1] - starts[piece]) / pitch);
            // what follows the last pixel of a plane may be overwritten, which the last vector of the last strip ends with
            let ends = strip + 1 == strips && piece + 1 == pieces;
            let room = if ends { output.stride - starts[piece] / pitch * width } else { 0 };
            let piece = Piece { rows, pitch, columns: pitch.min(width - start), width, start, room };
            Places::new(kernels.lanes, widths(&kernels, choice), piece)
        };
        let places = match source {
            Source::Map => places_in_map(&kernels, choice, output, &starts),
            _ => (0..strips).flat_map(|strip| [places(strip, 0), places(strip, pieces - 1)]).collect(),
        };
        let geometry = geometry.clone();
        let conv = Self {
            geometry,
            input,
            output,
            activation,
            choice,
            kernels,
            rows,
            source,
            pitch,
            starts,
            strips,
            places,
            macs,
        };
        conv.assert_reach();
        Ok(conv)
    }

    /// Asserts that tiles read nothing but the slab of the map, or the copies.
    fn assert_reach(&self) {
        let readable = if matches!(self.source, Source::Map) { self.input.slab_len() } else { self.copies_len() };
        let reached = self.rows.reach() + self.reached_pixels();
        assert!(self.rows.nnz() == 0 || reached <= readable, "offsets reach {reached} of {readable} elements");
    }

    fn copies_len(&self) -> usize {
        self.source.copies_len(&self.geometry)
    }

    /// Pixels from an offset on that the tiles of all pieces read.
    fn reached_pixels(&self) -> usize {
        let end =
            |places: &Places| places.tiles.last().map_or(0, |tile| tile.first + tile.vectors * self.kernels.lanes);
        match self.source {
            Source::Map => self.starts[self.pieces() - 1] + self.places.last().map_or(0, end),
            _ => self.places.iter().map(end).max().unwrap_or(0),
        }
    }

    /// The choice that this layer was prepared with.
    pub fn choice(&self) -> ConvChoice {
        self.choice
    }

    /// Sizes of the layer.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Weights that exist.
    pub fn nnz(&self) -> usize {
        self.rows.nnz()
    }

    /// Of one strip of a slab.
    fn pieces(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether some tile has so few sums that the kernels cut each in two.
    fn has_few_sums(&self) -> bool {
        let tiles = self.places.iter().flat_map(|places| &places.tiles);
        let vectors = tiles.map(|tile| tile.vectors).min().unwrap_or(0);
        let runs = self.rows.segments.iter().flat_map(|segment| &segment.runs);
        runs.map(|run| run.group * vectors).min().unwrap_or(0) <= FEW_SUMS
    }

    /// # Safety
    /// As [`Layer::run_units`] for the units of `piece` and `segments`, whose sums fit; `x` holds what the offsets lead to.
    unsafe fn run_piece(&self, piece: usize, segments: &[Segment], x: &[f32], call: &Call<'_>, sums: &mut [f32]) {
        let rows = &self.rows;
        let (slab, strip, piece) = self.place(piece);
        let first = self.starts[piece];
        let places = match self.source {
            Source::Map => &self.places[piece],
            _ => &self.places[2 * strip + usize::from(piece + 1 == self.pieces())],
        };
        let lanes = self.kernels.lanes;
        let (finished, sums) = sums.split_at_mut(self.finished_len());
        // x is read from here on, and places lead from there on
        let (from, to) = match &self.source {
            Source::Map => (slab * self.input.slab_len() + first, slab * self.output.slab_len() + first),
            _ => (0, first / self.pitch * self.geometry.out_width()),
        };
        for tile in &places.tiles {
            let places = places.of(tile);
            for block in 0..rows.blocks {
                for (run, cursor) in segments.iter().flat_map(|segment| segment.of_block(block)) {
                    let (values, scales) = match (&rows.values, &rows.scales) {
                        (Values::I8(values), Some(scales)) => {
                            (values[cursor.values..].as_ptr().cast(), scales[run.first..].as_ptr())
                        }
                        (Values::F32(values), _) => (values[cursor.values..].as_ptr(), std::ptr::null()),
                        (Values::I8(_), None) => unreachable!("bytes come with scales"),
                    };
                    let at = run.first * self.output.stride + to;
                    let sums_stride = tile.vectors * lanes;
                    let sums_at = (run.first - segments[0].outputs.start) * sums_stride;
                    let pass = Pass {
                        turns: rows.turns[cursor.turns..].as_ptr(),
                        groups: cursor.groups,
                        offsets: rows.offsets[cursor.entries..].as_ptr(),
                        unit: (self.source.unit() * size_of::<f32>()).ilog2(),
                        values,
                        bias: rows.bias[run.first..].as_ptr(),
                        scales,
                        x: x.as_ptr().wrapping_add(rows.bases[block] as usize + from + tile.first),
                        sums: sums.as_mut_ptr().wrapping_add(sums_at),
                        sums_stride,
                        y: call.y.as_mut_ptr().wrapping_add(at),
                        stride: self.output.stride,
                        residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                        whole: tile.whole,
                        places: places.as_ptr(),
                        count: places.len(),
                        finished: finished.as_mut_ptr(),
                        first: block == 0,
                        last: block + 1 == rows.blocks,
                        activation: self.activation,
                    };
                    // SAFETY: `Rows::build` made the streams as long as the counts say, and `prepare` checked how far offsets
                    // and a piece's pixels reach. `scratch_len` holds the sums of the segments and of the widest tile, and
                    // two groups of it that are finished.
                    // Places are pixels of this piece, inside of planes whose number and stride `run_units` compared with
                    // `call.y` and the residual; they are the unit's own. Narrower groups than the layer's have at least as
                    // many vectors per tile.
                    unsafe { self.kernels.pass(tile.vectors, run.group, &pass) }
                }
            }
        }
    }

    /// Copies the rows of a piece that belong to an edge of its slab to where they lie once more.
    ///
    /// # Safety
    /// As `run_piece`, which has been called.
    unsafe fn gather_edges(&self, piece: usize, segments: &[Segment], call: &Call<'_>) {
        let (map, (slab, _, piece)) = (&self.output, self.place(piece));
        let (edge, pixels) = (map.edges * map.width, map.slab_height() * map.width);
        let start = slab * map.slab_len();
        for (bottom, rows) in [(false, 0..edge), (true, pixels - edge..pixels)] {
            let (from, until) = (rows.start.max(self.starts[piece]), rows.end.min(self.starts[piece + 1]));
            if from >= until {
                continue;
            }
            for output in segments.iter().flat_map(|segment| segment.outputs.clone()) {
                let to = start + map.edge(bottom, output) + from - rows.start;
                // SAFETY: `run_units` compared the map with `call.y`; the pixels are the unit's own, and so is where they lie once more.
                unsafe {
                    let y = call.y.as_mut_ptr();
                    y.add(start + output * map.stride + from).copy_to_nonoverlapping(y.add(to), until - from);
                }
            }
        }
    }

    /// Slab and strip of a piece, and its number there: row by row, so that threads share a map from top to bottom whatever layers
    /// cut it into.
    fn place(&self, piece: usize) -> (usize, usize, usize) {
        let number = piece / self.strips;
        (number / self.pieces(), piece % self.strips, number % self.pieces())
    }

    /// Elements of the widest tile of an output.
    fn tile_len(&self) -> usize {
        let vectors = self.places.iter().flat_map(|places| &places.tiles).map(|tile| tile.vectors);
        vectors.max().unwrap_or(1) * self.kernels.lanes
    }

    fn finished_len(&self) -> usize {
        2 * self.choice.group * self.tile_len()
    }

    fn sums_len(&self) -> usize {
        let longest = self.rows.segments.iter().map(|segment| segment.outputs.len()).max().unwrap_or(0);
        let most = longest.max(self.sums_outputs()).min(self.geometry.out_channels);
        if self.rows.blocks > 1 { most * self.tile_len() } else { 0 }
    }

    /// Outputs whose sums fit into their part of the second-level cache.
    fn sums_outputs(&self) -> usize {
        SUMS / (self.tile_len() * size_of::<f32>())
    }

    /// The longest part of `segments` from the first one on that is run at once: all that fits where sums wait between blocks.
    fn together<'a>(&self, segments: &'a [Segment]) -> &'a [Segment] {
        let first = segments.first().map_or(0, |segment| segment.outputs.start);
        let fits = |segment: &Segment| self.rows.blocks == 1 || segment.outputs.end - first <= self.sums_outputs();
        &segments[..segments.iter().take_while(|segment| fits(segment)).count().max(1)]
    }
}

/// Bytes of sums that wait between blocks.
const SUMS: usize = 64 << 10;
/// Pieces times segments that a layer is cut into, at least where it has the outputs: what threads share.
const SEGMENTED_UNITS: usize = 8;

impl Layer for Conv {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.output.slabs * self.strips * self.pieces() * self.rows.segments.len()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        let (piece, segment) = (unit / self.rows.segments.len(), unit % self.rows.segments.len());
        let (.., piece) = self.place(piece);
        let pixels = self.starts[piece + 1] - self.starts[piece];
        let segment = &self.rows.segments[segment];
        (pixels * (segment.entries + 8 * segment.outputs.len())) as u64
    }

    fn scratch_len(&self) -> usize {
        self.copies_len() + self.finished_len() + self.sums_len() + 3 * LINE
    }

    fn in_slabs(&self, input: Map, output: Map) -> Option<Arc<dyn Layer>> {
        let on_lines = |map: Map| map.stride.is_multiple_of(LINE);
        let alike = input.slabs == output.slabs && on_lines(self.input) && on_lines(input) && on_lines(output);
        if !alike || !matches!(self.source, Source::Map) {
            return None;
        }
        for (what, map, expected) in [("input", input, self.input), ("output", output, self.output)] {
            check_slabs(what, Map::tight(expected.channels, expected.height, expected.width), map).ok()?;
        }
        let starts = starts_in_map(&self.kernels, self.choice, output);
        let places = places_in_map(&self.kernels, self.choice, output, &starts);
        let rows = self.rows.moved(self.input.stride, input.stride)?;
        let conv = Self {
            geometry: self.geometry.clone(),
            input,
            output,
            activation: self.activation,
            choice: self.choice,
            kernels: self.kernels,
            rows,
            source: Source::Map,
            pitch: self.pitch,
            starts,
            strips: self.strips,
            places,
            macs: self.macs,
        };
        conv.assert_reach();
        // a sum cut in two is another sum
        (!self.has_few_sums() && !conv.has_few_sums()).then(|| Arc::new(conv) as Arc<dyn Layer>)
    }

    unsafe fn run_units(&self, mut units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        let (copies, sums) = scratch.split_at_mut(self.copies_len().next_multiple_of(LINE));
        let segments = self.rows.segments.len();
        while !units.is_empty() {
            // all segments of a piece that there are
            let piece = units.start / segments;
            let end = units.end.min((piece + 1) * segments);
            let mut left = &self.rows.segments[units.start - piece * segments..end - piece * segments];
            units.start = end;
            let (_, strip, number) = self.place(piece);
            let x = match &self.source {
                Source::Map => call.x,
                Source::Spread(spread) => {
                    let row = self.starts[number] / self.pitch;
                    spread.fill(&self.kernels, call.x, strip, row, copies);
                    &*copies
                }
                Source::Padded(padded) => {
                    padded.fill(&self.kernels, call.x, number, 0, self.geometry.in_channels, copies);
                    &*copies
                }
            };
            while !left.is_empty() {
                let part = self.together(left);
                // SAFETY: by this function's contract and the checks above.
                unsafe {
                    self.run_piece(piece, part, x, call, sums);
                    self.gather_edges(piece, part, call);
                }
                left = &left[part.len()..];
            }
        }
    }

    fn sums_in_file_order(&self) -> bool {
        self.rows.scales.is_none() && !self.has_few_sums()
    }

    fn weight_bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn kernel(&self) -> String {
        let values = if self.rows.scales.is_some() { "i8" } else { "f32" };
        let (pixels, group) = (self.tile_len(), self.choice.group);
        let source = if matches!(self.source, Source::Padded(_)) { "padded" } else { "planes" };
        format!("{values}_{source}_{pixels}x{group}_{}", self.kernels.isa.name())
    }
}

fn widths(kernels: &Kernels, choice: ConvChoice) -> Widths {
    let most = kernels.most_vectors(choice.group);
    Widths { wanted: choice.vectors.clamp(1, most), least: FEW_SUMS / choice.group + 1, most }
}

/// Where the pieces of a slab begin if the map itself is read, and the end of the last: whole tiles, and beginnings of lines.
fn starts_in_map(kernels: &Kernels, choice: ConvChoice, output: Map) -> Vec<usize> {
    let Widths { wanted, least, .. } = widths(kernels, choice);
    let rows = choice.piece_rows.clamp(1, output.slab_height());
    let (pixels, tile) = (output.slab_height() * output.width, wanted * kernels.lanes);
    let lines = pixels.div_ceil(LINE);
    let mut pieces = pixels.div_ceil((rows * output.width).next_multiple_of(tile));
    while pieces > 1 && lines / pieces * LINE < least * kernels.lanes {
        pieces -= 1;
    }
    (0..=pieces).map(|piece| (piece * lines / pieces * LINE).min(pixels)).collect()
}

/// The tiles of these pieces.
fn places_in_map(kernels: &Kernels, choice: ConvChoice, output: Map, starts: &[usize]) -> Vec<Places> {
    let place = |piece: &[usize]| {
        let (count, ends) = (piece[1] - piece[0], Some(&piece[1]) == starts.last());
        let room = if ends { output.stride - piece[0] } else { 0 };
        let piece = Piece { rows: 1, pitch: count, columns: count, width: count, start: 0, room };
        Places::new(kernels.lanes, widths(kernels, choice), piece)
    };
    starts.windows(2).map(place).collect()
}

/// One item per weight, in order of outputs.
fn items(
    geometry: &ConvGeometry,
    positions: Option<&[u32]>,
    mut offset: impl FnMut(usize, [usize; 2]) -> usize,
    per_block: usize,
) -> Result<Vec<Item>, KernelError> {
    let weights = geometry.weights().expect("validate() found that the weights fit 32 bits");
    let [kernel_rows, kernel_columns] = geometry.kernel;
    let taps = kernel_rows * kernel_columns;
    let group_inputs = geometry.in_channels / geometry.groups;
    let group_outputs = geometry.out_channels / geometry.groups;
    let mut item = |index: usize, value: usize| {
        let (filter, tap) = (index / taps, index % taps);
        let (output, input) = (filter / group_inputs, filter % group_inputs);
        let channel = output / group_outputs * group_inputs + input;
        let offset = offset(channel, [tap / kernel_columns, tap % kernel_columns]);
        let order = channel * taps + tap;
        // validate() holds maps and weights below 2^31 elements, `prepare` copies below 2^32
        let [output, block, order, offset] = [output, channel / per_block, order, offset].map(|number| number as u32);
        Item { output, block, order, offset, value: value as u32 }
    };
    let Some(positions) = positions else { return Ok((0..weights).map(|index| item(index, index)).collect()) };
    let mut previous = None;
    let mut items = Vec::with_capacity(positions.len());
    for (value, &index) in positions.iter().enumerate() {
        if index as usize >= weights {
            return Err(KernelError::IndexOutside { index, len: weights });
        }
        if let Some(previous) = previous.filter(|previous| *previous >= index) {
            return Err(KernelError::IndexOrder { previous, index });
        }
        previous = Some(index);
        items.push(item(index as usize, value));
    }
    Ok(items)
}
