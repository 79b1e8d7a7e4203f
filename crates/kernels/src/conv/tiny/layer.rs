//! The layer: copies, then sparse steps or dense panels.

use std::ops::Range;

use super::pixels::{Finish, Pick};
use super::steps::{Item, Steps};
use super::taps::Taps;
use super::{MOST_PIXELS, Panels, Pixels, dense, sparse};
use crate::conv::{ConvGeometry, ConvWeights, check_maps, check_values};
use crate::gemv::Lines;
use crate::planes::Values;
use crate::{Activation, Call, Isa, KernelError, LINE, Layer, Map, layer};

/// Bytes of the first-level cache that the positions of one block may take.
const BLOCK: usize = 32 << 10;
/// Segments of rows that threads share.
const SEGMENTS: usize = 8;
/// Elements of one unit of the kernel's offsets.
const UNIT: usize = 2;

/// A prepared convolution of small maps.
#[derive(Debug)]
pub struct TinyConv {
    geometry: ConvGeometry,
    input: Map,
    output: Map,
    activation: Activation,
    isa: Isa,
    pixels: Pixels,
    taps: Taps,
    per_block: usize,
    bias: Lines<f32>,
    scales: Option<Vec<f32>>,
    weights: Weights,
    macs: u64,
}

#[derive(Debug)]
enum Weights {
    Sparse(Steps),
    /// `[panel][position][output of the panel]`.
    Dense(Panels, Lines<f32>),
}

impl TinyConv {
    /// Whether there is a kernel for the geometry, with weights that exist or with all of them.
    pub fn fits(isa: Isa, geometry: &ConvGeometry, dense: bool) -> bool {
        let pixels = geometry.out_height() * geometry.out_width();
        let small = geometry.in_height * geometry.in_width <= MOST_PIXELS && (1..=MOST_PIXELS).contains(&pixels);
        let kernel = if dense { geometry.groups == 1 && super::panels(isa, pixels).is_some() } else { true };
        small && kernel && geometry.out_channels < usize::from(u16::MAX)
    }

