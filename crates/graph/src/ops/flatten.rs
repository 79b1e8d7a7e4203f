//! `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`. ONNX `Flatten`.

/// `[d0, .., dk, ..]` to `[d0 * .. * d(axis-1), rest]`. ONNX `Flatten`.
#[derive(Clone, Debug, PartialEq)]
pub struct Flatten {
    /// First axis of the second group, counted from the front.
    pub axis: usize,
}
