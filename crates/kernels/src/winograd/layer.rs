//! A dense 3x3 convolution by transforms, as a layer of a region.

use std::ops::Range;

use super::transforms::{InputPass, OutputPass};
use super::{Transforms, weights};
use crate::conv::ConvGeometry;
use crate::dense::Kernels;
use crate::dense::pack::Panels;
use crate::dense::tiles::Pass;
use crate::planes::padded::Padded;
use crate::{Activation, Call, Isa, KernelError, LINE, Layer, Map, layer};

/// One way to run a convolution by transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WinogradChoice {
    /// Pixels of a tile, each way: 2, or anything else for 4.
    pub size: usize,
    /// Outputs per group of the products, at most.
    pub outputs: usize,
    /// Vectors of tiles that the products take together, at most.
    pub vectors: usize,
    /// Rows of tiles that are transformed together.
    pub tile_rows: usize,
}

/// A prepared convolution.
#[derive(Debug)]
pub struct WinogradConv {
    geometry: ConvGeometry,
    input: Map,
    output: Map,
    activation: Activation,
    choice: WinogradChoice,
    kernels: Kernels,
    transforms: Transforms,
    /// Rows and columns of tiles.
    tiles: [usize; 2],
    copies: Padded,
    /// Where every tap of the transform starts in the copies of a channel.
    taps: Vec<u32>,
    /// One product per tap of the transform.
    panels: Vec<Panels>,
    /// Where the channels start in a plane of the transform.
    channels: Vec<u32>,
    /// The products begin with nothing.
    zeros: Vec<f32>,
    bias: Vec<f32>,
}

/// Channels that are copied at once: few, so that their copies stay in the first-level cache.
const COPIED: usize = 4;
/// Units that a layer is cut into, at least where it has the outputs: what threads share.
const UNITS: usize = 8;
/// Outputs of a segment, at most: what the products leave stays in the second-level cache until it is transformed back.
const SEGMENT: usize = 32;
/// Bytes of transformed weights of one layer, at most.
const MOST_BYTES: usize = 12 << 20;
/// Bytes that one piece's planes of inputs should fit into.
const SECOND_LEVEL: usize = 768 << 10;

impl WinogradChoice {
    /// Whether there is such a way to run it: 3x3, dense steps, one group.
    pub fn fits(geometry: &ConvGeometry) -> bool {
        geometry.kernel == [3, 3] && geometry.stride == [1, 1] && geometry.dilation == [1, 1] && geometry.groups == 1
    }

    /// The way that is likely faster than plain sums, if there is one.
    ///
    /// From `benches/layers` of one core: with AVX-512 1.4 to 1.8 times the speed where it is chosen, 0.5 to 1.05 where not; with
    /// AVX2 1.4 to 2.5 times. Transformed weights that do not fit a cache cost more than the products saved.
    pub fn likely(isa: Isa, geometry: &ConvGeometry) -> Option<Self> {
        if !Self::fits(geometry) {
            return None;
        }
        let pixels = geometry.out_height() * geometry.out_width();
        let channels = geometry.in_channels.min(geometry.out_channels);
        let (pays, large) = match isa {
            Isa::Avx512 => (channels >= 64 && (pixels >= 256 || (channels >= 128 && pixels >= 64)), 784),
            _ => (channels >= 16 && pixels >= 64, 196),
        };
        let size = if pixels >= large { 4 } else { 2 };
        let bytes = 4 * (size + 2) * (size + 2) * geometry.in_channels * geometry.out_channels;
        (pays && bytes <= MOST_BYTES).then(|| Self::guess(isa, geometry, size))
    }

    /// A good guess for tiles of `size` pixels.
    pub fn guess(isa: Isa, geometry: &ConvGeometry, size: usize) -> Self {
        let lanes = Kernels::of(isa).lanes;
        let [rows, columns] = [geometry.out_height(), geometry.out_width()].map(|pixels| pixels.div_ceil(size));
        let bytes = 4 * (size + 2) * (size + 2) * geometry.in_channels * columns;
        let tile_rows = (SECOND_LEVEL / bytes.max(1)).clamp(1, rows);
        let tile_rows = rows.div_ceil(rows.div_ceil(tile_rows));
        let vectors = (tile_rows * columns).div_ceil(lanes);
        let (outputs, vectors) = match (isa, vectors) {
            (Isa::Avx512, 1) => (14, 1),
            (Isa::Avx512, 2) => (12, 2),
            (Isa::Avx512, 4) => (6, 4),
            (Isa::Avx512 | Isa::Neon, _) => (8, 3),
            (Isa::Avx2, _) => (6, 2),
            (Isa::Neon32, _) => (4, 3),
            (Isa::Scalar, _) => (4, 1),
        };
        Self { size, outputs, vectors, tile_rows }
    }
}

