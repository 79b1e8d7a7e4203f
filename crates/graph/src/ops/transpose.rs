//! Axes permuted: output axis `i` is input axis `order[i]`. ONNX `Transpose`.

/// Axes permuted: output axis `i` is input axis `order[i]`. ONNX `Transpose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// Input axis behind each output axis.
    pub order: Vec<usize>,
}
