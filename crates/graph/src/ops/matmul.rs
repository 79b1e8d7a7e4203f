//! Matrix product over the last two axes; the leading axes are equal or absent on the right. ONNX `MatMul`.

/// Matrix product over the last two axes; the leading axes are equal or absent on the right. ONNX `MatMul`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul;
