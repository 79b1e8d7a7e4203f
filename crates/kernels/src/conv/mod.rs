//! Sparse 2-D convolution of one planar image.
//!
//! The input is copied into planes with a zero halo (stride `s`: into `s * s` phase planes), so that every weight
//! is a constant offset. A plane is then one long row: the few columns between two image rows are computed too and
//! dropped when a finished piece is copied to the output, so that also 7x7 maps fill the vectors.
//! Where nothing is padded or strided the kernel reads the input itself; where no column has to be dropped it
//! writes the output itself.

mod choice;
mod geometry;
mod layer;

pub use choice::ConvChoice;
pub use geometry::ConvGeometry;
pub use layer::{Conv, ConvWeights};

use crate::planes::Values;
use crate::spmm::{self, Entry, Rows, Spmm, SpmmKernel};
use crate::{Activation, KernelError, Map};

/// Pixels of one piece of output that is computed before it is copied, at least; a few tiles of any kernel.
const PIECE_PIXELS: usize = 192;
/// Elements of all channels of one piece, at most (if more than [`PIECE_PIXELS`] each): half of a 512 KiB cache.
const PIECE_ELEMENTS: usize = 1 << 16;
/// Elements of input planes that one tile of one block should touch: 3/4 of a 32 KiB first-level cache.
///
/// `examples/layer_speed` on one core with 48 KiB: against no blocks at all 1.2 to 1.7 times the speed on the
/// 3x3 layers of 28x28 and smaller and up to 1.7 times on 1x1 layers of 7x7; twice as many elements lose up to 25 %.
const CACHED_ELEMENTS: usize = 6 * 1024;
/// Fewer non-zeros per row and block than this do not pay for reloading the partial sums.
///
/// Same measurement: 5 loses up to 15 % on 1x1 layers with 25 to 50 non-zeros per row, 8 to 18 are within noise.
const BLOCK_NONZEROS: usize = 12;

/// A convolution whose zeros are gone.
#[derive(Debug)]
pub struct SparseConv {
    geometry: ConvGeometry,
    rows: Rows,
    kernel: &'static SpmmKernel,
    planes: Planes,
    /// Output rows per piece.
    piece_rows: usize,
}

/// Where the kernel finds the input.
#[derive(Debug)]
struct Planes {
    /// The input is read in place: no padding, stride 1.
    direct: bool,
    /// Rows of one plane.
    rows: usize,
    /// Columns of one plane.
    pitch: usize,
    /// Stride phases that some kernel tap needs, one plane each per channel.
    phases: Vec<[usize; 2]>,
}

impl SparseConv {
    /// Prepares a layer for the fastest kernel of this CPU.
    ///
    /// * `nonzeros`: flat index into `[out, in / groups, kernel rows, kernel columns]` and weight, strictly increasing.
    /// * `bias`: one per output channel, or none.
    ///
    /// # Errors
    /// [`KernelError`] when the geometry is impossible, an index is out of order or range, or the bias has the wrong length.
    pub fn prepare(
        geometry: ConvGeometry,
        nonzeros: impl IntoIterator<Item = (u32, f32)>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        Self::prepare_for(spmm::best(), geometry, nonzeros, bias)
    }

    /// As [`SparseConv::prepare`], for one kernel of [`spmm::SPMM_F32`]; running it needs a CPU that has the kernel.
    ///
    /// # Errors
    /// As [`SparseConv::prepare`].
    pub fn prepare_for(
        kernel: &'static SpmmKernel,
        geometry: ConvGeometry,
        nonzeros: impl IntoIterator<Item = (u32, f32)>,
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        geometry.validate()?;
        let bias = crate::bias_or_zeros(bias, geometry.out_channels)?;
        let weights = geometry.weights().expect("validate() found that the weights fit 32 bits");
        let nonzeros = crate::ordered(nonzeros, weights)?;

        let planes = Planes::of(&geometry);
        let blocks = planes.blocks(&geometry, kernel.tile, nonzeros.len());
        let channels_per_block = geometry.in_channels.div_ceil(blocks);
        let [kernel_rows, kernel_columns] = geometry.kernel;
        let taps = kernel_rows * kernel_columns;
        let group_inputs = geometry.in_channels / geometry.groups;
        let group_outputs = geometry.out_channels / geometry.groups;
        let items: Vec<_> = nonzeros
            .into_iter()
            .map(|(index, value)| {
                let (filter, tap) = (index as usize / taps, index as usize % taps);
                let (output, input) = (filter / group_inputs, filter % group_inputs);
                let channel = output / group_outputs * group_inputs + input;
                let offset = planes.offset(&geometry, channel, [tap / kernel_columns, tap % kernel_columns]);
                // validate() holds planes and weights below 2^31 elements
                let entry = Entry { offset: offset as u32, value };
                (output as u32, (channel / channels_per_block) as u32, entry)
            })
            .collect();
        let rows = Rows::build(bias, blocks, &items)?;
        let wanted = PIECE_PIXELS.max(PIECE_ELEMENTS / geometry.out_channels);
        let piece_rows = wanted.div_ceil(planes.pitch).min(geometry.out_height());
        Ok(Self { geometry, rows, kernel, planes, piece_rows })
    }

