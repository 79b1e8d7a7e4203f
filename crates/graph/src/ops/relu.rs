//! `y = max(x, 0)`, any shape. ONNX `Relu`.

/// `y = max(x, 0)`, any shape. ONNX `Relu`.
#[derive(Clone, Debug, PartialEq)]
pub struct Relu;
