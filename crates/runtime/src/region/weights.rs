//! The weights of one layer as they come from a file: dense, or packed chunks that are decoded when a kernel is prepared.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, OnceLock};

use sentei_kernels::packed::{self, Packed, concat};
use sentei_kernels::planes::Values;

/// Weights and bias of one layer.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Shape in the file.
    pub(crate) shape: Vec<usize>,
    /// One per output, or none.
    pub(crate) bias: Option<Vec<f32>>,
    numbers: Numbers,
    /// The file has the transpose of what the layer wants; two axes.
    transposed: bool,
    nonzeros: OnceLock<usize>,
}

/// Dense numbers, wherever they lie.
pub(crate) type Dense = Arc<dyn AsRef<[f32]> + Send + Sync>;

enum Numbers {
    Dense(Dense),
    Packed(Arc<Vec<Packed>>),
}

impl Debug for Numbers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(dense) => write!(f, "{} numbers", (**dense).as_ref().len()),
            Self::Packed(chunks) => write!(f, "{} packed chunks", chunks.len()),
        }
    }
}

/// Weights that exist, in row-major order of the layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    /// Flat indices, strictly increasing; `None` means all weights.
    pub(crate) positions: Option<Vec<u32>>,
    /// One per position, or one per weight.
    pub(crate) values: Values,
    /// One factor per output; exactly where the values are bytes.
    pub(crate) scales: Option<Vec<f32>>,
}

impl Weights {
    /// Dense numbers of `shape`, outputs first.
    #[cfg(test)]
    pub(crate) fn dense(shape: Vec<usize>, numbers: Vec<f32>, bias: Option<Vec<f32>>) -> Self {
        Self::new(shape, Numbers::Dense(Arc::new(numbers)), bias)
    }

    /// Dense numbers of `shape`, outputs first, wherever they lie.
    pub(crate) fn shared(shape: Vec<usize>, numbers: Dense, bias: Option<Vec<f32>>) -> Self {
        Self::new(shape, Numbers::Dense(numbers), bias)
    }

    /// Chunks of axis 0 of `shape`; valid.
    pub(crate) fn packed(shape: Vec<usize>, chunks: Arc<Vec<Packed>>, bias: Option<Vec<f32>>) -> Self {
        Self::new(shape, Numbers::Packed(chunks), bias)
    }

    fn new(shape: Vec<usize>, numbers: Numbers, bias: Option<Vec<f32>>) -> Self {
        Self { shape, bias, numbers, transposed: false, nonzeros: OnceLock::new() }
    }

    /// The same numbers of a file that has columns where the layer has rows.
    pub(crate) fn transposed(self) -> Self {
        assert_eq!(self.shape.len(), 2, "only a matrix has a transpose");
        Self { transposed: !self.transposed, ..self }
    }

    /// Weights of the dense layer.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Weights that are not zero.
    pub(crate) fn nonzeros(&self) -> usize {
        *self.nonzeros.get_or_init(|| match &self.numbers {
            Numbers::Dense(dense) => (**dense).as_ref().iter().filter(|value| **value != 0.0).count(),
            Numbers::Packed(chunks) => chunks.iter().map(Packed::nnz).sum(),
        })
    }

    /// The non-zeros alone: bytes beside their scales where that is what the file has, else numbers.
    pub(crate) fn sparse(&self) -> Decoded {
        self.scaled_bytes().unwrap_or_else(|| self.numbers())
    }

    /// The non-zeros alone, as numbers.
    pub(crate) fn numbers(&self) -> Decoded {
        let len = self.nonzeros();
        let (mut positions, mut values) = (Vec::with_capacity(len), Vec::with_capacity(len));
        match &self.numbers {
            Numbers::Packed(chunks) => concat(chunks).for_each(|(at, value)| {
                positions.push(at);
                values.push(value);
            }),
            Numbers::Dense(dense) => {
                for (at, value) in (**dense).as_ref().iter().enumerate().filter(|(_, value)| **value != 0.0) {
                    positions.push(u32::try_from(at).expect("weights of a layer are fewer than 2^32"));
                    values.push(*value);
                }
            }
        }
        if self.transposed {
            (positions, values) = turned(&self.shape, &positions, &values);
        }
        Decoded { positions: Some(positions), values: Values::F32(values), scales: None }
    }

