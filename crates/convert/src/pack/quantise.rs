//! Rounding of weights to the value type of the file.

use half::f16;
use sentei_graph::{Graph, Tensor};

use super::{Values, weights};
use crate::ConvertError;

/// A weight as the file stores it, beside the dense `f32` weight it stands for.
pub(super) struct Quantised {
    /// What the file decodes to, bit for bit.
    pub dense: Tensor,
    /// What is stored.
    pub stored: Stored,
}

/// Stored elements, one per weight.
pub(super) enum Stored {
    /// The weights themselves.
    F32(Vec<f32>),
    /// Rounded to half precision.
    F16(Vec<f16>),
    /// Integers and one scale per row of axis 0.
    I8(Vec<i8>, Vec<f32>),
}

/// Rounds every prunable weight to `values`; biases and other constants stay exact.
///
/// Negative zeros become `+0.0`, also with [`Values::F32`]. int8 uses one scale per output channel,
/// `max |w| / 127`, and the weight is `q as f32 * scale` in `f32`.
///
/// # Errors
/// [`ConvertError::Range`] when a weight does not fit, [`ConvertError::Tensor`] when one is not finite.
pub fn quantise(graph: &Graph, values: Values) -> Result<Graph, ConvertError> {
    let mut twin = graph.clone();
    for (id, tensor) in weights(graph) {
        twin.set_initializer(id, quantise_tensor(graph.name(id), tensor, values)?.dense);
    }
    Ok(twin)
}

pub(super) fn quantise_tensor(name: &str, tensor: &Tensor, values: Values) -> Result<Quantised, ConvertError> {
    if let Some(odd) = tensor.data.iter().find(|v| !v.is_finite()) {
        let (expected, found) = ("finite weights".to_string(), odd.to_string());
        return Err(ConvertError::Tensor { name: name.to_string(), expected, found });
    }
    // adding +0.0 turns -0.0 into +0.0 and leaves every other value alone
    let clean: Vec<f32> = tensor.data.iter().map(|v| v + 0.0).collect();
    let refuse = |value: f32| ConvertError::Range { name: name.to_string(), value, dtype: values.name() };
    let (dense, stored) = match values {
        Values::F32 => (clean.clone(), Stored::F32(clean)),
        Values::F16 => {
            let halves: Vec<f16> = clean.iter().map(|v| f16::from_f32(f16::from_f32(*v).to_f32() + 0.0)).collect();
            if let Some(i) = halves.iter().position(|h| h.is_infinite()) {
                return Err(refuse(clean[i]));
            }
            (halves.iter().map(|h| h.to_f32()).collect(), Stored::F16(halves))
        }
        Values::I8 => {
            let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
            let row_len = (clean.len() / rows).max(1);
            let mut scales = Vec::with_capacity(rows);
            let mut quantised = Vec::with_capacity(clean.len());
            for row in clean.chunks(row_len) {
                let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let scale = if largest / 127.0 > 0.0 { largest / 127.0 } else { 1.0 };
                if !(scale * 128.0).is_finite() {
                    return Err(refuse(largest));
                }
                quantised.extend(row.iter().map(|v| (v / scale).round().clamp(-127.0, 127.0) as i8));
                scales.push(scale);
            }
            let dense = quantised.iter().enumerate().map(|(i, q)| f32::from(*q) * scales[i / row_len]).collect();
            (dense, Stored::I8(quantised, scales))
        }
    };
    Ok(Quantised { dense: Tensor { shape: tensor.shape.clone(), data: dense }, stored })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(data: &[f32], values: Values) -> Vec<f32> {
        let tensor = Tensor::new([2, data.len() / 2], data.to_vec());
        quantise_tensor("w", &tensor, values).unwrap().dense.data
    }

    #[test]
    fn each_row_has_its_own_scale_and_an_empty_row_stays_zero() {
        assert_eq!(rounded(&[127.0, -0.4, 0.0, 0.0], Values::I8), [127.0, 0.0, 0.0, 0.0]);
        // scales 2 and 0.5
        assert_eq!(rounded(&[254.0, 3.2, -63.5, 0.2], Values::I8), [254.0, 4.0, -63.5, 0.0]);
    }

    #[test]
    fn negative_zeros_become_positive_in_every_type() {
        for values in [Values::F32, Values::F16, Values::I8] {
            let bits: Vec<u32> = rounded(&[-0.0, 1.0, -1e-30, 2.0], values).iter().map(|v| v.to_bits()).collect();
            assert_eq!(bits[0], 0, "{values:?}");
            assert!(values == Values::F32 || bits[2] == 0, "{values:?} rounds to +0");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tensor = Tensor::new([1], vec![1e6]);
        let text = quantise_tensor("conv.w", &tensor, Values::F16).err().unwrap().to_string();
        assert!(text.contains("conv.w") && text.contains("1000000") && text.contains("--values f32"), "{text}");
        let nan = Tensor::new([1], vec![f32::NAN]);
        assert!(quantise_tensor("w", &nan, Values::F32).is_err());
    }
}
