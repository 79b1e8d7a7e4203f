//! `y = x / (1 + exp(-x))`, also called Swish. Written to ONNX as `Sigmoid` and `Mul`.

/// `y = x / (1 + exp(-x))`, also called Swish. Written to ONNX as `Sigmoid` and `Mul`.
#[derive(Clone, Debug, PartialEq)]
pub struct Silu;
