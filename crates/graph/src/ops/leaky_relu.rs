//! `y = x` where `x >= 0`, else `alpha * x`. ONNX `LeakyRelu`.

/// `y = x` where `x >= 0`, else `alpha * x`. ONNX `LeakyRelu`.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakyRelu {
    /// Slope on the negative side.
    pub alpha: f32,
}
