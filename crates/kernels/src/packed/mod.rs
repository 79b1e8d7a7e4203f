//! Packed weights: positions of the non-zeros in a compact stream beside their values.
//!
//! One [`Packed`] is one chunk (a range of axis 0) of one tensor, exactly as it lies in the ONNX file, minus the fill
//! value. [`Packed::validate`] holds every rule that a hostile file could break and charges a [`ByteBudget`]
//! before anything proportional to the dense size is allocated.

mod budget;
mod encoding;
mod error;
mod values;

pub use budget::ByteBudget;
pub use encoding::{Encoding, encoded_bytes, smallest};
pub use error::PackedError;
pub use values::{Values, nonzeros};

use encoding::Positions;

/// Most elements a packed tensor may have.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// One chunk of one packed tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Shape of the chunk, row-major; no dimension is zero.
    pub shape: Vec<usize>,
    /// How `positions` is to be read.
    pub encoding: Encoding,
    /// Gap symbols or mask bits.
    pub positions: Vec<u8>,
    /// Symbols in `positions`: nibbles for gap4 (the `count` of the file), bytes for gap8 and mask.
    pub symbols: usize,
    /// The non-zeros in row-major order.
    pub values: Values,
    /// int8 only: one factor per row of axis 0; a weight is `value as f32 * scale` in f32.
    pub scales: Option<Vec<f32>>,
}

impl Packed {
    /// Packs the given non-zeros.
    ///
    /// * `shape`: of the dense tensor, every dimension at least 1, at most 2^31-1 elements.
    /// * `positions`: flat row-major indices, strictly increasing.
    /// * `values`: one per position, none zero, all finite.
    /// * `scales`: int8 only, one per row of axis 0, finite and > 0.
    ///
    /// # Errors
    /// Whatever [`Packed::validate`] would refuse, [`PackedError::Unsorted`] and [`PackedError::Outside`].
    pub fn encode(
        shape: &[usize],
        encoding: Encoding,
        positions: &[u32],
        values: Values,
        scales: Option<Vec<f32>>,
    ) -> Result<Self, PackedError> {
        let elements = elements(shape)?;
        if positions.len() != values.len() {
            return Err(PackedError::ValueCount { placed: positions.len(), stored: values.len() });
        }
        for (index, pair) in positions.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                return Err(PackedError::Unsorted { index: index + 1, previous: pair[0], position: pair[1] });
            }
        }
        if let Some(&position) = positions.last().filter(|last| **last as usize >= elements) {
            return Err(PackedError::Outside { position, elements });
        }
        let (bytes, symbols) = encoding.write(positions, elements);
        let packed = Self { shape: shape.to_vec(), encoding, positions: bytes, symbols, values, scales };
        packed.values.check()?;
        packed.check_scales()?;
        Ok(packed)
    }

    /// Checks every rule of the format without allocating; afterwards decoding cannot go wrong.
    ///
    /// Charges the decoded size (4 bytes per element) to `budget`, so that all tensors of a model share one limit.
    /// That the shape is what the consuming layer expects stays with the caller.
    ///
    /// # Errors
    /// The first broken rule, see [`PackedError`].
    pub fn validate(&self, budget: &mut ByteBudget) -> Result<(), PackedError> {
        let elements = elements(&self.shape)?;
        budget.charge(elements as u64 * 4)?;
        let placed = self.encoding.check(&self.positions, self.symbols, elements)?;
        if placed != self.values.len() {
            return Err(PackedError::ValueCount { placed, stored: self.values.len() });
        }
        self.values.check()?;
        self.check_scales()
    }

    fn check_scales(&self) -> Result<(), PackedError> {
        let Some(scales) = &self.scales else { return Ok(()) };
        if !matches!(self.values, Values::I8(_)) {
            return Err(PackedError::ScalesWithout8Bit { dtype: self.values.dtype() });
        }
        let expected = self.shape.first().copied().unwrap_or(1);
        if scales.len() != expected {
            return Err(PackedError::ScaleCount { expected, found: scales.len() });
        }
        // 128 is the largest magnitude of an int8 value
        let fits = |scale: f32| scale > 0.0 && (scale * 128.0).is_finite();
        match scales.iter().position(|scale| !fits(*scale)) {
            Some(index) => Err(PackedError::Scale { index, value: scales[index] }),
            None => Ok(()),
        }
    }

    /// Elements of the dense chunk.
    ///
    /// # Errors
    /// [`PackedError::ZeroDim`] or [`PackedError::TooManyElements`].
    pub fn elements(&self) -> Result<usize, PackedError> {
        elements(&self.shape)
    }

    /// Stored non-zeros.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Bytes of positions, values (with the fill value) and scales in the file.
    pub fn file_bytes(&self) -> usize {
        let scales = self.scales.as_ref().map_or(0, |scales| scales.len() * 4);
        self.positions.len() + (1 + self.values.len()) * self.values.bytes_per_value() + scales
    }

    /// Flat index and weight (scaled, in f32) of every non-zero, in row-major order, decoded on the fly.
    ///
    /// Meant for validated input; on any other it may end early or give wrong weights, but does not panic.
    pub fn iter(&self) -> Nonzeros<'_> {
        let elements = self.elements().unwrap_or(0);
        let rows = self.shape.first().copied().unwrap_or(1).max(1);
        let row_len = (elements / rows).max(1);
        Nonzeros {
            positions: Positions::new(self.encoding, &self.positions, self.symbols, elements as u64),
            values: &self.values,
            scales: self.scales.as_deref(),
            at: 0,
            row: 0,
            row_len,
            row_end: row_len,
        }
    }

    /// Calls `f(flat index, weight)` for every non-zero, in row-major order; see [`Packed::iter`].
    pub fn for_each_nonzero(&self, mut f: impl FnMut(u32, f32)) {
        self.iter().for_each(|(index, weight)| f(index, weight));
    }

    /// Validates, charges `budget` once, and expands to a dense row-major tensor.
    ///
    /// # Errors
    /// As [`Packed::validate`].
    pub fn to_dense(&self, budget: &mut ByteBudget) -> Result<Vec<f32>, PackedError> {
        self.validate(budget)?;
        let mut dense = vec![0.0; elements(&self.shape)?];
        self.for_each_nonzero(|index, weight| dense[index as usize] = weight);
        Ok(dense)
    }
}

