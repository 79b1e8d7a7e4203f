//! `y = x * min(max(x / 6 + 1/2, 0), 1)`. ONNX `HardSwish`, opset 14 and later.

/// `y = x * min(max(x / 6 + 1/2, 0), 1)`. ONNX `HardSwish`, opset 14 and later.
#[derive(Clone, Debug, PartialEq)]
pub struct HardSwish;
