//! A dense convolution as a layer of a region.

use std::ops::Range;

use super::Kernels;
use super::pack::Panels;
use super::places::Places;
use super::tiles::Pass;
use crate::conv::ConvGeometry;
use crate::planes::padded::Padded;
use crate::{Activation, Call, Isa, KernelError, LINE, Layer, Map, layer};

/// One way to run a dense convolution; all give results that differ in rounding only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DenseChoice {
    /// Outputs per group, at most.
    pub outputs: usize,
    /// Vectors of pixels per tile, at most.
    pub vectors: usize,
    /// Output rows that are computed from one filling of the copies.
    pub piece_rows: usize,
    /// Input channels per block, so that what a tile reads of one stays in the first-level cache.
    pub block_channels: usize,
}

/// A prepared dense convolution.
#[derive(Debug)]
pub struct DenseConv {
    geometry: ConvGeometry,
    input: Map,
    output: Map,
    activation: Activation,
    choice: DenseChoice,
    kernels: Kernels,
    panels: Panels,
    bias: Vec<f32>,
    /// Where the pixels under each tap of each channel of a block start.
    offsets: Vec<u32>,
    /// Copies of the input; `None` where the map itself is read.
    copies: Option<Padded>,
    /// Pixels of the output as one long row, columns that are dropped included.
    pixels: usize,
    /// Such pixels from one piece to the next.
    piece: usize,
    /// Such pixels that a whole piece computes.
    piece_pixels: usize,
    /// Elements of an output plane from one piece to the next.
    piece_outputs: usize,
    /// Of all pieces but the last, and of the last.
    places: [Places; 2],
}

/// Pieces times segments that a layer is cut into, at least where it has the outputs: what threads share.
const SEGMENTED_UNITS: usize = 8;

impl DenseConv {
    /// Prepares a convolution from planes `input` to planes `output`.
    ///
    /// * `weights`: `[out_channels, in_channels / groups, kernel rows, kernel columns]`.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is impossible or does not fit the maps, or when weights or bias have the wrong length.
    ///
    /// # Panics
    /// When this CPU lacks the instructions of `isa`.
    #[allow(clippy::too_many_arguments, reason = "a convolution has that many sides")]
    pub fn prepare(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        output: Map,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        choice: DenseChoice,
    ) -> Result<Self, KernelError> {
        let bias = crate::conv::check_dense(geometry, input, output, weights, bias)?;
        let kernels = Kernels::of(isa);
        let (height, width) = (geometry.out_height(), geometry.out_width());
        let group_inputs = geometry.in_channels / geometry.groups;
        // the channels of a block lie side by side only where there is one group
        let per_block = if geometry.groups == 1 { choice.block_channels.clamp(1, group_inputs) } else { group_inputs };
        let choice = DenseChoice {
            outputs: group(&kernels, choice.outputs),
            piece_rows: choice.piece_rows.clamp(1, height),
            block_channels: per_block,
            ..choice
        };
        let most = kernels.most_vectors(choice.outputs).expect("a group of the kernel");
        let choice = DenseChoice { vectors: choice.vectors.clamp(1, most), ..choice };

        let copies = (!is_direct(geometry, input, kernels.lanes))
            .then(|| Padded::new(geometry, input, choice.piece_rows, per_block * geometry.groups, kernels.lanes));
        let pitch = copies.as_ref().map_or(geometry.in_width, |copies| copies.pitch);
        let plain = copies.is_none() && pitch == width;
        let (pixels, piece, piece_pixels, piece_outputs) = if plain {
            let piece = (choice.piece_rows * width).next_multiple_of(choice.vectors * kernels.lanes);
            (height * width, piece, piece.min(height * width), piece)
        } else {
            let rows = choice.piece_rows;
            ((height - 1) * pitch + width, rows * pitch, (rows - 1) * pitch + width, rows * width)
        };
        let pieces = pixels.div_ceil(piece);
        let places = [piece_pixels, (pixels - (pieces - 1) * piece).min(piece_pixels)].map(|count| match plain {
            true => Places::new(kernels.lanes, choice.vectors, count, count, 1),
            false => Places::new(kernels.lanes, choice.vectors, pitch, width, count.div_ceil(pitch)),
        });

        let per_channel = copies.as_ref().map_or(input.stride, Padded::per_channel);
        let tap = |tap: usize| {
            let tap = [tap / geometry.kernel[1], tap % geometry.kernel[1]];
            let plain = || tap[0] * geometry.dilation[0] * pitch + tap[1] * geometry.dilation[1];
            copies.as_ref().map_or_else(plain, |copies| copies.offset(tap))
        };
        let taps: Vec<usize> = (0..geometry.kernel[0] * geometry.kernel[1]).map(tap).collect();
        let offset = |channel: usize, tap: &usize| {
            u32::try_from(channel * per_channel + tap)
                .map_err(|_| KernelError::TooLarge { what: "a block of input channels" })
        };
        let offsets = (0..per_block).flat_map(|channel| taps.iter().map(move |tap| offset(channel, tap)));
        let offsets = offsets.collect::<Result<Vec<u32>, KernelError>>()?;
        let segments = SEGMENTED_UNITS.div_ceil(pieces);
        let panels = Panels::new(&kernels, geometry, weights, choice.outputs, per_block, segments);
        let geometry = geometry.clone();
        Ok(Self {
            geometry,
            input,
            output,
            activation,
            choice,
            kernels,
            panels,
            bias,
            offsets,
            copies,
            pixels,
            piece,
            piece_pixels,
            piece_outputs,
            places,
        })
    }