    /// Sizes of the layer.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Stored non-zeros.
    pub fn nnz(&self) -> usize {
        self.rows.nnz()
    }

    /// Multiply-adds that one image costs, padding included.
    pub fn macs(&self) -> u64 {
        (self.nnz() * self.geometry.out_height() * self.geometry.out_width()) as u64
    }

    /// Bytes that weights, offsets and bias occupy in memory.
    pub fn weight_bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Name of the micro-kernel, as in the table.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name
    }

    /// Elements of scratch memory that [`SparseConv::run`] needs; its contents do not matter.
    pub fn scratch_len(&self) -> usize {
        self.plane_elements() + self.piece_elements()
    }

    /// Elements of the haloed input planes; none where the input is read in place.
    fn plane_elements(&self) -> usize {
        let planes = &self.planes;
        if planes.direct { 0 } else { self.geometry.in_channels * planes.phases.len() * planes.rows * planes.pitch }
    }

    /// Elements of one piece before its garbage columns are dropped; none where the output is written in place.
    fn piece_elements(&self) -> usize {
        if self.writes_in_place() { 0 } else { self.geometry.out_channels * self.piece_rows * self.planes.pitch }
    }

    fn writes_in_place(&self) -> bool {
        self.planes.pitch == self.geometry.out_width()
    }

    /// Computes `y = act(conv(x) + bias [+ residual])` for one image; never allocates.
    ///
    /// * `x`: `[in_channels, in_height, in_width]`; `y` and `residual`: `[out_channels, out_height, out_width]`.
    /// * `scratch`: at least [`SparseConv::scratch_len`] elements, overwritten.
    ///
    /// # Panics
    /// When a slice has the wrong length, or this CPU cannot run the kernel.
    pub fn run(&self, x: &[f32], y: &mut [f32], residual: Option<&[f32]>, activation: Activation, scratch: &mut [f32]) {
        let geometry = &self.geometry;
        let (out_height, out_width) = (geometry.out_height(), geometry.out_width());
        assert_eq!(x.len(), geometry.in_len(), "input length");
        assert_eq!(y.len(), geometry.out_len(), "output length");
        assert!(residual.is_none_or(|residual| residual.len() == y.len()), "residual length");
        assert!(scratch.len() >= self.scratch_len(), "scratch length");
        let (halo, piece) = scratch.split_at_mut(self.plane_elements());
        let planes = if self.planes.direct {
            x
        } else {
            self.planes.fill(geometry, x, halo);
            halo
        };
        let rows = &self.rows;
        let out_plane = out_height * out_width;
        if self.writes_in_place() {
            let call = Spmm { rows, x: planes, y, stride: out_plane, pixels: out_plane, residual, activation };
            return self.kernel.run(call);
        }
        let pitch = self.planes.pitch;
        let stride = self.piece_rows * pitch;
        for first in (0..out_height).step_by(self.piece_rows) {
            let count = self.piece_rows.min(out_height - first);
            self.kernel.run(Spmm {
                rows,
                x: &planes[first * pitch..],
                y: &mut *piece,
                stride,
                pixels: (count - 1) * pitch + out_width,
                residual: None,
                activation: Activation::None,
            });
            for channel in 0..geometry.out_channels {
                for row in 0..count {
                    let from = channel * stride + row * pitch;
                    let to = channel * out_plane + (first + row) * out_width;
                    let residual = residual.map(|residual| &residual[to..to + out_width]);
                    activation.store(&piece[from..from + out_width], residual, &mut y[to..to + out_width]);
                }
            }
        }
    }
}

impl Planes {
    fn of(geometry: &ConvGeometry) -> Self {
        if geometry.stride == [1, 1] && geometry.pads == [0; 4] {
            return Self { direct: true, rows: geometry.in_height, pitch: geometry.in_width, phases: vec![[0, 0]] };
        }
        let used = |axis: usize| {
            let mut phases: Vec<usize> = (0..geometry.kernel[axis].min(geometry.stride[axis]))
                .map(|tap| tap * geometry.dilation[axis] % geometry.stride[axis])
                .collect();
            phases.sort_unstable();
            phases.dedup();
            phases
        };
        let span = |axis: usize| geometry.tap_span(axis).expect("validate() checked it") / geometry.stride[axis];
        let columns = used(1);
        Self {
            direct: false,
            rows: geometry.out_height() + span(0),
            pitch: geometry.out_width() + span(1),
            phases: used(0).into_iter().flat_map(|row| columns.iter().map(move |column| [row, *column])).collect(),
        }
    }

