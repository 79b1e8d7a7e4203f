//! Shortcuts without weights: every `stride`-th pixel, in the middle of zero channels ("option A" of the ResNet paper for CIFAR).

use std::ops::Range;

use super::{UNIT_ELEMENTS, vectors};
use crate::window::check_map;
use crate::{Activation, Call, Isa, KernelError, Layer, Map};

/// `y[before + c, i, j] = x[c, i * stride, j * stride]`; `before` channels ahead and `after` channels behind are zero.
#[derive(Clone, Debug)]
pub struct Shortcut {
    isa: Isa,
    stride: usize,
    before: usize,
    input: Map,
    output: Map,
    /// Output channels of one unit.
    together: usize,
}

impl Shortcut {
    /// Prepares the layer for one instruction set.
    ///
    /// * `stride`: step between the rows and columns that are kept, the first included.
    /// * `before`, `after`: zero channels ahead of and behind the input's.
    ///
    /// # Errors
    /// A stride of 0, or maps that do not belong together, see [`KernelError`].
    pub fn prepare(
        isa: Isa,
        input: Map,
        output: Map,
        stride: usize,
        before: usize,
        after: usize,
    ) -> Result<Self, KernelError> {
        if stride == 0 {
            return Err(KernelError::Zero { what: "stride" });
        }
        check_map("input", Map { stride: input.pixels(), ..input }, input)?;
        let Some(channels) = before.checked_add(after).and_then(|zeros| zeros.checked_add(input.channels)) else {
            return Err(KernelError::TooLarge { what: "the output" });
        };
        let [height, width] = [input.height, input.width].map(|size| size.div_ceil(stride));
        check_map("output", Map::tight(channels, height, width), output)?;
        let together = (UNIT_ELEMENTS / output.pixels().max(1)).clamp(1, channels.max(1));
        Ok(Self { isa: isa.or_portable(), stride, before, input, output, together })
    }

    fn channels(&self, units: &Range<usize>) -> Range<usize> {
        units.start * self.together..self.output.channels.min(units.end * self.together)
    }
}

impl Layer for Shortcut {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.output.channels.div_ceil(self.together).max(1)
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        self.channels(&(unit..unit + 1)).len() as u64
    }

    /// A residual is not taken: it panics.
    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _scratch: &mut [f32]) {
        assert!(self.isa.runs_here(), "this CPU lacks {}", self.isa.name());
        assert!(units.start <= units.end && units.end <= self.units(), "{units:?} of {} units", self.units());
        assert!(call.residual.is_none(), "a shortcut takes no residual");
        let (pixels, width) = (self.output.pixels(), self.input.width);
        for channel in self.channels(&units).filter(|_| pixels > 0) {
            let start = channel * self.output.stride;
            // SAFETY: this channel is in one of the units that are this call's alone.
            let y = unsafe { call.y.slice_mut(start..start + pixels) };
            if channel < self.before || channel >= self.before + self.input.channels {
                y.fill(0.0);
                continue;
            }
            let x = &call.x[(channel - self.before) * self.input.stride..][..self.input.pixels()];
            if self.stride == 1 {
                vectors::map(self.isa, x, None, Activation::None, y);
                continue;
            }
            for (row, y) in y.chunks_exact_mut(self.output.width).enumerate() {
                let x = &x[row * self.stride * width..][..width];
                if self.stride == 2 {
                    vectors::every_second(self.isa, x, y);
                } else {
                    y.iter_mut().zip(x.iter().step_by(self.stride)).for_each(|(y, x)| *y = *x);
                }
            }
        }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn kernel(&self) -> String {
        format!("f32_shortcut_{}", self.isa.name())
    }
}
