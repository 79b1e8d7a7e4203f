//! Mean over all spatial positions, kept as `[N, C, 1, 1]`. ONNX `GlobalAveragePool`.

/// Mean over all spatial positions, kept as `[N, C, 1, 1]`. ONNX `GlobalAveragePool`.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalAveragePool;
