//! Layers without weights or windows: sums, lone activations, copies between maps, and the shortcuts of small ResNets.

mod shortcut;
mod vectors;

pub use shortcut::Shortcut;

use std::ops::Range;

use crate::window::check_map;
use crate::{Activation, Call, Isa, KernelError, Layer, Map};

/// Elements of one unit, roughly.
const UNIT_ELEMENTS: usize = 4096;

/// `y = act(x)` or `y = act(x + residual)` for every pixel, from one plane stride to another.
#[derive(Clone, Debug)]
pub struct Elementwise {
    isa: Isa,
    kind: &'static str,
    input: Map,
    output: Map,
    activation: Activation,
    /// Channels of one unit.
    together: usize,
}

impl Elementwise {
    /// `y = act(x + residual)`; a run without a residual panics.
    ///
    /// # Errors
    /// Maps of different sizes, see [`KernelError::Map`].
    pub fn add(isa: Isa, input: Map, output: Map, activation: Activation) -> Result<Self, KernelError> {
        Self::prepare(isa, "add", input, output, activation)
    }

    /// `y = act(x)`.
    ///
    /// # Errors
    /// Maps of different sizes, see [`KernelError::Map`].
    pub fn activate(isa: Isa, input: Map, output: Map, activation: Activation) -> Result<Self, KernelError> {
        Self::prepare(isa, "activate", input, output, activation)
    }

    /// `y = x`, from one plane stride to another: at the borders of a region, and before planes become one vector.
    ///
    /// # Errors
    /// Maps of different sizes, see [`KernelError::Map`].
    pub fn copy(isa: Isa, input: Map, output: Map) -> Result<Self, KernelError> {
        Self::prepare(isa, "copy", input, output, Activation::None)
    }

    fn prepare(
        isa: Isa,
        kind: &'static str,
        input: Map,
        output: Map,
        activation: Activation,
    ) -> Result<Self, KernelError> {
        let tight = Map { stride: input.pixels(), ..input };
        check_map("input", tight, input)?;
        check_map("output", tight, output)?;
        let together = (UNIT_ELEMENTS / input.pixels().max(1)).clamp(1, input.channels.max(1));
        Ok(Self { isa: isa.or_portable(), kind, input, output, activation, together })
    }

    fn channels(&self, units: &Range<usize>) -> Range<usize> {
        units.start * self.together..self.input.channels.min(units.end * self.together)
    }
}

impl Layer for Elementwise {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.input.channels.div_ceil(self.together).max(1)
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        self.channels(&(unit..unit + 1)).len() as u64
    }

    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _scratch: &mut [f32]) {
        assert!(self.isa.runs_here(), "this CPU lacks {}", self.isa.name());
        assert!(units.start <= units.end && units.end <= self.units(), "{units:?} of {} units", self.units());
        assert!(call.residual.is_some() || self.kind != "add", "a sum needs a residual");
        let (from, to, pixels) = (self.input.stride, self.output.stride, self.input.pixels());
        let channels = self.channels(&units);
        if channels.is_empty() {
            return;
        }
        // Planes that lie alike are one run, gaps included: they mean nothing on either side. The last plane's gap is left out,
        // since it may be somebody else's first.
        let one_run = from == to;
        let len = if one_run { (channels.len() - 1) * to + pixels } else { pixels };
        for channel in if one_run { channels.start..channels.start + 1 } else { channels } {
            let x = &call.x[channel * from..][..len];
            let residual = call.residual.map(|residual| &residual[channel * to..][..len]);
            // SAFETY: these channels are in the units that are this call's alone.
            let y = unsafe { call.y.slice_mut(channel * to..channel * to + len) };
            vectors::map(self.isa, x, residual, self.activation, y);
        }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn kernel(&self) -> String {
        format!("f32_{}_{}", self.kind, self.isa.name())
    }
}

#[cfg(test)]
mod tests;
