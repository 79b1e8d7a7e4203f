//! `y = a + b` with numpy broadcasting. ONNX `Add`.

/// `y = a + b` with numpy broadcasting. ONNX `Add`.
#[derive(Clone, Debug, PartialEq)]
pub struct Add;