impl WinogradConv {
    /// Prepares a convolution from planes `input` to planes `output`.
    ///
    /// * `weights`: `[out_channels, in_channels, 3, 3]`.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is impossible, is not one that [`WinogradChoice::fits`], or does not fit the maps, or when
    /// weights or bias have the wrong length.
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
        choice: WinogradChoice,
    ) -> Result<Self, KernelError> {
        let bias = crate::conv::check_dense(geometry, input, output, weights, bias)?;
        if !WinogradChoice::fits(geometry) {
            return Err(KernelError::Unfit {
                what: "a convolution by transforms",
                expected: "3x3, steps of 1, one group",
            });
        }
        let (kernels, transforms) = (Kernels::of(isa), Transforms::of(isa));
        let size = if choice.size == 2 { 2 } else { 4 };
        let side = size + 2;
        let tiles = [geometry.out_height(), geometry.out_width()].map(|pixels| pixels.div_ceil(size));
        let mut shapes = kernels.shapes.iter().filter(|(outputs, _)| *outputs <= choice.outputs.max(1));
        let (outputs, most) = *shapes.next().expect("there are groups of one output");
        let tile_rows = choice.tile_rows.clamp(1, tiles[0]);
        let choice = WinogradChoice { size, outputs, vectors: choice.vectors.clamp(1, most), tile_rows };

        // the taps of the transform are those of a convolution with steps of `size`
        let end = |axis: usize, extent: usize| size * tiles[axis] + 2 - extent - geometry.pads[axis];
        let pads = [geometry.pads[0], geometry.pads[1], end(0, geometry.in_height), end(1, geometry.in_width)];
        let stepped = ConvGeometry { kernel: [side; 2], stride: [size; 2], pads, ..geometry.clone() };
        stepped.validate()?;
        let copies = Padded::new(&stepped, input, tile_rows, COPIED.min(geometry.in_channels), kernels.lanes);
        let taps = (0..side * side).map(|tap| copies.offset([tap / side, tap % side]) as u32).collect();

        let one_by_one = ConvGeometry { in_height: 1, in_width: 1, kernel: [1, 1], pads: [0; 4], ..geometry.clone() };
        let segments = UNITS.div_ceil(tiles[0].div_ceil(tile_rows)).max(geometry.out_channels.div_ceil(SEGMENT));
        let panel = |filters: Vec<f32>| {
            Panels::new(&kernels, &one_by_one, &filters, choice.outputs, geometry.in_channels, segments)
        };
        let panels: Vec<Panels> = weights::transform(size, weights).into_iter().map(panel).collect();
        let zeros = vec![0.0; geometry.out_channels];
        let geometry = geometry.clone();
        let mut conv = Self {
            geometry,
            input,
            output,
            activation,
            choice,
            kernels,
            transforms,
            tiles,
            copies,
            taps,
            panels,
            channels: Vec::new(),
            zeros,
            bias,
        };
        let starts = (0..conv.geometry.in_channels).map(|channel| u32::try_from(channel * conv.stride()));
        let starts = starts.collect::<Result<Vec<u32>, _>>();
        conv.channels = starts.map_err(|_| KernelError::TooLarge { what: "a plane of the transform" })?;
        Ok(conv)
    }

    fn pieces(&self) -> usize {
        self.tiles[0].div_ceil(self.choice.tile_rows)
    }

    /// Elements of one channel or output of one plane of the transform: whole vectors, and one more.
    fn stride(&self) -> usize {
        let lanes = self.kernels.lanes.max(self.transforms.lanes);
        (self.choice.tile_rows * self.tiles[1]).next_multiple_of(lanes) + lanes
    }

    fn taps(&self) -> usize {
        self.taps.len()
    }

    fn copies_len(&self) -> usize {
        (COPIED.min(self.geometry.in_channels) * self.copies.per_channel() + 2 * LINE).next_multiple_of(LINE)
    }

    fn inputs_len(&self) -> usize {
        (self.taps() * self.geometry.in_channels * self.stride()).next_multiple_of(LINE)
    }

    fn outputs_len(&self) -> usize {
        let longest = self.panels[0].segments.iter().map(|segment| segment.outputs.len()).max().unwrap_or(0);
        self.taps() * longest * self.stride()
    }

    /// Transforms what `piece` reads.
    fn before(&self, piece: usize, x: &[f32], copied: &mut [f32], inputs: &mut [f32]) {
        let rows = self.choice.tile_rows.min(self.tiles[0] - piece * self.choice.tile_rows);
        let channels = self.geometry.in_channels;
        assert!(inputs.len() >= self.inputs_len(), "length of the transformed inputs");
        for first in (0..channels).step_by(COPIED) {
            let count = COPIED.min(channels - first);
            self.copies.fill(&self.kernels.planes, x, piece, first, count, copied);
            for channel in 0..count {
                let pass = InputPass {
                    x: copied[channel * self.copies.per_channel()..].as_ptr(),
                    taps: self.taps.as_ptr(),
                    x_row: self.copies.pitch,
                    rows,
                    tiles: self.tiles[1],
                    to: inputs[(first + channel) * self.stride()..].as_mut_ptr(),
                    plane: channels * self.stride(),
                };
                // SAFETY: copies hold the rows and columns of every tap, past the last of which `copies_len` leaves two lines;
                // a plane has `stride` elements per channel, which is all tiles and a vector.
                unsafe { (self.transforms.input)(self.choice.size, &pass) }
            }
        }
    }

    /// # Safety
    /// As [`Layer::run_units`] for the unit of `piece` and `segment`, whose inputs were transformed.
    unsafe fn unit(&self, piece: usize, segment: usize, call: &Call<'_>, inputs: &[f32], outputs: &mut [f32]) {
        let first_row = piece * self.choice.tile_rows;
        let rows = self.choice.tile_rows.min(self.tiles[0] - first_row);
        let lanes = self.kernels.lanes;
        let vectors = (rows * self.tiles[1]).div_ceil(lanes);
        let tiles = vectors.div_ceil(self.choice.vectors);
        let channels = self.geometry.in_channels;
        let range = self.panels[0].segments[segment].outputs.clone();
        let plane = range.len() * self.stride();
        assert!(inputs.len() >= self.inputs_len() && outputs.len() >= self.taps() * plane, "lengths of the planes");
        for (tap, panels) in self.panels.iter().enumerate() {
            let segment = &panels.segments[segment];
            let x = &inputs[tap * channels * self.stride()..];
            let mut done = 0;
            for tile in 0..tiles {
                let width = (vectors - done).div_ceil(tiles - tile);
                let mut weights = segment.starts[0];
                for run in &segment.runs {
                    let to = tap * plane + (run.first - range.start) * self.stride() + done * lanes;
                    let pass = Pass {
                        offsets: self.channels.as_ptr(),
                        entries: channels,
                        groups: run.groups,
                        weights: panels.weights[weights..].as_ptr(),
                        bias: self.zeros[run.first..].as_ptr(),
                        x: x[done * lanes..].as_ptr(),
                        x_step: lanes,
                        sums: outputs[to..].as_mut_ptr(),
                        sums_stride: self.stride(),
                        y: std::ptr::null_mut(),
                        stride: 0,
                        residual: std::ptr::null(),
                        places: std::ptr::null(),
                        segments: 0,
                        whole: None,
                        first: true,
                        last: false,
                        activation: Activation::None,
                    };
                    weights += run.groups * run.outputs * channels;
                    // SAFETY: `Panels::new` laid out the weights in this order; inputs and sums have `stride` elements per channel
                    // and output, at least all vectors. Smaller groups have at least as many vectors.
                    unsafe { self.kernels.pass(width, run.outputs, &pass) }
                }
                done += width;
            }
        }
        let (size, width) = (self.choice.size, self.geometry.out_width());
        for output in range.clone() {
            let at = output * self.output.stride + first_row * size * width;
            let pass = OutputPass {
                from: outputs[(output - range.start) * self.stride()..].as_ptr(),
                plane,
                rows,
                tiles: self.tiles[1],
                y: call.y.as_mut_ptr().wrapping_add(at),
                residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
                width,
                height: self.geometry.out_height() - first_row * size,
                bias: self.bias[output],
                activation: self.activation,
            };
            // SAFETY: planes as above; the pixels are those of this piece and output, inside of planes whose number and stride
            // `run_units` compared with `call.y` and the residual, and the unit's own.
            unsafe { (self.transforms.output)(size, &pass) }
        }
    }
}

