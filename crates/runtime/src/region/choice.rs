//! The ways to run one layer, and the kernel layer that each of them makes.

use std::sync::Arc;

use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights, TinyConv};
use sentei_kernels::dense::{DenseChoice, DenseConv};
use sentei_kernels::depthwise::DepthwiseConv;
use sentei_kernels::elementwise::{Elementwise, Shortcut};
use sentei_kernels::gemv::{DenseLinear, LinearValues, SparseLinear};
use sentei_kernels::int8::Int8Conv;
use sentei_kernels::planes::Values;
use sentei_kernels::pool::{GlobalAverage, Pool as PoolLayer, PoolKind};
use sentei_kernels::winograd::{WinogradChoice, WinogradConv};
use sentei_kernels::{Activation, Isa, KernelError, LINE, Map, gemv};

use super::graph::{Kind, Layer, Pool};
use super::weights::{Decoded, Weights};
use crate::plan::{Choice, Tile};

/// Zeros below this share are not worth a sparse candidate: dense tiles read no positions.
const LEAST_ZEROS: f64 = 0.3;
/// From this share on a sparse candidate is the likely best. Tuned plans of the benchmark networks choose sparse for every
/// convolution of 80 % and more; between those and `LEAST_ZEROS` only timing can tell.
const SPARSE_FIRST: f64 = 0.6;
/// With zeros from this share on, transforms of all weights never win over the others alone.
const TRANSFORMS: f64 = 0.85;
/// A block of outputs may store this many times the non-zeros to be a candidate.
const MOST_FILLED: f64 = 1.25;
/// Convolutions with fewer non-zeros per output than this keep numbers instead of bytes, whose scale takes as long as a non-zero, for
/// every pixel.
const BYTES_PAY: usize = 8;
/// Non-zeros that are looked at to see whether a mask has blocks.
const SAMPLE: usize = 4096;

impl From<ConvChoice> for Tile {
    fn from(choice: ConvChoice) -> Self {
        let ConvChoice { group, vectors, pitch, piece_rows, block_channels } = choice;
        Self { group, vectors, pitch, piece_rows, block_channels }
    }
}

impl From<Tile> for ConvChoice {
    fn from(tile: Tile) -> Self {
        let Tile { group, vectors, pitch, piece_rows, block_channels } = tile;
        Self { group, vectors, pitch, piece_rows, block_channels }
    }
}

impl From<DenseChoice> for Tile {
    fn from(choice: DenseChoice) -> Self {
        let DenseChoice { outputs: group, vectors, piece_rows, block_channels } = choice;
        Self { group, vectors, pitch: 0, piece_rows, block_channels }
    }
}

impl From<Tile> for DenseChoice {
    fn from(tile: Tile) -> Self {
        let Tile { group: outputs, vectors, pitch: _, piece_rows, block_channels } = tile;
        Self { outputs, vectors, piece_rows, block_channels }
    }
}

impl From<WinogradChoice> for Choice {
    fn from(choice: WinogradChoice) -> Self {
        let WinogradChoice { size, outputs: group, vectors, tile_rows: piece_rows } = choice;
        Self::Winograd(size, Tile { group, vectors, pitch: 0, piece_rows, block_channels: 0 })
    }
}