    /// Where the pixels of `channel` under kernel tap `tap` start.
    fn offset(&self, geometry: &ConvGeometry, channel: usize, tap: [usize; 2]) -> usize {
        let at = [tap[0] * geometry.dilation[0], tap[1] * geometry.dilation[1]];
        let phase = [at[0] % geometry.stride[0], at[1] % geometry.stride[1]];
        let phase = self.phases.iter().position(|known| *known == phase).expect("phases cover every kernel tap");
        let plane = channel * self.phases.len() + phase;
        (plane * self.rows + at[0] / geometry.stride[0]) * self.pitch + at[1] / geometry.stride[1]
    }

    /// Blocks of input channels, so that what one tile reads of a block stays in the first-level cache.
    fn blocks(&self, geometry: &ConvGeometry, tile: usize, nnz: usize) -> usize {
        if geometry.groups > 1 {
            return 1;
        }
        let halo = (geometry.kernel[0] - 1) * geometry.dilation[0] / geometry.stride[0] * self.pitch;
        let per_plane = (tile + halo).min(self.rows * self.pitch);
        let cached = geometry.in_channels * self.phases.len() * per_plane / CACHED_ELEMENTS;
        let paying = nnz / geometry.out_channels / BLOCK_NONZEROS;
        cached.min(paying).min(geometry.in_channels).max(1)
    }

    /// Copies the image into the planes and writes every zero of the halo.
    fn fill(&self, geometry: &ConvGeometry, x: &[f32], planes: &mut [f32]) {
        let [pad_top, pad_left, ..] = geometry.pads;
        let [step_rows, step_columns] = geometry.stride;
        let image = geometry.in_height * geometry.in_width;
        let per_channel = self.phases.len() * self.rows * self.pitch;
        for (x, planes) in x.chunks_exact(image).zip(planes.chunks_exact_mut(per_channel)) {
            for (phase, plane) in self.phases.iter().zip(planes.chunks_exact_mut(self.rows * self.pitch)) {
                // first plane column with data, one past the last, and the image column of the first
                let left = pad_left.saturating_sub(phase[1]).div_ceil(step_columns).min(self.pitch);
                let end = (geometry.in_width + pad_left).saturating_sub(phase[1]).div_ceil(step_columns);
                let end = end.clamp(left, self.pitch);
                for (row, out) in plane.chunks_exact_mut(self.pitch).enumerate() {
                    let source = (row * step_rows + phase[0]).checked_sub(pad_top);
                    let Some(source) = source.filter(|source| *source < geometry.in_height && left < end) else {
                        out.fill(0.0);
                        continue;
                    };
                    let from = source * geometry.in_width + left * step_columns + phase[1] - pad_left;
                    out[..left].fill(0.0);
                    out[end..].fill(0.0);
                    let data = &mut out[left..end];
                    match step_columns {
                        1 => data.copy_from_slice(&x[from..from + data.len()]),
                        2 => copy_every::<2>(&x[from..], data),
                        _ => data.iter_mut().zip(x[from..].iter().step_by(step_columns)).for_each(|(to, x)| *to = *x),
                    }
                }
            }
        }
    }
}

/// Copies elements 0, `STEP`, `2 * STEP`, ...; the constant step lets the compiler use vector shuffles.
fn copy_every<const STEP: usize>(from: &[f32], to: &mut [f32]) {
    let Some((last, head)) = to.split_last_mut() else { return };
    *last = from[head.len() * STEP];
    head.iter_mut().zip(from.chunks_exact(STEP)).for_each(|(to, from)| *to = from[0]);
}

/// Whether the maps are those of the geometry.
fn check_maps(geometry: &ConvGeometry, input: Map, output: Map) -> Result<(), KernelError> {
    let expected = Map::tight(geometry.in_channels, geometry.in_height, geometry.in_width);
    let found = Map { stride: expected.stride, ..input };
    if found != expected || input.stride < expected.stride {
        return Err(KernelError::Map { what: "input", expected, found: input });
    }
    let expected = Map::tight(geometry.out_channels, geometry.out_height(), geometry.out_width());
    let found = Map { stride: expected.stride, ..output };
    if found != expected || output.stride < expected.stride {
        return Err(KernelError::Map { what: "output", expected, found: output });
    }
    Ok(())
}

/// Checks the number of values, and that bytes and only bytes come with scales, which it returns.
fn check_values(geometry: &ConvGeometry, weights: &ConvWeights<'_>) -> Result<Option<Vec<f32>>, KernelError> {
    let expected = weights.positions.map_or(geometry.weights().unwrap_or(0), <[u32]>::len);
    if weights.values.len() != expected {
        return Err(KernelError::ValueCount { expected, found: weights.values.len() });
    }
    let expected = if matches!(weights.values, Values::I8(_)) { geometry.out_channels } else { 0 };
    let found = weights.scales.map_or(0, <[f32]>::len);
    if found != expected {
        return Err(KernelError::ScaleCount { expected, found });
    }
    Ok(weights.scales.map(<[f32]>::to_vec))
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
