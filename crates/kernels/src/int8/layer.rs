//! A convolution in bytes as a layer of a region.

use std::ops::Range;

use super::Kernels;
use super::quantise::{Bounds, Rounding};
use super::tiles::Pass;
use super::words::{self, Form, Words};
use crate::conv::ConvGeometry;
use crate::dense::places::Places;
use crate::planes::fill::RowCopies;
use crate::planes::padded::{self, Padded};
use crate::{Activation, Call, Isa, KernelError, LINE, Layer, Map, layer};

/// Bytes that the words of a piece should fit into: half of a small second-level cache.
const PIECE_BYTES: usize = 192 << 10;
/// Pieces of a map, at least, as long as they have [`LEAST_PIXELS`]: threads share them, and each has its own scale.
const PIECES: usize = 4;
/// Pixels of a piece that are worth rounding what lies between pieces twice, and finding the rows of every channel.
const LEAST_PIXELS: usize = 96;
/// Pieces times segments that a layer is cut into, at least where it has the outputs: what threads share.
const UNITS: usize = 8;
/// Products of a sum, at most: of a byte and one of 255 steps, they stay below 2^31.
const MOST_PRODUCTS: usize = 1 << 16;

/// A prepared convolution in bytes.
#[derive(Debug)]
pub struct Int8Conv {
    geometry: ConvGeometry,
    input: Map,
    output: Map,
    activation: Activation,
    kernels: Kernels,
    words: Words,
    /// Groups that one unit computes.
    segments: Vec<Range<usize>>,
    /// One per output.
    scales: Vec<f32>,
    bias: Vec<f32>,
    /// Sum of the weights of each output.
    totals: Vec<i32>,
    /// How words lie, as numbers of a map with a quarter of the channels would.
    copies: Padded,
    piece_rows: usize,
    /// Of all pieces but the last, and of the last, by outputs of a group.
    places: Vec<(usize, [Places; 2])>,
}