    /// The choice that this layer was prepared with, as far as kernels have it.
    pub fn choice(&self) -> DenseChoice {
        self.choice
    }

    fn pieces(&self) -> usize {
        self.pixels.div_ceil(self.piece)
    }

    fn blocks(&self) -> usize {
        (self.geometry.in_channels / self.geometry.groups).div_ceil(self.choice.block_channels)
    }

    /// Elements of all copies of one piece and block; vectors may be read past the last.
    fn copies_len(&self) -> usize {
        let channels = self.choice.block_channels * self.geometry.groups;
        self.copies.as_ref().map_or(0, |copies| channels * copies.per_channel() + LINE)
    }

    fn sums_len(&self) -> usize {
        let vectors = self.places.iter().map(Places::vectors).max().unwrap_or(0);
        if self.blocks() > 1 { self.geometry.out_channels * vectors * self.kernels.lanes } else { 0 }
    }

    /// # Safety
    /// As [`Layer::run_units`] for the units of `piece` and `segments`; the scratch memory has the lengths above.
    unsafe fn run_piece(
        &self,
        piece: usize,
        segments: Range<usize>,
        call: &Call<'_>,
        copied: &mut [f32],
        sums: &mut [f32],
    ) {
        let first_pixel = piece * self.piece;
        let places = &self.places[usize::from(piece + 1 == self.pieces())];
        let (lanes, blocks) = (self.kernels.lanes, self.blocks());
        let group_inputs = self.geometry.in_channels / self.geometry.groups;
        let taps = self.geometry.kernel[0] * self.geometry.kernel[1];
        let to = piece * self.piece_outputs;
        for block in 0..blocks {
            let first = block * self.choice.block_channels;
            let channels = self.choice.block_channels.min(group_inputs - first);
            let (x, per_channel) = match &self.copies {
                None => (&call.x[first * self.input.stride + first_pixel..], self.input.stride),
                Some(copies) => {
                    // all channels where there are groups, as there is one block then
                    let count = channels * self.geometry.groups;
                    copies.fill(&self.kernels.planes, call.x, piece, first, count, copied);
                    (&*copied, copies.per_channel())
                }
            };
            for tile in &places.tiles {
                for segment in &self.panels.segments[segments.clone()] {
                    let mut weights = segment.starts[block];
                    for run in &segment.runs {
                        let at = run.first * self.output.stride + to;
                        let sums_at = (tile.before * self.geometry.out_channels + run.first * tile.vectors) * lanes;
                        let base = run.channels * group_inputs * per_channel;
                        let pass = Pass {
                            offsets: self.offsets.as_ptr(),
                            entries: channels * taps,
                            groups: run.groups,
                            weights: self.panels.weights[weights..].as_ptr(),
                            bias: self.bias[run.first..].as_ptr(),
                            x: x[base + tile.pixel..].as_ptr(),
                            x_step: tile.step,
                            sums: sums.as_mut_ptr().wrapping_add(sums_at),
                            sums_stride: tile.vectors * lanes,
                            y: call.y.as_mut_ptr().wrapping_add(at),
                            stride: self.output.stride,
                            residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                            places: places.all[tile.before * places.per_vector..].as_ptr(),
                            segments: places.per_vector,
                            whole: tile.whole,
                            first: block == 0,
                            last: block + 1 == blocks,
                            activation: self.activation,
                        };
                        weights += run.groups * run.outputs * channels * taps;
                        // SAFETY: `Panels::new` laid out the weights in this order. Copies and the map reach as far as the last
                        // tap of the last vector, see `Padded::new` and `is_direct`. Sums are as long as `sums_len` says.
                        // Places are pixels of this piece, inside of planes whose number and stride `run_units` compared with
                        // `call.y` and the residual; they are the unit's own. Smaller groups have at least as many vectors.
                        unsafe { self.kernels.pass(tile.vectors, run.outputs, &pass) }
                    }
                }
            }
        }
    }
}

