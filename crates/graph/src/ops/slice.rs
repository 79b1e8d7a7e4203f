//! A strided box of the input. ONNX `Slice` with constant bounds.

/// A strided box of the input. ONNX `Slice` with constant bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// First index of each axis.
    pub starts: Vec<usize>,
    /// One past the last index of each axis; clamped to its length (`usize::MAX` = to the end).
    pub ends: Vec<usize>,
    /// Step of each axis, at least 1.
    pub steps: Vec<usize>,
}
