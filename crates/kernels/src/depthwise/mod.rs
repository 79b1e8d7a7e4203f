//! Dense depthwise convolution: one filter per channel, as MobileNets alternate with (sparse) 1x1 convolutions.
//!
//! Any kernel size, stride, dilation and padding; strides 1 and 2 are fast.
//! How it computes is said in [`crate::window`]; here the weights are put in its order.

use std::ops::Range;
use std::sync::Arc;

use crate::conv::ConvGeometry;
use crate::window::{self, Parameters, WEIGHTED, Window};
use crate::{Activation, Call, Isa, KernelError, Layer, Map, bias_or_zeros};

/// `y[c] = act(bias[c] + w[c] * x[c] + residual[c])` with one kernel `w[c]` per channel.
#[derive(Clone, Debug)]
pub struct DepthwiseConv {
    window: Window,
    parameters: Parameters,
    geometry: ConvGeometry,
}

impl DepthwiseConv {
    /// Prepares the layer for one instruction set.
    ///
    /// * `geometry`: as many groups as input channels and as output channels.
    /// * `input`, `output`: maps of the geometry's sizes, any plane strides.
    /// * `weights`: `[channels, kernel rows, kernel columns]`, row-major.
    /// * `bias`: one per channel; zeros if absent.
    ///
    /// # Errors
    /// A geometry that is not depthwise, or lengths and maps that do not belong to it, see [`KernelError`].
    pub fn prepare(
        isa: Isa,
        geometry: &ConvGeometry,
        input: Map,
        output: Map,
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Result<Self, KernelError> {
        let window = Window::plan(isa, geometry, input, output, 0.0)?;
        let (channels, taps) = (output.channels, window.order.len());
        if weights.len() != channels * taps {
            return Err(KernelError::ValueCount { expected: channels * taps, found: weights.len() });
        }
        let bias = bias_or_zeros(bias, channels)?;
        let weights =
            weights.chunks_exact(taps).flat_map(|filter| window.order.iter().map(|tap| filter[*tap])).collect();
        let parameters = Parameters { weights, bias, activation, ..Parameters::default() };
        Ok(Self { window, parameters, geometry: geometry.clone() })
    }
}

impl Layer for DepthwiseConv {
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
        unsafe { window::run::<WEIGHTED>(&self.window, &self.parameters, units, call, scratch) }
    }

    fn weight_bytes(&self) -> usize {
        size_of::<f32>() * (self.parameters.weights.len() + self.parameters.bias.len())
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn kernel(&self) -> String {
        let [kh, kw] = self.geometry.kernel;
        format!("f32_depthwise_{kh}x{kw}_{}", self.window.isa.name())
    }
}

#[cfg(test)]
mod tests;
