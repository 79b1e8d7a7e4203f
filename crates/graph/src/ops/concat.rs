//! Inputs one after the other along `axis`. ONNX `Concat`.

/// Inputs one after the other along `axis`. ONNX `Concat`.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// Axis, counted from the front.
    pub axis: usize,
}
