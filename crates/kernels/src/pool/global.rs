//! The mean of every plane, as a tight vector: what stands between the last convolution and the classifier.

use std::ops::Range;

use crate::window::check_map;
use crate::{Call, Isa, KernelError, Layer, Map};

/// Pixels of one unit, roughly.
const UNIT_PIXELS: usize = 8192;

/// `y[c]` = mean of plane `c`, a map of one pixel per channel.
#[derive(Clone, Debug)]
pub struct GlobalAverage {
    isa: Isa,
    input: Map,
    output: Map,
    /// Channels of one unit.
    together: usize,
}

impl GlobalAverage {
    /// Prepares the layer for one instruction set; `output` has one pixel per channel.
    ///
    /// # Errors
    /// An empty input, or maps that do not belong together, see [`KernelError`].
    pub fn prepare(isa: Isa, input: Map, output: Map) -> Result<Self, KernelError> {
        check_map("input", Map { stride: input.pixels(), ..input }, input)?;
        check_map("output", Map::tight(input.channels, 1, 1), output)?;
        if input.channels * input.pixels() == 0 {
            return Err(KernelError::Zero { what: "the number of pixels" });
        }
        let together = (UNIT_PIXELS / input.pixels()).clamp(1, input.channels);
        Ok(Self { isa: isa.or_portable(), input, output, together })
    }

    fn channels(&self, units: &Range<usize>) -> Range<usize> {
        units.start * self.together..self.input.channels.min(units.end * self.together)
    }
}

impl Layer for GlobalAverage {
    fn input(&self) -> Map {
        self.input
    }

    fn output(&self) -> Map {
        self.output
    }

    fn units(&self) -> usize {
        self.input.channels.div_ceil(self.together)
    }

    fn unit_cost(&self, unit: usize) -> u64 {
        self.channels(&(unit..unit + 1)).len() as u64
    }

    /// A residual is added to the mean.
    unsafe fn run_units(&self, units: Range<usize>, call: &Call<'_>, _scratch: &mut [f32]) {
        assert!(self.isa.runs_here(), "this CPU lacks {}", self.isa.name());
        assert!(units.start <= units.end && units.end <= self.units(), "{units:?} of {} units", self.units());
        assert!(call.x.len() >= self.input.len(), "input of {} elements is too short", call.x.len());
        let scale = 1.0 / self.input.pixels() as f32;
        for channel in self.channels(&units) {
            let plane = &call.x[channel * self.input.stride..][..self.input.pixels()];
            // SAFETY: the CPU has the instructions, as asserted above.
            let sum = unsafe {
                match self.isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512::sum(plane),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2::sum(plane),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => neon::sum(plane),
                    Isa::Scalar => scalar::sum(plane),
                    #[allow(unreachable_patterns, reason = "the instruction sets of other architectures")]
                    _ => unreachable!("runs_here() was asserted"),
                }
            };
            let at = channel * self.output.stride;
            let residual = call.residual.map_or(0.0, |residual| residual[at]);
            // SAFETY: this channel is in one of the units that are this call's alone.
            unsafe { call.y.slice_mut(at..at + 1)[0] = sum * scale + residual };
        }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn kernel(&self) -> String {
        format!("f32_global_average_{}", self.isa.name())
    }
}

/// Defines `sum` for one instruction set: four vectors of partial sums, added as a tree.
macro_rules! plane_sum {
    ($(#[$features:meta])?) => {
        /// # Safety
        /// The CPU has the features.
        $(#[$features])?
        pub(super) unsafe fn sum(plane: &[f32]) -> f32 {
            let mut sums = [splat(0.0); 4];
            let mut blocks = plane.chunks_exact(4 * LANES);
            for block in &mut blocks {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: a block has four vectors.
                    *sum = add(*sum, unsafe { load(block.as_ptr().add(v * LANES)) });
                }
            }
            for (sum, rest) in sums.iter_mut().zip(blocks.remainder().chunks(LANES)) {
                // SAFETY: `rest` has 1 to `LANES` elements.
                *sum = add(*sum, unsafe { load_tail(rest.as_ptr(), tail(rest.len())) });
            }
            let mut lanes = [0.0; LANES];
            let total = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
            // SAFETY: the array has `LANES` elements.
            unsafe { store(lanes.as_mut_ptr(), total) };
            let mut half = LANES / 2;
            while half > 0 {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
                half /= 2;
            }
            lanes[0]
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use crate::isa::avx2::*;
    plane_sum!(#[target_feature(enable = "avx2,fma")]);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use crate::isa::avx512::*;
    plane_sum!(#[target_feature(enable = "avx512f")]);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use crate::isa::neon::*;
    plane_sum!(#[target_feature(enable = "neon")]);
}

mod scalar {
    use crate::isa::scalar::*;
    plane_sum!();
}
