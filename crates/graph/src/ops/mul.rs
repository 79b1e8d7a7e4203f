//! `y = a * b` with numpy broadcasting. ONNX `Mul`.

/// `y = a * b` with numpy broadcasting. ONNX `Mul`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mul;
