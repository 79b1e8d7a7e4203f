//! Largest value in a window, 2-D; padding never wins. ONNX `MaxPool`; `ceil_mode` is resolved into `pads` on import.

/// Largest value in a window, 2-D; padding never wins. ONNX `MaxPool`; `ceil_mode` is resolved into `pads` on import.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
}