/// What is worth timing for a layer, the likely best first; never empty.
pub(crate) fn candidates(layer: &Layer, input: Map, isa: Isa) -> Vec<Choice> {
    let Some(weights) = layer.weights() else { return vec![Choice::Only] };
    let zeros = 1.0 - weights.nonzeros() as f64 / weights.elements() as f64;
    let sparse = zeros >= LEAST_ZEROS;
    let mut choices = match &layer.kind {
        Kind::Linear { .. } if sparse => vec![Choice::SparseLinear, Choice::DenseLinear],
        Kind::Linear { .. } => vec![Choice::DenseLinear],
        Kind::Conv { geometry, .. } if is_depthwise(geometry) => vec![Choice::Depthwise],
        Kind::Conv { geometry, .. } => {
            let mut choices = Vec::new();
            if sparse {
                choices.extend(TinyConv::fits(isa, geometry, false).then_some(Choice::SparseTiny));
                choices.extend(sparse_tiles(geometry, weights, input, isa).map(Choice::SparseConv));
            }
            choices.extend(TinyConv::fits(isa, geometry, true).then_some(Choice::DenseTiny));
            let transforms = match WinogradChoice::fits(geometry) && zeros < TRANSFORMS {
                true => [2, 4].map(|size| WinogradChoice::guess(isa, geometry, size)).to_vec(),
                false => Vec::new(),
            };
            let likely = WinogradChoice::likely(isa, geometry).filter(|_| zeros < SPARSE_FIRST);
            choices.extend(likely.map(Choice::from));
            let dense = DenseChoice::candidates(isa, geometry).into_iter();
            choices.extend(dense.map(|choice| Choice::DenseConv(choice.into())));
            choices.extend(transforms.into_iter().filter(|choice| likely != Some(*choice)).map(Choice::from));
            choices
        }
        _ => vec![Choice::Only],
    };
    if zeros < SPARSE_FIRST {
        // stable, so the likely best of each kind stays before the others
        choices.sort_by_key(|choice| choice.is_sparse());
    }
    choices
}

fn sparse_tiles(geometry: &ConvGeometry, weights: &Weights, input: Map, isa: Isa) -> impl Iterator<Item = Tile> {
    let nnz = weights.nonzeros();
    let positions = weights.sparse().positions.unwrap_or_default();
    let per_output = weights.elements() / geometry.out_channels;
    // whole blocks of outputs, as many as have enough non-zeros to judge by
    let outputs = (SAMPLE * geometry.out_channels / nnz.max(1)).next_multiple_of(8).max(8);
    let sample = &positions[..positions.partition_point(|at| (*at as usize) < outputs * per_output)];
    let filled = |group: usize| (blocks(sample, per_output, group) * group) as f64 / sample.len().max(1) as f64;
    let mut groups: Vec<usize> = [8, 4, 2].into_iter().filter(|group| filled(*group) <= MOST_FILLED).collect();
    groups.push(1);
    let tiles = move |group| ConvChoice::candidates(isa, geometry, input, nnz, group);
    groups.into_iter().flat_map(tiles).map(Tile::from)
}

/// Positions that at least one of `group` neighbouring outputs has, in all.
fn blocks(positions: &[u32], per_output: usize, group: usize) -> usize {
    let block = |at: &u32| (*at as usize / per_output / group, *at as usize % per_output);
    let mut blocks: Vec<(usize, usize)> = positions.iter().map(block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks.len()
}

fn is_depthwise(geometry: &ConvGeometry) -> bool {
    geometry.groups == geometry.in_channels && geometry.groups == geometry.out_channels && geometry.groups > 1
}

/// Why a choice makes no layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The kernel refuses it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The choice is for another kind of layer.
    #[error("{0:?} is for another kind of layer")]
    Kind(Choice),
    /// A number that no kernel has.
    #[error("no kernel has {0:?}")]
    Tile(Tile),
}