    /// Prepares a convolution from planes `input` to planes `output`; without positions, the dense kernel.
    ///
    /// # Errors
    /// [`KernelError`] when there is no kernel (see [`TinyConv::fits`]), the geometry is impossible or does not fit the maps, an
    /// index is out of order or range, or values, scales or bias have the wrong length.
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
    ) -> Result<Self, KernelError> {
        assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
        let isa = isa.or_portable();
        geometry.validate()?;
        check_maps(geometry, input, output)?;
        let dense = weights.positions.is_none();
        if !Self::fits(isa, geometry, dense) || (dense && weights.scales.is_some()) {
            return Err(KernelError::NoKernel { what: "these sizes as a small map" });
        }
        let of_output = crate::bias_or_zeros(weights.bias, geometry.out_channels)?;
        let scales = check_values(geometry, &weights)?;
        let pixels = super::pixels(isa, output.pixels());
        let taps = Taps::of(geometry);
        let positions = geometry.in_channels * taps.len();
        let macs = (weights.values.len() * output.pixels()) as u64;
        let panels = super::panels(isa, output.pixels()).filter(|_| dense);
        let padded = geometry.out_channels.next_multiple_of(panels.map_or(1, |panels| panels.outputs));
        let mut bias = Lines::zeros(padded);
        bias.as_mut_slice()[..of_output.len()].copy_from_slice(&of_output);
        let (weights, per_block) = match (panels, weights.values) {
            (Some(panels), Values::F32(values)) => {
                (Weights::Dense(panels, lay_out(geometry, &taps, panels.outputs, values)), positions)
            }
            _ => {
                let most = BLOCK / (pixels.lanes * size_of::<f32>()) - 1;
                let blocks = positions.div_ceil(most).max(1);
                let per_block = positions.div_ceil(blocks).max(1);
                let items = items(geometry, &taps, &weights, per_block, pixels.lanes / UNIT)?;
                let segments = SEGMENTS.min(geometry.out_channels / 16).max(1);
                let rows = geometry.out_channels;
                let steps = Steps::build(&items, weights.values, rows, blocks, segments, pixels.rows);
                (Weights::Sparse(steps), per_block)
            }
        };
        let geometry = geometry.clone();
        Ok(Self { geometry, input, output, activation, isa, pixels, taps, per_block, bias, scales, weights, macs })
    }

    /// Elements of the copies.
    fn copies(&self) -> usize {
        let positions = self.geometry.in_channels * self.taps.len();
        (positions + positions.div_ceil(self.per_block.max(1))) * self.pixels.lanes
    }

    /// Elements of the sums; the last row is for idle ones.
    fn sums(&self) -> usize {
        match self.weights {
            Weights::Sparse(_) => (self.output.channels + 1) * self.pixels.lanes,
            Weights::Dense(..) => 0,
        }
    }

    /// Outputs of a unit.
    fn outputs(&self, unit: usize) -> Range<usize> {
        match &self.weights {
            Weights::Sparse(steps) => steps.segments[unit].clone(),
            Weights::Dense(panels, _) => unit * panels.outputs..((unit + 1) * panels.outputs).min(self.output.channels),
        }
    }

    /// # Safety
    /// As [`Layer::run_units`]; the copies are those of this input.
    unsafe fn sparse(&self, steps: &Steps, units: Range<usize>, call: &Call<'_>, copies: &[f32], sums: &mut [f32]) {
        let (lanes, rows) = (self.pixels.lanes, steps.segments[units.start].start..steps.segments[units.end - 1].end);
        assert!(sums.len() >= self.sums() && copies.len() >= self.copies(), "room for sums and copies");
        for row in rows.clone() {
            sums[row * lanes..][..lanes].fill(if self.scales.is_none() { self.bias[row] } else { 0.0 });
        }
        sums[self.output.channels * lanes..][..lanes].fill(0.0);
        for block in 0..steps.blocks {
            for unit in units.clone() {
                let (groups, first) = steps.part(unit, block);
                let values = match &steps.values {
                    Values::F32(values) => values[first..].as_ptr(),
                    Values::I8(values) => values[first..].as_ptr().cast(),
                };
                let pass = sparse::Pass {
                    groups,
                    offsets: steps.offsets[first..].as_ptr(),
                    values,
                    bytes: matches!(steps.values, Values::I8(_)),
                    x: copies[block * (self.per_block + 1) * lanes..].as_ptr(),
                    sums: sums.as_mut_ptr(),
                };
                // SAFETY: the CPU was asserted by `prepare`. `Steps::build` made the streams as long as the steps say; offsets lie
                // in their block by `items`, rows are those of the layer or the idle one, whose sums exist by the line above.
                unsafe { (self.pixels.pass)(self.pixels.vectors, &pass) }
            }
        }
        let finish = Finish {
            sums: sums.as_ptr(),
            bias: &self.bias,
            scales: self.scales.as_deref(),
            y: call.y.as_mut_ptr(),
            residual: call.residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            stride: self.output.stride,
            pixels: self.output.pixels(),
            activation: self.activation,
        };
        // SAFETY: as above; `run_units` compared the output and the residual with the map, and these rows are the units' own.
        unsafe { (self.pixels.finish)(self.pixels.vectors, rows, &finish) }
    }

    /// # Safety
    /// As [`Layer::run_units`]; the copies are those of this input.
    unsafe fn dense(&self, panels: &Panels, weights: &[f32], unit: usize, call: &Call<'_>, copies: &[f32]) {
        let positions = self.geometry.in_channels * self.taps.len();
        let outputs = self.outputs(unit);
        let at = outputs.start * self.output.stride;
        assert!(copies.len() >= self.copies(), "room for copies");
        let panel = dense::Panel {
            weights: weights[outputs.start * positions..][..panels.outputs * positions].as_ptr(),
            x: copies[self.pixels.lanes..].as_ptr(),
            lanes: self.pixels.lanes,
            positions,
            bias: &self.bias[outputs.start..][..panels.outputs],
            count: outputs.len(),
            y: call.y.as_mut_ptr().wrapping_add(at),
            residual: call.residual.map_or(std::ptr::null(), |residual| residual[at..].as_ptr()),
            stride: self.output.stride,
            pixels: self.output.pixels(),
            activation: self.activation,
        };
        // SAFETY: the CPU was asserted by `prepare`, which found a kernel for these pixels and made as many weights and biases. A
        // position has as many elements as any kernel for its pixels takes, see the test of the shapes. `run_units` compared the
        // output and the residual with the map, and these outputs are the unit's own.
        unsafe { (panels.panel)(&panel) }
    }
}

