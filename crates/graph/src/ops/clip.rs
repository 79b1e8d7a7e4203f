//! `y = min(max(x, min), max)`. ONNX `Clip`; `Clip 0..6` is ReLU6.

/// `y = min(max(x, min), max)`. ONNX `Clip`; `Clip 0..6` is ReLU6.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Lower bound.
    pub min: f32,
    /// Upper bound.
    pub max: f32,
}
