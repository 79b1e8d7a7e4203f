//! `exp(x) / sum(exp(x))` along one axis. ONNX `Softmax`, opset 13 form.

/// `exp(x) / sum(exp(x))` along one axis. ONNX `Softmax`, opset 13 form.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Axis, counted from the front.
    pub axis: usize,
}