/// The largest group of the kernel that is not larger than `outputs`.
fn group(kernels: &Kernels, outputs: usize) -> usize {
    let sizes = kernels.shapes.iter().map(|(size, _)| *size);
    sizes.filter(|size| *size <= outputs.max(1)).max().expect("there are groups of one output")
}

/// Whether the taps read the input map itself, whole vectors of it.
fn is_direct(geometry: &ConvGeometry, input: Map, lanes: usize) -> bool {
    let [rows, columns] = [0, 1].map(|axis| (geometry.kernel[axis] - 1) * geometry.dilation[axis]);
    let (height, width) = (geometry.out_height(), geometry.out_width());
    let pixels = if geometry.in_width == width { height * width } else { (height - 1) * geometry.in_width + width };
    // pieces start anywhere, so that their last vector may end up to a vector later
    let reach = rows * geometry.in_width + columns + pixels + lanes - 1;
    let aligned = geometry.in_width == width && rows + columns == 0 && input.stride.is_multiple_of(LINE);
    geometry.stride == [1, 1] && geometry.pads == [0; 4] && (aligned || reach <= input.stride)
}

impl Layer for DenseConv {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.pieces() * self.panels.segments.len()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        let segments = &self.panels.segments;
        let pixels = (self.pixels - unit / segments.len() * self.piece).min(self.piece_pixels);
        (pixels * segments[unit % segments.len()].outputs.len()) as u64
    }

    fn scratch_len(&self) -> usize {
        self.copies_len() + self.sums_len() + 3 * LINE
    }

    fn sums_in_file_order(&self) -> bool {
        true
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        let (copied, sums) = scratch.split_at_mut(self.copies_len().next_multiple_of(LINE));
        let segments = self.panels.segments.len();
        let mut unit = units.start;
        while unit < units.end {
            let (piece, segment) = (unit / segments, unit % segments);
            let end = segments.min(segment + units.end - unit);
            // SAFETY: by this function's contract and the checks above.
            unsafe { self.run_piece(piece, segment..end, call, copied, sums) }
            unit += end - segment;
        }
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&self.panels.weights[..]) + size_of_val(&self.bias[..]) + size_of_val(&self.offsets[..])
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn kernel(&self) -> String {
        let pixels = self.choice.vectors * self.kernels.lanes;
        format!("f32_dense_{pixels}x{}_{}", self.choice.outputs, self.kernels.isa.name())
    }
}