/// The kernel layer of one choice.
///
/// # Errors
/// [`Unfit`] when the choice does not fit the layer, as one from a stale plan may.
pub(crate) fn prepare(
    layer: &Layer,
    input: Map,
    output: Map,
    choice: Choice,
    isa: Isa,
) -> Result<Arc<dyn sentei_kernels::Layer>, Unfit> {
    let activation = layer.activation;
    Ok(match (&layer.kind, choice) {
        (Kind::Conv { geometry, weights }, Choice::SparseConv(tile)) => {
            let few = weights.nonzeros() < BYTES_PAY * geometry.out_channels;
            let decoded = if few { weights.numbers() } else { weights.sparse() };
            conv(geometry, input, output, decoded, weights, activation, tile, isa)?
        }
        (Kind::Conv { geometry, weights }, Choice::DenseConv(tile)) => {
            let (full, bias) = (weights.full(), weights.bias.as_deref());
            Arc::new(DenseConv::prepare(isa, geometry, input, output, &full, bias, activation, tile.into())?)
        }
        (Kind::Conv { geometry, weights }, Choice::SparseTiny | Choice::DenseTiny) => {
            let decoded = match choice.is_sparse() {
                true => weights.sparse(),
                false => Decoded { positions: None, values: Values::F32(weights.full()), scales: None },
            };
            let weights = of_conv(&decoded, weights);
            Arc::new(TinyConv::prepare(isa, geometry, input, output, weights, activation)?)
        }
        (Kind::Conv { geometry, weights }, Choice::Winograd(size, tile)) => {
            let (full, bias) = (weights.full(), weights.bias.as_deref());
            let choice =
                WinogradChoice { size, outputs: tile.group, vectors: tile.vectors, tile_rows: tile.piece_rows };
            Arc::new(WinogradConv::prepare(isa, geometry, input, output, &full, bias, activation, choice)?)
        }
        (Kind::Conv { geometry, weights }, Choice::Depthwise) => {
            let bias = weights.bias.as_deref();
            Arc::new(DepthwiseConv::prepare(isa, geometry, input, output, &weights.full(), bias, activation)?)
        }
        (Kind::Conv { geometry, weights }, Choice::Int8) if !is_depthwise(geometry) => {
            let bytes = weights.rounded_bytes().filter(|(bytes, _)| Int8Conv::pays(geometry, bytes));
            let (bytes, scales) = bytes.ok_or(Unfit::Kind(choice))?;
            let bias = weights.bias.as_deref();
            Arc::new(Int8Conv::prepare(isa, geometry, input, output, &bytes, &scales, bias, activation)?)
        }
        (Kind::Linear { rows, cols, weights }, Choice::SparseLinear) => {
            let Decoded { positions, values, scales } = weights.sparse();
            let positions = positions.unwrap_or_default();
            let (kernel, bias) = (gemv::best(), weights.bias.as_deref());
            let values = match (&values, &scales) {
                (Values::F32(values), _) => LinearValues::F32(values),
                (Values::I8(values), scales) => LinearValues::I8 { values, scales: scales.as_deref().unwrap_or(&[]) },
            };
            let linear = SparseLinear::from_values(kernel, *rows, *cols, &positions, values, bias)?;
            Arc::new(linear.with_activation(activation))
        }
        (Kind::Linear { rows, cols, weights }, Choice::DenseLinear) => {
            let bias = weights.bias.as_deref();
            // a quarter of the bytes, and it is bytes that such a layer waits for
            let linear = match weights.full_bytes() {
                Some((values, scales)) => {
                    let values = LinearValues::I8 { values: &values, scales: &scales };
                    DenseLinear::prepare(isa, *rows, *cols, values, bias)?
                }
                None => DenseLinear::prepare(isa, *rows, *cols, LinearValues::F32(&weights.full()), bias)?,
            };
            Arc::new(linear.with_activation(activation))
        }
        (Kind::Pool { pool, window }, Choice::Only) => {
            let kind = match *pool {
                Pool::Max => PoolKind::Max,
                Pool::Average { counted_pads } => PoolKind::Average { counted_pads },
            };
            Arc::new(PoolLayer::prepare(isa, kind, window, input, output)?)
        }
        (Kind::GlobalAverage { .. }, Choice::Only) => Arc::new(GlobalAverage::prepare(isa, input, output)?),
        (Kind::Add { .. }, Choice::Only) => Arc::new(Elementwise::add(isa, input, output, activation)?),
        (Kind::Shortcut { step, before, after, .. }, Choice::Only) => {
            Arc::new(Shortcut::prepare(isa, input, output, *step, *before, *after)?)
        }
        (Kind::Copy { .. }, Choice::Only) => Arc::new(Elementwise::activate(isa, input, output, activation)?),
        _ => return Err(Unfit::Kind(choice)),
    })
}