impl Layer for WinogradConv {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.pieces() * self.panels[0].segments.len()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        let segments = &self.panels[0].segments;
        let first = unit / segments.len() * self.choice.tile_rows;
        let rows = self.choice.tile_rows.min(self.tiles[0] - first);
        (rows * segments[unit % segments.len()].outputs.len()) as u64
    }

    fn scratch_len(&self) -> usize {
        self.copies_len() + self.inputs_len() + self.outputs_len() + LINE
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        let (copied, planes) = scratch.split_at_mut(self.copies_len());
        let (inputs, outputs) = planes.split_at_mut(self.inputs_len());
        let segments = self.panels[0].segments.len();
        let mut transformed = None;
        for unit in units {
            let (piece, segment) = (unit / segments, unit % segments);
            if transformed != Some(piece) {
                self.before(piece, call.x, copied, inputs);
                transformed = Some(piece);
            }
            // SAFETY: by this function's contract and the checks above.
            unsafe { self.unit(piece, segment, call, inputs, outputs) }
        }
    }

    fn weight_bytes(&self) -> usize {
        let panels: usize = self.panels.iter().map(|panels| size_of_val(&panels.weights[..])).sum();
        panels + size_of_val(&self.bias[..]) + size_of_val(&self.zeros[..]) + size_of_val(&self.channels[..])
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn kernel(&self) -> String {
        let pixels = self.choice.vectors * self.kernels.lanes;
        format!("f32_winograd{}_{pixels}x{}_{}", self.choice.size, self.choice.outputs, self.kernels.isa.name())
    }
}
