//! The stored non-zero values, in the type they have in the file.

use super::PackedError;

/// Non-zeros in row-major order, without the fill value that leads them in the ONNX file.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 4 bytes each, exact.
    F32(Vec<f32>),
    /// 2 bytes each.
    F16(Vec<half::f16>),
    /// 1 byte each, multiplied by the scale of its row.
    I8(Vec<i8>),
}

impl Values {
    /// Number of stored values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::I8(v) => v.len(),
        }
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `index`, widened and without its scale; `index < len()`.
    pub fn get_f32(&self, index: usize) -> f32 {
        match self {
            Self::F32(v) => v[index],
            Self::F16(v) => v[index].to_f32(),
            Self::I8(v) => f32::from(v[index]),
        }
    }

    /// Bytes of one value in the file.
    pub fn bytes_per_value(&self) -> usize {
        match self {
            Self::F32(_) => 4,
            Self::F16(_) => 2,
            Self::I8(_) => 1,
        }
    }

    /// Name of the value type: `f32`, `f16` or `i8`.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F16(_) => "f16",
            Self::I8(_) => "i8",
        }
    }

    /// No stored zero of either sign, nothing infinite or NaN.
    pub(super) fn check(&self) -> Result<(), PackedError> {
        for index in 0..self.len() {
            let value = self.get_f32(index);
            if value == 0.0 {
                return Err(PackedError::StoredZero { index });
            }
            if !value.is_finite() {
                return Err(PackedError::NotFinite { index });
            }
        }
        Ok(())
    }
}

/// Flat positions and values of the non-zeros of a dense row-major tensor.
///
/// Zeros of both signs are left out, so a `-0.0` that `weight * mask` made comes back as `+0.0`.
/// `dense` has fewer than 2^32 elements; NaN counts as a value and is refused by the encoder.
pub fn nonzeros(dense: &[f32]) -> (Vec<u32>, Vec<f32>) {
    assert!(u32::try_from(dense.len()).is_ok(), "a tensor has fewer than 2^32 elements");
    let kept = dense.iter().enumerate().filter(|(_, value)| **value != 0.0);
    kept.map(|(index, value)| (index as u32, *value)).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_zeros_are_left_out() {
        assert_eq!(nonzeros(&[0.0, -0.0, 2.0, -0.0, -3.0]), (vec![2, 4], vec![2.0, -3.0]));
    }

    #[test]
    fn a_stored_negative_zero_or_infinity_is_named() {
        assert_eq!(Values::F32(vec![1.0, -0.0]).check(), Err(PackedError::StoredZero { index: 1 }));
        let half = Values::F16(vec![half::f16::INFINITY]);
        assert_eq!(half.check(), Err(PackedError::NotFinite { index: 0 }));
        assert_eq!(Values::I8(vec![-128, 0]).check(), Err(PackedError::StoredZero { index: 1 }));
        assert_eq!(Values::F32(vec![f32::from_bits(1)]).check(), Ok(()));
    }
}