#[allow(clippy::too_many_arguments, reason = "a convolution has that many sides")]
fn conv(
    geometry: &ConvGeometry,
    input: Map,
    output: Map,
    decoded: Decoded,
    weights: &Weights,
    activation: Activation,
    tile: Tile,
    isa: Isa,
) -> Result<Arc<dyn sentei_kernels::Layer>, Unfit> {
    let good = [1, 2, 4, 8].contains(&tile.group)
        && tile.vectors > 0
        && tile.piece_rows > 0
        && tile.block_channels > 0
        && tile.pitch <= (geometry.out_width() + LINE).next_multiple_of(LINE);
    if !good {
        return Err(Unfit::Tile(tile));
    }
    let weights = of_conv(&decoded, weights);
    Ok(Arc::new(Conv::prepare(isa, geometry, input, output, weights, activation, tile.into())?))
}

fn of_conv<'a>(decoded: &'a Decoded, weights: &'a Weights) -> ConvWeights<'a> {
    ConvWeights {
        positions: decoded.positions.as_deref(),
        values: &decoded.values,
        scales: decoded.scales.as_deref(),
        bias: weights.bias.as_deref(),
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod every_candidate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_that_timings_choose_from_give_the_same_bits() {
        let geometry = ConvGeometry { pads: [1; 4], ..ConvGeometry::new(24, [9, 9], 16, [3, 3]) };
        let (input, output) = (Map::aligned(24, 9, 9), Map::aligned(16, 9, 9));
        let mut numbers = crate::engine::HostTensor::noise(&[16 * 24 * 9], 1).data;
        numbers.iter_mut().enumerate().filter(|(at, _)| at % 5 != 0).for_each(|(_, number)| *number = 0.0);
        let weights = Arc::new(Weights::dense(vec![16, 24, 3, 3], numbers, Some(vec![0.5; 16])));
        let (kind, activation) = (Kind::Conv { geometry, weights }, Activation::None);
        let layer = Layer { name: "c".into(), op: "Conv".into(), kind, x: 0, residual: None, y: 1, activation };
        let x = crate::engine::HostTensor::noise(&[input.len() + LINE], 2).data;
        let x = &x[x.as_ptr().align_offset(4 * LINE)..];
        let isa = Isa::best();
        let run = |choice: Choice| {
            let layer = prepare(&layer, input, output, choice, isa).unwrap();
            let (mut y, mut scratch) = (vec![0.0; output.len()], vec![0.0; layer.scratch_len()]);
            layer.run(x, &mut y, None, &mut scratch);
            let planes = y.chunks_exact(output.stride).flat_map(|plane| plane[..output.pixels()].to_vec());
            layer.sums_in_file_order().then(|| planes.collect::<Vec<f32>>())
        };
        let choices = candidates(&layer, input, isa);
        let results: Vec<Vec<f32>> = choices.iter().filter_map(|choice| run(*choice)).collect();
        assert!(results.len() > 3, "{choices:?}");
        assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn few_zeros_put_dense_candidates_first() {
        let linear = |zeros: usize| {
            let numbers = (0..100).map(|at| if at < zeros { 0.0 } else { 1.0 }).collect();
            let kind = Kind::Linear { rows: 10, cols: 10, weights: Weights::dense(vec![10, 10], numbers, None).into() };
            let activation = Activation::None;
            let layer = Layer { name: "l".into(), op: "Gemm".into(), kind, x: 0, residual: None, y: 1, activation };
            candidates(&layer, Map::tight(10, 1, 1), Isa::Scalar)
        };
        assert_eq!(linear(10), [Choice::DenseLinear]);
        assert_eq!(linear(40), [Choice::DenseLinear, Choice::SparseLinear]);
        assert_eq!(linear(80), [Choice::SparseLinear, Choice::DenseLinear]);
    }

    #[test]
    fn blocks_count_positions_that_neighbours_share() {
        // outputs 0 and 1 have input 2, output 2 has input 0
        let positions = [2, 5, 6];
        assert_eq!((blocks(&positions, 3, 1), blocks(&positions, 3, 2), blocks(&positions, 3, 4)), (3, 2, 2));
    }
}
