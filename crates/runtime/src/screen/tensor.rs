//! ONNX `TensorProto` as it lies in the file: what it claims to be, held against the bytes it really has.

use super::wire::{Fields, Value};
use crate::error::RuntimeError;

/// Element types of ONNX that packed weights use.
pub(super) mod dtype {
    pub const FLOAT: i64 = 1;
    pub const UINT8: i64 = 2;
    pub const INT8: i64 = 3;
    pub const INT64: i64 = 7;
    pub const FLOAT16: i64 = 10;
}

/// One constant tensor, borrowed from the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<u64>,
    pub(super) dtype: i64,
    /// `raw_data`, little-endian.
    pub(super) raw: &'a [u8],
    /// `int64_data`, which small shapes often use instead.
    ints: Vec<i64>,
}

/// Lists up to this long are kept as integers: shapes and axes, never weights.
const SHORT_LIST_BYTES: usize = 1024;

impl<'a> Tensor<'a> {
    /// Reads a `TensorProto` and checks that it has exactly the data its shape and type ask for.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, RuntimeError> {
        let mut tensor = Self::default();
        let mut dims = Vec::new();
        let mut typed_elements = 0u64;
        let mut external = false;
        for field in Fields(bytes) {
            let (number, value) = field?;
            match number {
                1 => value.ints(&mut dims)?,
                2 => tensor.dtype = value.int()?,
                4 | 10 => typed_elements += fixed_elements(value, if number == 4 { 4 } else { 8 }),
                5 | 7 | 11 => {
                    typed_elements += varint_elements(value);
                    if number == 7 && !matches!(value, Value::Bytes(list) if list.len() > SHORT_LIST_BYTES) {
                        value.ints(&mut tensor.ints)?;
                    }
                }
                6 => typed_elements += 1,
                8 => tensor.name = value.text()?,
                9 => tensor.raw = value.bytes()?,
                13 => external = true,
                14 => external |= value.int()? != 0,
                _ => {}
            }
        }
        let name = tensor.name;
        if external {
            return Err(RuntimeError::Malformed(format!("tensor `{name}` keeps its data in another file")));
        }
        for dim in dims {
            let dim = u64::try_from(dim)
                .map_err(|_| RuntimeError::Malformed(format!("tensor `{name}` has the negative dimension {dim}")))?;
            tensor.dims.push(dim);
        }
        tensor.check_length(typed_elements)?;
        Ok(tensor)
    }

    fn check_length(&self, typed_elements: u64) -> Result<(), RuntimeError> {
        let Some(elements) = self.elements() else {
            return Err(RuntimeError::Malformed(format!(
                "tensor `{}` of shape {:?} is too large",
                self.name, self.dims
            )));
        };
        // complex numbers are two typed elements each
        let complex = matches!(self.dtype, 14 | 15);
        let (found, expected, unit) = match bits(self.dtype) {
            Some(bits) if !self.raw.is_empty() || typed_elements == 0 => {
                let bytes = elements.checked_mul(bits).map_or(u64::MAX, |bits| bits.div_ceil(8));
                (self.raw.len() as u64, bytes, "bytes")
            }
            _ if complex => (typed_elements, elements.saturating_mul(2), "numbers"),
            // two 4-bit elements share one typed number
            Some(4) => (typed_elements, elements.div_ceil(2), "numbers"),
            _ => (typed_elements, elements, "elements"),
        };
        if found == expected {
            return Ok(());
        }
        let (name, dims) = (self.name, &self.dims);
        Err(RuntimeError::Malformed(format!(
            "tensor `{name}` of shape {dims:?} needs {expected} {unit}, found {found}"
        )))
    }

    /// Number of elements, if it fits.
    pub(super) fn elements(&self) -> Option<u64> {
        self.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))
    }

    /// The numbers of a short int64 tensor; `None` for any other type or length.
    pub(super) fn int64s(&self) -> Option<Vec<i64>> {
        if self.dtype != dtype::INT64 || self.raw.len() > SHORT_LIST_BYTES {
            return None;
        }
        if self.raw.is_empty() {
            return (self.elements() == Some(self.ints.len() as u64)).then(|| self.ints.clone());
        }
        let chunks = self.raw.chunks_exact(8);
        Some(chunks.map(|chunk| i64::from_le_bytes(chunk.try_into().expect("a chunk has 8 bytes"))).collect())
    }
}

/// Elements of a list of 4- or 8-byte numbers, packed or single.
fn fixed_elements(value: Value<'_>, width: usize) -> u64 {
    match value {
        Value::Bytes(list) => (list.len() / width) as u64,
        _ => 1,
    }
}

/// Elements of a list of varints: each ends in the one byte without the continuation bit.
fn varint_elements(value: Value<'_>) -> u64 {
    match value {
        Value::Bytes(list) => list.iter().filter(|byte| *byte & 0x80 == 0).count() as u64,
        _ => 1,
    }
}

/// Bits of one element in `raw_data`; strings and unknown types have none.
fn bits(dtype: i64) -> Option<u64> {
    Some(match dtype {
        dtype::UINT8 | dtype::INT8 | 9 | 17..=20 => 8,
        4 | 5 | dtype::FLOAT16 | 16 => 16,
        dtype::FLOAT | 6 | 12 => 32,
        dtype::INT64 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// name "w", dims, dtype, raw_data
    fn proto(dims: &[u8], dtype: u8, raw: &[u8]) -> Vec<u8> {
        let mut bytes = vec![66, 1, b'w', 10, dims.len() as u8];
        bytes.extend_from_slice(dims);
        bytes.extend_from_slice(&[16, dtype, 74, raw.len() as u8]);
        bytes.extend_from_slice(raw);
        bytes
    }

    #[test]
    fn data_must_fill_the_shape_exactly() {
        let good = proto(&[2, 3], 1, &[0; 24]);
        assert_eq!(Tensor::read(&good).unwrap().elements(), Some(6));
        for (dims, raw) in
            [(&[2, 3][..], &[0u8; 20][..]), (&[2, 3], &[0; 28]), (&[0xff, 0xff, 0x7f], &[]), (&[], &[0; 8])]
        {
            let error = Tensor::read(&proto(dims, 1, raw)).unwrap_err();
            assert!(matches!(error, RuntimeError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn a_product_that_overflows_is_refused() {
        let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
        let dims: Vec<u8> = huge.iter().chain(&huge).copied().collect();
        let error = Tensor::read(&proto(&dims, 1, &[])).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn int64_shapes_read_from_raw_and_from_typed_data() {
        let raw = proto(&[2], 7, &[4, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(Tensor::read(&raw).unwrap().int64s(), Some(vec![4, -1]));
        let typed = [66, 1, b'w', 8, 2, 16, 7, 58, 2, 4, 9];
        assert_eq!(Tensor::read(&typed).unwrap().int64s(), Some(vec![4, 9]));
        assert_eq!(Tensor::read(&proto(&[1], 1, &[0; 4])).unwrap().int64s(), None);
    }

    #[test]
    fn external_data_is_refused() {
        let bytes = [66, 1, b'w', 16, 1, 112, 1];
        assert!(Tensor::read(&bytes).unwrap_err().to_string().contains("another file"));
    }
}
