//! Dense convolutions of a training step, forward and input gradient: both are one contraction, run by one tile of code.
//!
//! A tile is some outputs times some vectors of pixels, all sums in registers. Per channel and tap it loads its vectors, takes one weight
//! of each output in place, and multiplies. Which taps exist is constant on rectangles of the map ([`axis`]); a rectangle is cut into
//! tiles along columns, rows or blocks of images, whichever fills them best ([`plan`]). What a tile position reads is copied dense for
//! as many channels as the first-level cache holds, then all outputs pass over it; sums of more channels rest in the output meanwhile
//! ([`contraction`]). Numbers in memory are exact, so neither the chunks nor the tiles show in the bits.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod axis;
mod contraction;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plan;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;

use super::{ConvGeometry, Lanes};
use crate::team::Team;
use crate::{Isa, KernelError};
use contraction::{Contraction, Start};
use plan::Side;
use tile::Kernels;

/// A convolution with all its weights, `[O, C / groups, kh, kw]`, for one layout of the batch; weights are read in place on every call.
#[derive(Debug)]
pub struct DenseConv {
    forward: Contraction,
    gradient: Contraction,
}

impl DenseConv {
    /// Plans both directions.
    ///
    /// * `lanes`: the layout of the batch, of `isa`.
    ///
    /// # Errors
    /// What [`ConvGeometry::check`] finds; [`KernelError::Unfit`] for a layout of another instruction set.
    ///
    /// # Panics
    /// When this processor lacks the instructions.
    pub fn new(isa: Isa, geometry: ConvGeometry, lanes: Lanes) -> Result<Self, KernelError> {
        geometry.check()?;
        if lanes.lanes != isa.or_portable().lanes() {
            let expected = "for as many images as a vector of the instruction set has lanes";
            return Err(KernelError::Unfit { what: "the layout of a batch", expected });
        }
        let (kernels, geometry) = (kernels(isa), flat(geometry));
        let (taps, patch) = (geometry.kernel[0] * geometry.kernel[1], geometry.patch());
        let forward = Side {
            groups: geometry.groups,
            channels: geometry.group_in(),
            outputs: geometry.group_out(),
            source: geometry.input,
            target: geometry.output,
            kernel_width: geometry.kernel[1],
            kernel_taps: taps,
            rows: axis::forward(&geometry, 0),
            columns: axis::forward(&geometry, 1),
            w_out: patch,
            w_channel: taps,
        };
        let gradient = Side {
            channels: forward.outputs,
            outputs: forward.channels,
            source: geometry.output,
            target: geometry.input,
            rows: axis::gradient(&geometry, 0),
            columns: axis::gradient(&geometry, 1),
            w_out: taps,
            w_channel: patch,
            ..forward
        };
        let [forward, gradient] = [forward, gradient].map(|side| Contraction::new(side, lanes, kernels));
        Ok(Self { forward, gradient })
    }

    /// `y = bias + w * x`, the convolution of all images.
    ///
    /// * `x`: activations, `[N / L][C][H][W][L]`; `y` as well, every element is written.
    /// * `bias`: one per output channel; zeros where there is none.
    ///
    /// # Panics
    /// When a slice does not have the layer's length.
    pub fn forward(&self, team: &Team, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.forward.run(team, x, w, bias.map_or(Start::Zero, Start::Bias), y);
    }

    /// The gradient of the input, `gx`, from that of the output, `gy`; an input that no tap reaches gets 0.
    ///
    /// * `accumulate`: the gradient is added to what is in `gx`, as if that were the first term of each sum.
    ///
    /// # Panics
    /// When a slice does not have the layer's length.
    pub fn input_gradient(&self, team: &Team, gy: &[f32], w: &[f32], gx: &mut [f32], accumulate: bool) {
        self.gradient.run(team, gy, w, if accumulate { Start::Kept } else { Start::Zero }, gx);
    }
}

/// A kernel of one pixel sees no rows: the map is one long row.
fn flat(geometry: ConvGeometry) -> ConvGeometry {
    let plain = geometry.kernel == [1, 1] && geometry.stride == [1, 1] && geometry.pads == [0, 0];
    if !plain || geometry.input != geometry.output {
        return geometry;
    }
    let row = [1, geometry.in_plane()];
    ConvGeometry { input: row, output: row, ..geometry }
}

/// The functions of `isa`.
fn kernels(isa: Isa) -> &'static Kernels {
    assert!(isa.runs_here(), "{} cannot run on this CPU", isa.name());
    match isa.or_portable() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::KERNELS,
        _ => &scalar::KERNELS,
    }
}
