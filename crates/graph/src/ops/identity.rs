//! `y = x`. ONNX `Identity`.

/// `y = x`. ONNX `Identity`.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;
