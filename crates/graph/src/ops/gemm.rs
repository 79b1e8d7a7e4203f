//! Fully connected: `y = x W^T + b`; inputs x `[N, in]`, weight `[out, in]`, optional bias `[out]`. ONNX `Gemm` with `transB = 1`; other forms are normalised on import.

/// Fully connected: `y = x W^T + b`; inputs x `[N, in]`, weight `[out, in]`, optional bias `[out]`. ONNX `Gemm` with `transB = 1`; other forms are normalised on import.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm;
