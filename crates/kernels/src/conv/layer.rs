//! A convolution as a layer of a region: sparse, block-sparse or dense, all through the tile kernels of `planes`.

use std::ops::Range;

use super::ConvGeometry;
use super::choice::ConvChoice;
use super::places::Places;
use crate::planes::spread::Spread;
use crate::planes::tiles::{FEW_SUMS, Pass};
use crate::planes::{Item, Kernels, Layout, Rows, Values};
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
    /// Copies of the input; `None` where the map itself is read.
    spread: Option<Spread>,
    /// Pixels of one strip of the output as the kernel counts them, columns that are dropped included.
    pixels: usize,
    /// Such pixels of one piece, a multiple of [`LINE`] except in the last of a strip.
    piece: usize,
    /// Strips of `pitch` columns; one where the map itself is read.
    strips: usize,
    /// Where the vectors of a piece belong, by strip: of all pieces but the last, and of the last.
    places: Vec<[Places; 2]>,
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

        let direct = choice.is_direct(geometry, input);
        let pitch = if direct { width } else { strip(choice.pitch) };
        let piece_rows = choice.piece_rows.clamp(1, height);
        let mut spread = (!direct).then(|| Spread::new(geometry, input, pitch, piece_rows, kernels.lanes));
        let pixels = height * pitch;
        // a map read in place is cut at lines
        let piece = if direct { (piece_rows * pitch).next_multiple_of(LINE).min(pixels) } else { piece_rows * pitch };
        let strips = width.div_ceil(pitch);

        let per_block = choice.block_channels.clamp(1, geometry.in_channels);
        let offset = |channel, tap| match &mut spread {
            Some(spread) => spread.offset(channel, tap),
            None => channel * input.stride,
        };
        let items = items(geometry, weights.positions, offset, per_block)?;
        let macs = (items.len() * height * width) as u64;
        let segments = SEGMENTED_UNITS.div_ceil(strips * pixels.div_ceil(piece));
        let blocks = geometry.in_channels.div_ceil(per_block);
        let layout = Layout { group: choice.group, blocks, segments };
        let rows = Rows::build(&layout, &items, weights.values, bias, scales)?;

        let last = pixels - (pixels - 1) / piece * piece;
        let places = |strip: usize, count: usize, room: usize| match direct {
            true => Places::line(kernels.lanes, count, room),
            false => Places::strip(kernels.lanes, pitch, count / pitch, width, strip, room),
        };
        // what follows the last pixel of a plane may be overwritten, which the last vector of the last strip ends with
        let before = pixels - last;
        let room = output.stride - if direct { before } else { before / pitch * width };
        let room = |strip: usize| if strip + 1 == strips { room } else { 0 };
        let places = (0..strips).map(|strip| [places(strip, piece, 0), places(strip, last, room(strip))]).collect();
        let geometry = geometry.clone();
        let conv = Self {
            geometry,
            input,
            output,
            activation,
            choice,
            kernels,
            rows,
            spread,
            pixels,
            piece,
            strips,
            places,
            macs,
        };
        let readable = conv.spread.as_ref().map_or(input.len(), Spread::len);
        let reached = conv.rows.reach() + conv.reached_pixels();
        assert!(conv.rows.nnz() == 0 || reached <= readable, "offsets reach {reached} of {readable} elements");
        Ok(conv)
    }

    /// Pixels from an offset on that the tiles of all pieces read.
    fn reached_pixels(&self) -> usize {
        let pixels = if self.spread.is_some() { self.piece } else { self.pixels };
        pixels.next_multiple_of(self.kernels.lanes)
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

    fn pieces_per_strip(&self) -> usize {
        self.pixels.div_ceil(self.piece)
    }

    fn vectors_per_tile(&self, group: usize) -> usize {
        self.choice.vectors.clamp(1, self.kernels.most_vectors(group))
    }

    /// # Safety
    /// As [`Layer::run_units`] for the unit of `piece` and `segment`; `x` holds what the offsets lead to.
    unsafe fn unit(&self, piece: usize, segment: usize, x: &[f32], call: &Call<'_>, sums: &mut [f32]) {
        let rows = &self.rows;
        let segment = &rows.segments[segment];
        let (strip, first) = self.start(piece);
        let count = self.piece.min(self.pixels - first);
        let places = &self.places[strip][usize::from(first + count == self.pixels)];
        let lanes = self.kernels.lanes;
        let vectors = count.div_ceil(lanes);
        let width = self.geometry.out_width();
        // x is read from here on, and places lead from there on
        let (from, to) = match &self.spread {
            None => (first, first),
            Some(spread) => (0, first / spread.pitch * width),
        };
        let most = self.vectors_per_tile(self.choice.group);
        let tiles = vectors.div_ceil(most);
        let mut done = 0;
        for tile in 0..tiles {
            let width = (vectors - done).div_ceil(tiles - tile);
            let (start, places) = (done * lanes, places.of(done..done + width));
            done += width;
            for block in 0..rows.blocks {
                let cursors = &segment.cursors[block * segment.runs.len()..][..segment.runs.len()];
                for (run, cursor) in segment.runs.iter().zip(cursors) {
                    let (values, scales) = match (&rows.values, &rows.scales) {
                        (Values::I8(values), Some(scales)) => {
                            (values[cursor.values..].as_ptr().cast(), scales[run.first..].as_ptr())
                        }
                        (Values::F32(values), _) => (values[cursor.values..].as_ptr(), std::ptr::null()),
                        (Values::I8(_), None) => unreachable!("bytes come with scales"),
                    };
                    let at = run.first * self.output.stride + to + if places.is_empty() { start } else { 0 };
                    let sums_stride = width * lanes;
                    let sums_at = (run.first - segment.outputs.start) * sums_stride;
                    let pass = Pass {
                        turns: rows.turns[cursor.turns..].as_ptr(),
                        groups: cursor.groups,
                        offsets: rows.offsets[cursor.entries..].as_ptr(),
                        values,
                        bias: rows.bias[run.first..].as_ptr(),
                        scales,
                        x: x.as_ptr().wrapping_add(rows.bases[block] as usize + from + start),
                        sums: sums.as_mut_ptr().wrapping_add(sums_at),
                        sums_stride,
                        y: call.y.as_mut_ptr().wrapping_add(at),
                        stride: self.output.stride,
                        residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                        places: places.as_ptr(),
                        segments: places.len() / width,
                        first: block == 0,
                        last: block + 1 == rows.blocks,
                        activation: self.activation,
                    };
                    // SAFETY: `Rows::build` made the streams as long as the counts say, and `prepare` checked how far offsets
                    // and a piece's pixels reach. `scratch_len` holds the sums of the longest segment and widest tile.
                    // Places are pixels of this piece, inside of planes whose number and stride `run_units` compared with
                    // `call.y` and the residual; they are the unit's own. Narrower groups than the layer's have at least as
                    // many vectors per tile.
                    unsafe { self.kernels.pass(width, run.group, &pass) }
                }
            }
        }
    }

    /// Strip of a piece, and its first pixel there.
    fn start(&self, piece: usize) -> (usize, usize) {
        (piece / self.pieces_per_strip(), piece % self.pieces_per_strip() * self.piece)
    }

    fn sums_len(&self) -> usize {
        let longest = self.rows.segments.iter().map(|segment| segment.outputs.len()).max().unwrap_or(0);
        let tile = self.vectors_per_tile(self.choice.group) * self.kernels.lanes;
        if self.rows.blocks > 1 { longest * tile } else { 0 }
    }
}