/// Weights `[output][channel][tap]` as panels of `outputs` outputs; the last is filled up with zeros.
fn lay_out(geometry: &ConvGeometry, taps: &Taps, outputs: usize, values: &[f32]) -> Lines<f32> {
    let (channels, kernel) = (geometry.in_channels, taps.place.len());
    let positions = channels * taps.len();
    let mut panels = Lines::zeros(geometry.out_channels.next_multiple_of(outputs) * positions);
    let to = panels.as_mut_slice();
    for (output, filter) in values.chunks_exact(channels * kernel).enumerate() {
        let start = output / outputs * outputs * positions + output % outputs;
        for (channel, weights) in filter.chunks_exact(kernel).enumerate() {
            for (weight, place) in weights.iter().zip(&taps.place) {
                if let Some(place) = place {
                    to[start + (channel * taps.len() + place) * outputs] = *weight;
                }
            }
        }
    }
    panels
}

/// One item per weight that sees any pixel; a position is `units` of the kernel's offsets wide, zeros before each block.
fn items(
    geometry: &ConvGeometry,
    taps: &Taps,
    weights: &ConvWeights<'_>,
    per_block: usize,
    units: usize,
) -> Result<Vec<Item>, KernelError> {
    let kernel = taps.place.len();
    let (inputs, outputs) = (geometry.in_channels / geometry.groups, geometry.out_channels / geometry.groups);
    let indices = crate::ordered(
        weights.positions.unwrap_or_default().iter().zip(0u32..).map(|(index, value)| (*index, value)),
        geometry.weights().expect("validate() found that the weights fit 32 bits"),
    )?;
    let item = |(index, value): (u32, u32)| {
        let (filter, tap) = (index as usize / kernel, index as usize % kernel);
        let (row, input) = (filter / inputs, filter % inputs);
        let position = (row / outputs * inputs + input) * taps.len() + taps.place[tap]?;
        // a block has at most 32 KiB, or 4096 units
        let offset = ((position % per_block + 1) * units) as u16;
        Some(Item { row: row as u32, block: (position / per_block) as u32, offset, value })
    };
    Ok(indices.into_iter().filter_map(item).collect())
}

impl Layer for TinyConv {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        match &self.weights {
            Weights::Sparse(steps) => steps.segments.len(),
            Weights::Dense(panels, _) => self.output.channels.div_ceil(panels.outputs),
        }
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        match &self.weights {
            Weights::Sparse(steps) => (steps.entries(unit) + 8 * self.outputs(unit).len()) as u64,
            Weights::Dense(..) => self.outputs(unit).len() as u64,
        }
    }

    fn scratch_len(&self) -> usize {
        self.copies() + self.sums() + LINE
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        let scratch = layer::checked(self, &units, call, scratch);
        if units.is_empty() {
            return;
        }
        let (copies, sums) = scratch.split_at_mut(self.copies());
        let pick = Pick {
            x: call.x.as_ptr(),
            stride: self.input.stride,
            pixels: self.input.pixels(),
            channels: self.input.channels,
            index: &self.taps.index,
            per_block: self.per_block,
            to: copies.as_mut_ptr(),
        };
        // SAFETY: the CPU was asserted by `prepare`; the input was compared with its map above, and `copies()` counts every position
        // and the zeros of every block.
        unsafe { (self.pixels.pick)(self.pixels.vectors, &pick) }
        // SAFETY: by this function's contract and the checks above.
        unsafe {
            match &self.weights {
                Weights::Sparse(steps) => self.sparse(steps, units, call, copies, sums),
                Weights::Dense(panels, weights) => {
                    units.for_each(|unit| self.dense(panels, weights, unit, call, copies));
                }
            }
        }
    }

    fn sums_in_file_order(&self) -> bool {
        self.scales.is_none()
    }

    fn weight_bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Sparse(steps) => steps.bytes(),
            Weights::Dense(_, weights) => size_of_val(&weights[..]),
        };
        let scales = self.scales.as_ref().map_or(0, |scales| size_of_val(&scales[..]));
        weights + scales + size_of_val(&self.bias[..])
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn kernel(&self) -> String {
        let (lanes, isa) = (self.pixels.lanes, self.isa.name());
        match &self.weights {
            Weights::Sparse(steps) => {
                let values = if matches!(steps.values, Values::I8(_)) { "i8" } else { "f32" };
                format!("{values}_tiny_{lanes}x{}_{isa}", self.pixels.rows)
            }
            Weights::Dense(panels, _) => format!("f32_tinydense_{lanes}x{}_{isa}", panels.outputs),
        }
    }
}
