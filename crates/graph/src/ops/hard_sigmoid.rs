//! `y = min(max(alpha * x + beta, 0), 1)`. ONNX `HardSigmoid`.

/// `y = min(max(alpha * x + beta, 0), 1)`. ONNX `HardSigmoid`.
#[derive(Clone, Debug, PartialEq)]
pub struct HardSigmoid {
    /// Slope.
    pub alpha: f32,
    /// Offset.
    pub beta: f32,
}
