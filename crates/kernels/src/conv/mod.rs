//! Convolutions of one planar image: sparse, block-sparse or dense, all through the tile kernels of [`planes`](crate::planes).
//!
//! A 1x1 convolution of stride 1 reads its input map as it is. Any other first spreads a piece of the input into aligned copies,
//! zero padding included, one per kernel column and stride phase, so that every weight is one constant aligned offset.

mod choice;
mod geometry;
mod layer;
mod places;
mod tiny;

pub use choice::ConvChoice;
pub use geometry::ConvGeometry;
pub use layer::{Conv, ConvWeights};
pub use tiny::TinyConv;

use crate::planes::Values;
use crate::{KernelError, Map};

/// Whether the maps are those of the geometry.
pub(crate) fn check_maps(geometry: &ConvGeometry, input: Map, output: Map) -> Result<(), KernelError> {
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

/// Checks a convolution whose weights all exist, and returns its bias.
pub(crate) fn check_dense(
    geometry: &ConvGeometry,
    input: Map,
    output: Map,
    weights: &[f32],
    bias: Option<&[f32]>,
) -> Result<Vec<f32>, KernelError> {
    geometry.validate()?;
    check_maps(geometry, input, output)?;
    let bias = crate::bias_or_zeros(bias, geometry.out_channels)?;
    let expected = geometry.weights().unwrap_or(0);
    if weights.len() != expected {
        return Err(KernelError::ValueCount { expected, found: weights.len() });
    }
    Ok(bias)
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
mod tests;
