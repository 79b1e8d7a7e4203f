//! `y = 1 / (1 + exp(-x))`. ONNX `Sigmoid`.

/// `y = 1 / (1 + exp(-x))`. ONNX `Sigmoid`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmoid;
