//! `y = gamma * (x - mean) / sqrt(var + eps) + beta` per channel (axis 1); inputs x, gamma, beta, mean, var. ONNX `BatchNormalization`, inference form.

/// `y = gamma * (x - mean) / sqrt(var + eps) + beta` per channel (axis 1); inputs x, gamma, beta, mean, var. ONNX `BatchNormalization`, inference form.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Share of the old running value kept per training step (ONNX `momentum`).
    pub momentum: f32,
}
