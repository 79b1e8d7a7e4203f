//! N of every M weights in a row along the input channels.
//!
//! For each output channel and kernel position the weights of input channels `0..M`, `M..2M`, ... are one group: the
//! layout that TensorRT asks of 2:4 sparsity. A group at the end with fewer than M weights keeps `ceil(N * rest / M)`. A
//! layer with fewer than M input channels stays dense: its tensor cores would have nothing to skip.
//!
//! Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv:2104.08378), section 3.

use sentei_graph::Mask;

use crate::layers::Layer;
use crate::masks::{MaskError, highest, ranks};

/// Whether a layer has the input channels of at least one group.
pub fn fits(layer: &Layer, m: usize) -> bool {
    layer.shape.get(1).is_some_and(|inputs| *inputs >= m)
}

/// Flat indices of each group, ascending within it; groups at the end of the input channels may be shorter.
pub fn groups(layer: &Layer, m: usize) -> impl Iterator<Item = Vec<usize>> {
    let (outputs, inputs) = (layer.shape[0], layer.shape[1]);
    let kernel: usize = layer.shape[2..].iter().product();
    let places = (0..outputs).flat_map(move |o| (0..kernel).map(move |p| (o, p)));
    let starts = places.flat_map(move |(o, p)| (0..inputs).step_by(m).map(move |i| (o, p, i)));
    starts.map(move |(o, p, i)| (i..inputs.min(i + m)).map(|i| (o * inputs + i) * kernel + p).collect())
}

/// Weights that a group of `len` keeps: `n` of a whole one, the same share, rounded up, of one at the end.
pub fn kept_in(len: usize, n: usize, m: usize) -> usize {
    (n * len).div_ceil(m)
}

/// Weights that a group keeps on the way to `n` of `m`, at an overall density of `density`: as few as hold it, but not
/// fewer than `n`.
///
/// Schedules that remove in steps thereby go through patterns themselves, for 2:4 through 3:4.
pub fn kept_at(density: f64, n: usize, m: usize) -> usize {
    // Densities like n / m come back from a product with rounding errors far below one weight.
    const ROUNDING: f64 = 1e-9;
    ((density * m as f64 - ROUNDING).ceil() as usize).clamp(n, m)
}

/// Keeps the `n` highest-scoring live weights of every group of `m`, fewer where fewer are live.
///
/// * `scores`: one saliency per weight, flat; higher means "keep". Among equal scores the lowest index goes first.
/// * `live`: weights that are not pruned yet; the result is a subset of it, and all of it when the layer does not fit.
///
/// # Errors
/// [`MaskError::NotFinite`] when the score of a live weight is NaN or infinite.
pub fn select(layer: &Layer, scores: &[f32], live: &Mask, n: usize, m: usize) -> Result<Mask, MaskError> {
    if !fits(layer, m) {
        return Ok(live.clone());
    }
    let mut rank = vec![None; layer.len()];
    for (score, index) in ranks(&layer.name, scores, live)? {
        rank[index] = Some((score, index));
    }
    let mut bits = vec![false; layer.len()];
    for group in groups(layer, m) {
        let keep = kept_in(group.len(), n, m);
        let mut ranked: Vec<(u32, usize)> = group.into_iter().filter_map(|index| rank[index]).collect();
        highest(&mut ranked, keep).iter().for_each(|(_, index)| bits[*index] = true);
    }
    Ok(Mask::from_bits(bits))
}