/// Columns of a strip: 8, or whole lines.
fn strip(pitch: usize) -> usize {
    if pitch <= 8 { 8 } else { pitch.next_multiple_of(LINE) }
}

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
        self.strips * self.pieces_per_strip() * self.rows.segments.len()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        let (piece, segment) = (unit / self.rows.segments.len(), unit % self.rows.segments.len());
        let pixels = self.piece.min(self.pixels - self.start(piece).1);
        let segment = &self.rows.segments[segment];
        (pixels * (segment.entries + 8 * segment.outputs.len())) as u64
    }

    fn scratch_len(&self) -> usize {
        self.spread.as_ref().map_or(0, Spread::len) + self.sums_len() + 3 * LINE
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        let (copies, sums) =
            scratch.split_at_mut(self.spread.as_ref().map_or(0, |spread| spread.len().next_multiple_of(LINE)));
        let segments = self.rows.segments.len();
        let mut filled = None;
        for unit in units {
            let (piece, segment) = (unit / segments, unit % segments);
            let x = match &self.spread {
                None => call.x,
                Some(spread) => {
                    if filled != Some(piece) {
                        let (strip, first) = self.start(piece);
                        spread.fill(&self.kernels, call.x, strip, first / spread.pitch, copies);
                        filled = Some(piece);
                    }
                    &*copies
                }
            };
            // SAFETY: by this function's contract and the checks above.
            unsafe { self.unit(piece, segment, x, call, sums) }
        }
    }

    fn sums_in_file_order(&self) -> bool {
        let most = self.vectors_per_tile(self.choice.group);
        let narrowest = |pixels: usize| {
            let vectors = pixels.div_ceil(self.kernels.lanes);
            vectors / vectors.div_ceil(most)
        };
        let last = self.pixels - (self.pixels - 1) / self.piece * self.piece;
        let vectors = narrowest(self.piece).min(narrowest(last));
        let runs = self.rows.segments.iter().flat_map(|segment| &segment.runs);
        let sums = runs.map(|run| run.group * vectors).min().unwrap_or(0);
        self.rows.scales.is_none() && sums > FEW_SUMS
    }

    fn weight_bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn kernel(&self) -> String {
        let values = if self.rows.scales.is_some() { "i8" } else { "f32" };
        let pixels = self.vectors_per_tile(self.choice.group) * self.kernels.lanes;
        format!("{values}_planes_{pixels}x{}_{}", self.choice.group, self.kernels.isa.name())
    }
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
        // validate() holds maps and weights below 2^31 elements
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
