//! Max pooling, average pooling, and the mean of whole planes.

mod global;

pub use global::GlobalAverage;

use std::ops::Range;
use std::sync::Arc;

use crate::conv::ConvGeometry;
use crate::window::{self, LARGEST, Parameters, SUM, Window};
use crate::{Activation, Call, Isa, KernelError, Layer, Map};

/// How the pixels of a window become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest, starting from `f32::MIN`: NaN and negative infinity never win. So does tract, so that it does not matter
    /// which of the two runs a layer. Padding never wins.
    Max,
    /// The sum times the reciprocal of the number of positions counted.
    Average {
        /// Rows and columns of padding at the top, left, bottom and right whose positions count. Zeros for ONNX
        /// `count_include_pad = 0`; the explicit padding for 1 (what `ceil_mode` adds beyond it never counts).
        counted_pads: [usize; 4],
    },
}

/// Pooling with a sliding window; see [`GlobalAverage`] for whole planes.
#[derive(Clone, Debug)]
pub struct Pool {
    window: Window,
    parameters: Parameters,
    kind: PoolKind,
    geometry: ConvGeometry,
}

impl Pool {
    /// Prepares the layer for one instruction set.
    ///
    /// * `geometry`: as many groups as input channels and as output channels; what ONNX `ceil_mode` adds is in its
    ///   padding at the bottom and right.
    /// * `input`, `output`: maps of the geometry's sizes, any plane strides.
    ///
    /// # Errors
    /// A geometry that is not one window per channel, maps that do not belong to it, or an average of a window without any
    /// counted position, see [`KernelError`].
    pub fn prepare(
        isa: Isa,
        kind: PoolKind,
        geometry: &ConvGeometry,
        input: Map,
        output: Map,
    ) -> Result<Self, KernelError> {
        let padding = if kind == PoolKind::Max { f32::MIN } else { 0.0 };
        let window = Window::plan(isa, geometry, input, output, padding)?;
        let lanes = window.isa.lanes();
        let mut parameters = Parameters { activation: Activation::None, ..Parameters::default() };
        if let PoolKind::Average { counted_pads } = kind {
            let rows = counted(geometry, 0, output.height, counted_pads);
            let columns = counted(geometry, 1, output.width, counted_pads);
            if rows.iter().chain(&columns).any(|count| *count == 0) {
                return Err(KernelError::Zero { what: "the number of positions in a pooling window" });
            }
            let pixels = rows.iter().flat_map(|rows| columns.iter().map(move |columns| rows * columns));
            let scales = pixels.map(|count| 1.0 / count as f32);
            parameters.scales = scales.chain(std::iter::repeat_n(0.0, lanes)).collect();
        }
        Ok(Self { window, parameters, kind, geometry: geometry.clone() })
    }
}

/// Per output row (`axis` 0) or column (1): taps that lie on the input or on counted padding.
fn counted(geometry: &ConvGeometry, axis: usize, outputs: usize, counted_pads: [usize; 4]) -> Vec<usize> {
    let before = geometry.pads[axis];
    // In padded coordinates; padding beyond the layer's own does not exist.
    let from = before - counted_pads[axis].min(before);
    let input = [geometry.in_height, geometry.in_width][axis];
    let until = before + input + counted_pads[axis + 2].min(geometry.pads[axis + 2]);
    let (stride, dilation) = (geometry.stride[axis], geometry.dilation[axis]);
    let inside = |output: usize| {
        (0..geometry.kernel[axis]).filter(move |tap| (from..until).contains(&(output * stride + tap * dilation)))
    };
    (0..outputs).map(|output| inside(output).count()).collect()
}

impl Layer for Pool {
    fn input(&self) -> Map {
        self.window.input
    }

    fn output(&self) -> Map {
        self.window.output
    }

    fn units(&self) -> usize {
        self.window.units()
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        self.window.unit_cost(unit)
    }

    fn scratch_len(&self) -> usize {
        self.window.scratch_len()
    }

    fn halo(&self) -> usize {
        self.window.halo()
    }

    fn in_slabs(&self, input: Map, output: Map) -> Option<Arc<dyn Layer>> {
        let window = Window::plan(self.window.isa, &self.geometry, input, output, self.window.padding).ok()?;
        Some(Arc::new(Self { window, ..self.clone() }))
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, scratch: &mut [f32]) {
        // SAFETY: by this function's contract.
        unsafe {
            match self.kind {
                PoolKind::Max => window::run::<LARGEST>(&self.window, &self.parameters, units, call, scratch),
                PoolKind::Average { .. } => window::run::<SUM>(&self.window, &self.parameters, units, call, scratch),
            }
        }
    }

    fn weight_bytes(&self) -> usize {
        size_of::<f32>() * self.parameters.scales.len()
    }

    fn macs(&self) -> u64 {
        0
    }

    fn kernel(&self) -> String {
        let ([kh, kw], isa) = (self.geometry.kernel, self.window.isa.name());
        match self.kind {
            PoolKind::Max => format!("f32_max_pool_{kh}x{kw}_{isa}"),
            PoolKind::Average { .. } => format!("f32_average_pool_{kh}x{kw}_{isa}"),
        }
    }
}

#[cfg(test)]
mod tests;
