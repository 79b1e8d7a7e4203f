//! 2-D convolution; inputs x `[N, C, H, W]`, weight `[O, C/groups, kh, kw]`, optional bias `[O]`. ONNX `Conv`; 1-D and `auto_pad` are resolved on import.

/// 2-D convolution; inputs x `[N, C, H, W]`, weight `[O, C/groups, kh, kw]`, optional bias `[O]`. ONNX `Conv`; 1-D and `auto_pad` are resolved on import.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between kernel taps, down and right.
    pub dilation: [usize; 2],
    /// Number of groups; `groups == C` is depthwise.
    pub groups: usize,
}
