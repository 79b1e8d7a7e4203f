//! Convolutions of one planar image: sparse, block-sparse or dense, all through the tile kernels of [`planes`](crate::planes).
//!
//! A 1x1 convolution of stride 1 reads its input map as it is. Any other first copies a piece of the input, zero padding included,
//! so that every weight is one constant offset: into aligned copies, one per kernel column and stride phase, or into one per phase.

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
use crate::window::check_map;
use crate::{KernelError, Map};

/// Whether the maps are those of the geometry.
pub(crate) fn check_maps(geometry: &ConvGeometry, input: Map, output: Map) -> Result<(), KernelError> {
    let [in_size, out_size] = [[geometry.in_height, geometry.in_width], [geometry.out_height(), geometry.out_width()]];
    check_map("input", Map::tight(geometry.in_channels, in_size[0], in_size[1]), input)?;
    check_map("output", Map::tight(geometry.out_channels, out_size[0], out_size[1]), output)
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
