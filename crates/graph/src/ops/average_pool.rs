//! Mean over a window, 2-D. ONNX `AveragePool`; `ceil_mode` is resolved into `pads` on import.

/// Mean over a window, 2-D. ONNX `AveragePool`; `ceil_mode` is resolved into `pads` on import.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Whether padded positions count in the divisor.
    pub count_include_pad: bool,
}