/// Non-zeros of a tensor that was cut along axis 0: flat indices count through all `chunks`.
pub fn concat(chunks: &[Packed]) -> impl Iterator<Item = (u32, f32)> + '_ {
    chunks
        .iter()
        .scan(0u32, |start, chunk| {
            let first = *start;
            *start = start.saturating_add(chunk.elements().unwrap_or(0) as u32);
            Some(chunk.iter().map(move |(index, weight)| (first.saturating_add(index), weight)))
        })
        .flatten()
}

/// Iterator over flat index and weight, see [`Packed::iter`].
#[derive(Clone, Debug)]
pub struct Nonzeros<'a> {
    positions: Positions<'a>,
    values: &'a Values,
    scales: Option<&'a [f32]>,
    at: usize,
    row: usize,
    row_len: usize,
    row_end: usize,
}

impl Iterator for Nonzeros<'_> {
    type Item = (u32, f32);

    #[inline]
    fn next(&mut self) -> Option<(u32, f32)> {
        if self.at == self.values.len() {
            return None;
        }
        let position = self.positions.next()?;
        let mut weight = self.values.get_f32(self.at);
        self.at += 1;
        if let Some(scales) = self.scales {
            while position as usize >= self.row_end {
                self.row += 1;
                self.row_end += self.row_len;
            }
            weight *= scales.get(self.row)?;
        }
        Some((position, weight))
    }
}

fn elements(shape: &[usize]) -> Result<usize, PackedError> {
    if let Some(axis) = shape.iter().position(|dim| *dim == 0) {
        return Err(PackedError::ZeroDim { shape: shape.to_vec(), axis });
    }
    let product = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    product
        .filter(|product| *product <= MAX_ELEMENTS)
        .ok_or_else(|| PackedError::TooManyElements { shape: shape.to_vec() })
}

#[cfg(test)]
mod tests;
