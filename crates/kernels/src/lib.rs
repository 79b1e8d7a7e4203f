//! Packed weight formats and sparse kernels on plain slices.
//!
//! In: the positions and values of the weights that survived pruning, as they lie in a packed ONNX file or come from
//! a dense slice. Out: either those bytes ([`packed`]), or layers that run on them without ever making the dense
//! weights: [`conv::Conv`] and [`gemv::SparseLinear`], both on planar (CHW) activations. Beside them the layers that a
//! sparse network keeps dense or that have no weights: [`dense`], [`depthwise`], [`pool`], [`elementwise`]. In bytes instead of numbers
//! where that was asked for: [`int8`].
//! Layers (all that is [`Layer`]) join to a [`region::Region`], which runs them on one arena with a [`team::Team`] of threads.
//! With the feature `training`, which a board build never turns on, also dense matrix products (`product::product`) and the
//! layers of a training step, forward and backward (`training`).
//!
//! ```
//! use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
//! use sentei_kernels::packed::{ByteBudget, Encoding, Packed, Values, nonzeros};
//! use sentei_kernels::{Activation, Isa, Layer, Map, planes};
//!
//! // one 3x3 filter with two non-zeros: the centre and its right neighbour
//! let dense = [0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0];
//! let (positions, values) = nonzeros(&dense);
//! let packed = Packed::encode(&[1, 1, 3, 3], Encoding::Gap4, &positions, Values::F32(values), None)?;
//! packed.validate(&mut ByteBudget::default())?;
//!
//! let geometry = ConvGeometry { pads: [1, 1, 1, 1], ..ConvGeometry::new(1, [1, 3], 1, [3, 3]) };
//! let (positions, values): (Vec<u32>, Vec<f32>) = packed.iter().unzip();
//! let values = planes::Values::F32(values);
//! let weights = ConvWeights { positions: Some(&positions), values: &values, scales: None, bias: Some(&[-5.0]) };
//! let (isa, map) = (Isa::best(), Map::tight(1, 1, 3));
//! let choice = ConvChoice::guess(isa, &geometry, map, positions.len(), 1);
//! let conv = Conv::prepare(isa, &geometry, map, map, weights, Activation::Relu, choice)?;
//! let (mut y, mut scratch) = ([0.0; 3], vec![0.0; conv.scratch_len()]);
//! conv.run(&[1.0, 2.0, 3.0], &mut y, None, &mut scratch);
//! assert_eq!(y, [0.0, 2.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants**
//! - No tensors, graphs, models or files; no threads but those of a [`team`]; no dependency on another room.
//! - `run` never allocates and gives the same bits however the caller cuts the pixels or the batch, and for every team.
//! - A packed tensor that passed [`packed::Packed::validate`] decodes without panic, inside the byte budget.
//! - Hostile bytes meet `packed` only; kernels get weights that were checked there. `unsafe` stands only in the
//!   instruction-set files (`avx2`, `avx512`, `neon`, and `neon32`, which calls C), the tile loop they share, the safe wrapper of each table,
//!   the one call each behind `product` and the functions on memory of the process, the hand-over of a job to a [`team`], and one file of
//!   [`region`] that says why its arena may be shared.

pub mod conv;
pub mod dense;
pub mod depthwise;
pub mod elementwise;
pub mod gemv;
pub mod int8;
pub mod packed;
pub mod planes;
pub mod pool;
#[cfg(feature = "training")]
pub mod product;
pub mod region;
pub mod team;
#[cfg(feature = "training")]
pub mod training;
pub mod winograd;

mod activation;
mod error;
mod heap;
mod isa;
mod layer;
mod map;
#[cfg(test)]
mod map_testing;
mod window;

pub use activation::Activation;
pub use error::KernelError;
pub use heap::{forget_idle_code, keep_freed_memory, refuse_huge_pages, return_freed_memory};
pub use isa::Isa;
pub use layer::{Call, Layer, Shared};
pub use map::{LINE, Map};

/// Name of every family of micro-kernels of this build, and whether this processor can run it.
///
/// What runs a layer is named after its tile too: `f32_planes_224x1_avx512`, 224 pixels times 1 output, is one of `f32_planes_avx512`.
pub fn kernels() -> Vec<(String, bool)> {
    let tiles = ["f32_planes", "i8_planes", "f32_padded", "i8_padded"];
    let planes = |isa: &Isa| tiles.map(|family| (format!("{family}_{}", isa.name()), isa.runs_here()));
    let vectors =
        |kernel: &gemv::GemvKernel| [kernel.name, kernel.name_i8].map(|name| (name.to_owned(), kernel.isa.runs_here()));
    Isa::COMPILED.iter().flat_map(planes).chain(gemv::GEMV.iter().flat_map(vectors)).chain(int8::names()).collect()
}

/// Checks that flat indices are strictly increasing and below `len`.
fn ordered<T>(nonzeros: impl IntoIterator<Item = (u32, T)>, len: usize) -> Result<Vec<(u32, T)>, KernelError> {
    let mut previous: Option<u32> = None;
    let check = |(index, value): (u32, T)| {
        if index as usize >= len {
            return Err(KernelError::IndexOutside { index, len });
        }
        if let Some(previous) = previous.filter(|previous| *previous >= index) {
            return Err(KernelError::IndexOrder { previous, index });
        }
        previous = Some(index);
        Ok((index, value))
    };
    nonzeros.into_iter().map(check).collect()
}

/// A bias of the right length; zeros where the layer has none.
fn bias_or_zeros(bias: Option<&[f32]>, outputs: usize) -> Result<Vec<f32>, KernelError> {
    match bias {
        None => Ok(vec![0.0; outputs]),
        Some(bias) if bias.len() == outputs => Ok(bias.to_vec()),
        Some(bias) => Err(KernelError::BiasLength { expected: outputs, found: bias.len() }),
    }
}