    fn scaled_bytes(&self) -> Option<Decoded> {
        match &self.numbers {
            Numbers::Packed(chunks) if !self.transposed && chunks.iter().all(is_scaled_bytes) => {
                Some(bytes(chunks, self.nonzeros()))
            }
            _ => None,
        }
    }

    /// All weights, zeros included.
    pub(crate) fn full(&self) -> Vec<f32> {
        match &self.numbers {
            Numbers::Dense(dense) if !self.transposed => (**dense).as_ref().to_vec(),
            _ => {
                let mut full = vec![0.0; self.elements()];
                if let Decoded { positions: Some(positions), values: Values::F32(values), .. } = self.numbers() {
                    positions.into_iter().zip(values).for_each(|(at, value)| full[at as usize] = value);
                }
                full
            }
        }
    }
}

impl Weights {
    /// All weights as bytes, zeros included, and one scale per output, where that is what the file has.
    pub(crate) fn full_bytes(&self) -> Option<(Vec<i8>, Vec<f32>)> {
        let Decoded { positions: Some(positions), values: Values::I8(values), scales: Some(scales) } =
            self.scaled_bytes()?
        else {
            return None;
        };
        let mut full = vec![0; self.elements()];
        positions.into_iter().zip(values).for_each(|(at, value)| full[at as usize] = value);
        Some((full, scales))
    }
}

impl Weights {
    /// All weights as bytes and one scale per output: those of the file, or its numbers rounded to 127 steps each way; `None` where a number
    /// is not finite.
    pub(crate) fn rounded_bytes(&self) -> Option<(Vec<i8>, Vec<f32>)> {
        if let Some(bytes) = self.full_bytes() {
            return Some(bytes);
        }
        let full = self.full();
        let outputs = self.shape.first().copied().unwrap_or(1).max(1);
        let rows = full.chunks(full.len().div_ceil(outputs).max(1));
        let scales: Vec<f32> =
            rows.clone().map(|row| row.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 127.0).collect();
        let whole = |(row, scale): (&[f32], &f32)| {
            let inverse = if *scale > 0.0 { 1.0 / scale } else { 0.0 };
            row.iter().map(|w| (w * inverse).round().clamp(-127.0, 127.0) as i8).collect::<Vec<i8>>()
        };
        let finite =
            full.iter().all(|w| w.is_finite()) && scales.iter().all(|scale| (1.0 / scale).is_finite() || *scale == 0.0);
        finite.then(|| (rows.zip(&scales).flat_map(whole).collect(), scales))
    }
}

fn is_scaled_bytes(chunk: &Packed) -> bool {
    matches!(chunk.values, packed::Values::I8(_)) && chunk.scales.is_some()
}

/// Chunks of bytes as one list of bytes with a scale per output.
fn bytes(chunks: &[Packed], len: usize) -> Decoded {
    let (mut values, mut scales) = (Vec::with_capacity(len), Vec::new());
    for chunk in chunks {
        if let (packed::Values::I8(bytes), Some(factors)) = (&chunk.values, &chunk.scales) {
            values.extend_from_slice(bytes);
            scales.extend_from_slice(factors);
        }
    }
    let positions = concat(chunks).map(|(at, _)| at).collect();
    Decoded { positions: Some(positions), values: Values::I8(values), scales: Some(scales) }
}

/// Non-zeros of a `shape` matrix in the order of its transpose, by counting those of each column.
fn turned(shape: &[usize], positions: &[u32], values: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let [rows, columns] = [shape[0], shape[1]];
    let mut starts = vec![0usize; columns + 1];
    positions.iter().for_each(|at| starts[*at as usize % columns + 1] += 1);
    for column in 0..columns {
        starts[column + 1] += starts[column];
    }
    let mut turned = (vec![0u32; positions.len()], vec![0f32; values.len()]);
    for (at, value) in positions.iter().zip(values) {
        let (row, column) = (*at as usize / columns, *at as usize % columns);
        let place = &mut starts[column];
        // both orders have the same number of elements, so the index stays in range
        (turned.0[*place], turned.1[*place]) = ((column * rows + row) as u32, *value);
        *place += 1;
    }
    turned
}

