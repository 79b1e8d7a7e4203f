//! Constant padding on every axis. ONNX `Pad`, mode `constant`.

/// Constant padding on every axis. ONNX `Pad`, mode `constant`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements added before and after each axis.
    pub amounts: Vec<(usize, usize)>,
    /// The value added.
    pub value: f32,
}
