//! Target profiles: the form of the weights that suits where a model will run.

use crate::pack::Packing;

/// Where a compiled model will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any runtime that reads ONNX, with or without local functions.
    Portable,
    /// sentei's own engine on a CPU.
    TractCpu,
    /// ONNX Runtime on a CPU.
    OrtCpu,
    /// ONNX Runtime with TensorRT, which looks for 2:4 zeros in dense weights.
    OrtTensorrt,
}

impl Target {
    /// Form of the weights.
    pub fn packing(self) -> Packing {
        match self {
            Target::Portable => Packing::Inline,
            Target::TractCpu | Target::OrtCpu => Packing::Functions,
            Target::OrtTensorrt => Packing::Dense,
        }
    }

    /// Whether groups of 4 input channels that keep to 2:4 must stay whole.
    pub fn keeps_groups(self) -> bool {
        self == Target::OrtTensorrt
    }
}