#[cfg(test)]
mod tests {
    use sentei_kernels::packed::Encoding;

    use super::*;

    const MATRIX: [f32; 6] = [1.0, 0.0, 2.0, 0.0, 3.0, 4.0];

    fn packed(values: packed::Values, scales: Option<Vec<f32>>) -> Weights {
        let chunk = Packed::encode(&[2, 3], Encoding::Mask, &[0, 2, 4, 5], values, scales).unwrap();
        Weights::packed(vec![2, 3], Arc::new(vec![chunk]), None)
    }

    #[test]
    fn dense_and_packed_weights_decode_alike() {
        let dense = Weights::dense(vec![2, 3], MATRIX.to_vec(), None);
        let packed = packed(packed::Values::F32(vec![1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(dense.sparse(), packed.sparse());
        assert_eq!((dense.full(), packed.full()), (MATRIX.to_vec(), MATRIX.to_vec()));
        assert_eq!((dense.nonzeros(), packed.nonzeros(), dense.elements()), (4, 4, 6));
    }

    #[test]
    fn a_transposed_matrix_comes_in_the_order_of_the_layer() {
        let turned = [1.0, 0.0, 0.0, 3.0, 2.0, 4.0];
        for weights in [
            Weights::dense(vec![2, 3], MATRIX.to_vec(), None),
            packed(packed::Values::F32(vec![1.0, 2.0, 3.0, 4.0]), None),
            packed(packed::Values::I8(vec![1, 1, 3, 2]), Some(vec![1.0, 1.0])),
        ] {
            let weights = weights.transposed();
            assert_eq!(weights.sparse().positions, Some(vec![0, 3, 4, 5]));
            assert_eq!(weights.full().len(), 6);
        }
        assert_eq!(Weights::dense(vec![2, 3], MATRIX.to_vec(), None).transposed().full(), turned);
    }

    #[test]
    fn bytes_stay_bytes_beside_their_scales() {
        let weights = packed(packed::Values::I8(vec![2, 4, 1, -1]), Some(vec![0.5, 4.0]));
        let Decoded { values, scales, .. } = weights.sparse();
        assert_eq!((values, scales), (Values::I8(vec![2, 4, 1, -1]), Some(vec![0.5, 4.0])));
        let Decoded { positions, values, scales } = weights.numbers();
        assert_eq!((values, scales), (Values::F32(vec![1.0, 2.0, 4.0, -4.0]), None));
        assert_eq!((positions, weights.full()), (Some(vec![0, 2, 4, 5]), vec![1.0, 0.0, 2.0, 0.0, 4.0, -4.0]));
        assert_eq!(weights.full_bytes(), Some((vec![2, 0, 4, 0, 1, -1], vec![0.5, 4.0])));
        assert_eq!(weights.rounded_bytes(), weights.full_bytes());
        assert_eq!(Weights::dense(vec![2, 3], MATRIX.to_vec(), None).full_bytes(), None);
    }

    #[test]
    fn numbers_become_bytes_by_the_largest_of_their_output() {
        let rounded = |numbers: [f32; 4]| Weights::dense(vec![2, 2], numbers.to_vec(), None).rounded_bytes();
        let (bytes, scales) = rounded([254.0, -63.6, 0.0, 0.0]).unwrap();
        assert_eq!((bytes, scales), (vec![127, -32, 0, 0], vec![2.0, 0.0]));
        // what was rounded once stays what it is
        let (bytes, scales) = rounded([0.3 * 127.0, 0.3 * -5.0, 0.7 * 127.0, 0.7]).unwrap();
        assert_eq!(bytes, [127, -5, 127, 1]);
        assert!((scales[0] - 0.3).abs() < 1e-6 && (scales[1] - 0.7).abs() < 1e-6);
        for odd in [f32::NAN, f32::INFINITY, 1e-40] {
            assert!(rounded([1.0, 1.0, 0.0, odd]).is_none(), "{odd}");
        }
    }
}