impl Int8Conv {
    /// Prepares a convolution from planes `input` to planes `output`.
    ///
    /// * `weights`: `[out_channels, in_channels / groups, kernel rows, kernel columns]`; a weight is its byte times the scale of its output.
    /// * `scales`: one per output.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is impossible or does not fit the maps, when weights, scales or bias have the wrong length, and
    /// [`KernelError::NoKernel`] where four channels are in different groups or a sum has more than 65,536 products.
    ///
    /// # Panics
    /// When this CPU lacks the instructions of `isa`.
    #[allow(clippy::too_many_arguments, reason = "a convolution has that many sides")]
    pub fn prepare(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        output: Map,
        weights: &[i8],
        scales: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self, KernelError> {
        geometry.validate()?;
        crate::conv::check_maps(geometry, input, output)?;
        let bias = crate::bias_or_zeros(bias, geometry.out_channels)?;
        let expected = geometry.weights().unwrap_or(0);
        if weights.len() != expected {
            return Err(KernelError::ValueCount { expected, found: weights.len() });
        }
        if scales.len() != geometry.out_channels {
            return Err(KernelError::ScaleCount { expected: geometry.out_channels, found: scales.len() });
        }
        let group_inputs = geometry.in_channels / geometry.groups;
        if geometry.groups > 1 && !group_inputs.is_multiple_of(4) {
            return Err(KernelError::NoKernel { what: "bytes of four channels in different groups" });
        }
        let taps = geometry.kernel[0] * geometry.kernel[1];
        if group_inputs.div_ceil(4) * taps > MOST_PRODUCTS / 4 {
            return Err(KernelError::NoKernel { what: "more than 65,536 products of bytes in a sum" });
        }
        let kernels = Kernels::of(isa);
        let (height, width) = (geometry.out_height(), geometry.out_width());
        let piece_rows = piece_rows(geometry);
        let pitch = padded::pitch(geometry);
        // a row is one window: words are not copied a vector at a time
        let copies = Padded::new(geometry, input, piece_rows, 0, pitch);
        let offset = |entry: usize| {
            let tap = copies.offset([entry % taps / geometry.kernel[1], entry % taps % geometry.kernel[1]]);
            u32::try_from(entry / taps * copies.per_channel() + tap)
                .map_err(|_| KernelError::TooLarge { what: "the words of a piece" })
        };
        let entries = group_inputs.div_ceil(4) * taps;
        let offsets = (0..entries).map(offset).collect::<Result<Vec<u32>, KernelError>>()?;
        let words = Words::new(&kernels, geometry, weights, &offsets);
        let pieces = height.div_ceil(piece_rows);
        let rows = [piece_rows, height - (pieces - 1) * piece_rows];
        let places = |size: usize| {
            let most = kernels.most_vectors(size);
            rows.map(|rows| match pitch == width {
                true => Places::new(kernels.lanes, most, rows * width, rows * width, 1),
                false => Places::new(kernels.lanes, most, pitch, width, rows),
            })
        };
        let mut sizes: Vec<usize> = words.groups.iter().map(|group| group.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let places = sizes.into_iter().map(|size| (size, places(size))).collect();
        let per_output = group_inputs * taps;
        let totals = weights.chunks(per_output).map(|row| row.iter().map(|w| i32::from(*w)).sum()).collect();
        Ok(Self {
            geometry: geometry.clone(),
            input,
            output,
            activation,
            kernels,
            segments: words.segments(UNITS.div_ceil(pieces)),
            words,
            scales: scales.to_vec(),
            bias,
            totals,
            copies,
            piece_rows,
            places,
        })
    }

    /// Whether a layer with these weights should run in bytes at all: one whose inputs few weights use takes longer to round them than it
    /// saves. It depends on sizes and zeros alone, so that every machine decides alike.
    ///
    /// * `weights`: as [`Int8Conv::prepare`] takes them.
    pub fn pays(geometry: &ConvGeometry, weights: &[i8]) -> bool {
        geometry.validate().is_ok() && geometry.weights() == Some(weights.len()) && words::pays(geometry, weights)
    }

    fn pieces(&self) -> usize {
        self.geometry.out_height().div_ceil(self.piece_rows)
    }

    /// Groups of four input channels.
    fn fours(&self) -> usize {
        self.geometry.in_channels.div_ceil(4)
    }

    /// Words of one piece; vectors may be read past the last.
    fn words_len(&self) -> usize {
        (self.fours() * self.copies.per_channel() + LINE).next_multiple_of(LINE)
    }

    /// Whether all channels of a copy's rows lie side by side in the map as in the copy.
    fn is_whole(&self, copy: &RowCopies) -> bool {
        let window = copy.windows[0];
        let whole = window.from == 0 && window.to == self.copies.pitch && self.copies.pitch == self.geometry.in_width;
        whole && self.geometry.stride == [1, 1]
    }

    /// Rounds what piece `piece` reads, all channels, to words.
    ///
    /// * `row`: at least [`LINE`] words more than an image row has.
    fn round(&self, x: &[f32], piece: usize, words: &mut [u32], row: &mut [u32]) -> Rounding {
        let (width, [row_step, step]) = (self.geometry.in_width, self.geometry.stride);
        let copies = self.copies.copies(piece);
        let plane = |channel: usize| &x[channel * self.input.stride..][..self.input.pixels()];
        let mut bounds = Bounds::ZERO;
        for channel in 0..self.geometry.in_channels {
            let mut before = None;
            for copy in copies {
                // the copies of all column phases come from the same rows
                if before.replace(copy.from) == Some(copy.from) {
                    continue;
                }
                if row_step == 1 {
                    bounds = self.kernels.widen(&plane(channel)[copy.from..][..copy.rows * width], bounds);
                    continue;
                }
                for row in 0..copy.rows {
                    bounds = self.kernels.widen(&plane(channel)[copy.from + row * row_step * width..][..width], bounds);
                }
            }
        }
        let rounding = Rounding::of(bounds);
        let zero = rounding.zero_word();
        let pitch = self.copies.pitch;
        for four in 0..self.fours() {
            // channels beyond the last have zeros for weights, so it does not matter what they are
            let planes: [&[f32]; 4] = std::array::from_fn(|i| plane((4 * four + i).min(self.geometry.in_channels - 1)));
            let words = &mut words[four * self.copies.per_channel()..][..self.copies.per_channel()];
            for copy in copies {
                let (above, rest) = words[copy.to..].split_at_mut(copy.above);
                let (rows, rest) = rest.split_at_mut(copy.rows * pitch);
                above.fill(zero);
                rest[..copy.below].fill(zero);
                if self.is_whole(copy) {
                    self.kernels.words(&rounding, planes.map(|plane| &plane[copy.from..][..rows.len()]), rows);
                    continue;
                }
                let window = copy.windows[0];
                for (number, to) in rows.chunks_exact_mut(pitch).enumerate() {
                    let (left, rest) = to.split_at_mut(window.from.min(pitch));
                    let (inside, right) = rest.split_at_mut(window.to.saturating_sub(window.from));
                    left.fill(zero);
                    right.fill(zero);
                    if inside.is_empty() {
                        continue;
                    }
                    let first = window.column + (window.from * step) as isize;
                    let start =
                        copy.from + number * row_step * width + usize::try_from(first).expect("inside of the row");
                    if step == 1 {
                        self.kernels.words(&rounding, planes.map(|plane| &plane[start..][..inside.len()]), inside);
                        continue;
                    }
                    let len = (inside.len() - 1) * step + 1;
                    self.kernels.words(&rounding, planes.map(|plane| &plane[start..][..len]), &mut row[..len]);
                    inside.iter_mut().zip(row.iter().step_by(step)).for_each(|(to, from)| *to = *from);
                }
            }
        }
        rounding
    }

    /// # Safety
    /// As [`Layer::run_units`] for the units of `piece` and `segments`; the words are those of `piece`, [`Int8Conv::words_len`] of them.
    unsafe fn run_piece(
        &self,
        piece: usize,
        segments: Range<usize>,
        call: &Call<'_>,
        words: &[u32],
        rounding: &Rounding,
    ) {
        let last = usize::from(piece + 1 == self.pieces());
        let to = piece * self.piece_rows * self.geometry.out_width();
        let fours = self.fours() / self.geometry.groups;
        for (size, places) in &self.places {
            let places = &places[last];
            for tile in &places.tiles {
                for segment in &self.segments[segments.clone()] {
                    for group in self.words.groups[segment.clone()].iter().filter(|group| group.size == *size) {
                        let at = group.first * self.output.stride + to;
                        let base = group.channels * fours * self.copies.per_channel();
                        let outputs = group.first..group.first + group.outputs;
                        let pass = Pass {
                            offsets: self.words.offsets[group.entries.clone()].as_ptr(),
                            entries: group.entries.len(),
                            weights: self.words.bytes[group.bytes..].as_ptr(),
                            x: words[base + tile.pixel..].as_ptr(),
                            x_step: tile.step,
                            corrections: self.totals[outputs.clone()].as_ptr(),
                            zero: -rounding.zero,
                            scales: self.scales[outputs.clone()].as_ptr(),
                            scale: rounding.scale,
                            bias: self.bias[outputs].as_ptr(),
                            outputs: group.outputs,
                            y: call.y.as_mut_ptr().wrapping_add(at),
                            stride: self.output.stride,
                            residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                            places: places.all[tile.before * places.per_vector..].as_ptr(),
                            segments: places.per_vector,
                            whole: tile.whole,
                            activation: self.activation,
                        };
                        // SAFETY: `Words::new` laid out four bytes per entry and output of the group. The words reach as far as the
                        // last tap of the last vector, see `Padded::new`. Places are pixels of this piece, inside of planes whose
                        // number and stride `run_units` compared with `call.y` and the residual; they are the unit's own.
                        unsafe { self.kernels.pass(tile.vectors, *size, &pass) }
                    }
                }
            }
        }
    }
}

/// Output rows of a piece: of the sizes alone, as they say which numbers share a scale.
fn piece_rows(geometry: &ConvGeometry) -> usize {
    let height = geometry.out_height();
    let phases: usize = (0..2).map(|axis| geometry.stride[axis].min(geometry.kernel[axis])).product();
    let row = 4 * geometry.in_channels.div_ceil(4) * padded::pitch(geometry) * phases;
    let least = LEAST_PIXELS.div_ceil(geometry.out_width());
    let rows = (PIECE_BYTES / row.max(1)).min(height.div_ceil(PIECES).max(least)).clamp(1, height);
    // whole vectors of pixels, where rows follow each other without a gap
    let whole = [1, 2, 4].into_iter().find(|rows| (rows * geometry.out_width()).is_multiple_of(4)).unwrap_or(1);
    height.div_ceil(height.div_ceil(rows)).next_multiple_of(whole).min(height)
}

impl Layer for Int8Conv {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.pieces() * self.segments.len()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        let (piece, segment) = (unit / self.segments.len(), unit % self.segments.len());
        let rows = self.piece_rows.min(self.geometry.out_height() - piece * self.piece_rows);
        (rows * (self.words.cost(self.segments[segment].clone()) + 1)) as u64
    }

    fn scratch_len(&self) -> usize {
        self.words_len() + self.geometry.in_width + 2 * LINE
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        // SAFETY: words and numbers have the same size and alignment, and every pattern of bits is one of both; `scratch` is not used again.
        let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast::<u32>(), scratch.len()) };
        let (words, row) = scratch.split_at_mut(self.words_len());
        let segments = self.segments.len();
        let mut unit = units.start;
        while unit < units.end {
            let (piece, segment) = (unit / segments, unit % segments);
            let end = segments.min(segment + units.end - unit);
            let rounding = self.round(call.x, piece, words, row);
            // SAFETY: by this function's contract and the checks above.
            unsafe { self.run_piece(piece, segment..end, call, words, &rounding) }
            unit += end - segment;
        }
    }

    fn weight_bytes(&self) -> usize {
        self.words.bytes.len()
            + size_of_val(&self.words.offsets[..])
            + size_of_val(&self.bias[..])
            + size_of_val(&self.scales[..])
            + size_of_val(&self.totals[..])
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn kernel(&self) -> String {
        let (size, _) = self.places.last().expect("there is at least one group");
        let pixels = self.kernels.lanes * self.kernels.most_vectors(*size);
        let form = match self.words.form {
            Form::Dense => "dense",
            Form::Fours => "4x4",
            Form::Ones => "1x4",
        };
        format!("i8_dot_{form}_{pixels}x{size}_{}", self.kernels.name)
    }
}
