//! Sizes of a convolution and the arithmetic on them.

use crate::KernelError;

/// One 2-D convolution of one image; weights are `[out_channels, in_channels / groups, kernel rows, kernel columns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Channels of the input.
    pub in_channels: usize,
    /// Rows of the input.
    pub in_height: usize,
    /// Columns of the input.
    pub in_width: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Kernel rows and columns.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Vertical and horizontal distance between kernel taps.
    pub dilation: [usize; 2],
    /// Zeros added at the top, left, bottom and right (the order of ONNX).
    pub pads: [usize; 4],
    /// Channel groups; `in_channels` for a depthwise convolution.
    pub groups: usize,
}

impl ConvGeometry {
    /// Stride and dilation 1, no padding, one group.
    pub fn new(in_channels: usize, input: [usize; 2], out_channels: usize, kernel: [usize; 2]) -> Self {
        let [in_height, in_width] = input;
        let (stride, dilation, pads, groups) = ([1, 1], [1, 1], [0; 4], 1);
        Self { in_channels, in_height, in_width, out_channels, kernel, stride, dilation, pads, groups }
    }

    /// Rows of the output; 0 when the kernel does not fit.
    pub fn out_height(&self) -> usize {
        self.out_extent(0).unwrap_or(0)
    }

    /// Columns of the output; 0 when the kernel does not fit.
    pub fn out_width(&self) -> usize {
        self.out_extent(1).unwrap_or(0)
    }

    /// Elements of the input image.
    pub fn in_len(&self) -> usize {
        self.in_channels * self.in_height * self.in_width
    }

    /// Elements of the output image.
    pub fn out_len(&self) -> usize {
        self.out_channels * self.out_height() * self.out_width()
    }

    /// Weights of the dense layer; `None` when they overflow.
    pub fn weights(&self) -> Option<usize> {
        let per_group = self.in_channels.checked_div(self.groups)?;
        [per_group, self.kernel[0], self.kernel[1]].iter().try_fold(self.out_channels, |n, d| n.checked_mul(*d))
    }

    /// Multiply-adds of the dense layer for one image, padding included.
    pub fn macs(&self) -> u64 {
        let weights = self.weights().unwrap_or(usize::MAX) as u64;
        weights.saturating_mul(self.out_height() as u64).saturating_mul(self.out_width() as u64)
    }

    /// Checks that the sizes describe a layer whose buffers have 32-bit offsets.
    ///
    /// # Errors
    /// The first field that does not fit, see [`KernelError`].
    pub fn validate(&self) -> Result<(), KernelError> {
        let at_least_one = [
            ("in_channels", self.in_channels),
            ("in_height", self.in_height),
            ("in_width", self.in_width),
            ("out_channels", self.out_channels),
            ("kernel height", self.kernel[0]),
            ("kernel width", self.kernel[1]),
            ("vertical stride", self.stride[0]),
            ("horizontal stride", self.stride[1]),
            ("vertical dilation", self.dilation[0]),
            ("horizontal dilation", self.dilation[1]),
            ("groups", self.groups),
        ];
        if let Some((what, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(KernelError::Zero { what });
        }
        let groups = self.groups;
        for (what, channels) in [("input channels", self.in_channels), ("output channels", self.out_channels)] {
            if channels % groups != 0 {
                return Err(KernelError::Groups { what, channels, groups });
            }
        }
        for (index, axis) in ["rows", "columns"].into_iter().enumerate() {
            let extent = self.tap_span(index).and_then(|span| span.checked_add(1));
            let (Some(extent), Some(available)) = (extent, self.padded(index)) else {
                return Err(KernelError::TooLarge { what: "the padded input" });
            };
            if extent > available {
                return Err(KernelError::KernelTooLarge { axis, extent, available });
            }
        }
        let fits = |dims: [usize; 3]| {
            let len = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            len.is_some_and(|len| len <= i32::MAX as usize)
        };
        // A padded plane, cut into stride phases, has at most one stride more rows and columns than the padded input.
        let plane = |axis: usize| self.padded(axis).and_then(|padded| padded.checked_add(2 * self.stride[axis]));
        let (Some(rows), Some(columns)) = (plane(0), plane(1)) else {
            return Err(KernelError::TooLarge { what: "the padded input" });
        };
        if !fits([self.in_channels, rows, columns]) {
            return Err(KernelError::TooLarge { what: "the padded input" });
        }
        if !fits([self.out_channels, self.out_height(), columns]) {
            return Err(KernelError::TooLarge { what: "the output" });
        }
        match self.weights() {
            Some(weights) if u32::try_from(weights).is_ok() => Ok(()),
            _ => Err(KernelError::TooLarge { what: "the dense weight tensor" }),
        }
    }

    /// Distance from the first to the last kernel tap.
    pub(super) fn tap_span(&self, axis: usize) -> Option<usize> {
        self.kernel[axis].checked_sub(1)?.checked_mul(self.dilation[axis])
    }

    fn padded(&self, axis: usize) -> Option<usize> {
        let input = [self.in_height, self.in_width][axis];
        input.checked_add(self.pads[axis])?.checked_add(self.pads[axis + 2])
    }

    fn out_extent(&self, axis: usize) -> Option<usize> {
        let free = self.padded(axis)?.checked_sub(self.tap_span(axis)?)?.checked_sub(1)?;
        free.checked_div(self.stride[axis])?.checked_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> ConvGeometry {
        ConvGeometry::new(4, [7, 9], 6, [3, 3])
    }

    #[test]
    fn sizes_match_the_onnx_formula() {
        let conv = ConvGeometry { stride: [2, 3], dilation: [2, 1], pads: [1, 0, 2, 1], groups: 2, ..base() };
        assert_eq!((conv.out_height(), conv.out_width()), (3, 3)); // (7+3-5)/2+1, (9+1-3)/3+1
        assert_eq!((conv.weights(), conv.macs()), (Some(6 * 2 * 9), 6 * 2 * 9 * 9));
        assert_eq!((conv.in_len(), conv.out_len()), (252, 54));
    }

    #[test]
    fn impossible_geometries_are_named() {
        let error = |conv: ConvGeometry| conv.validate().unwrap_err();
        assert_eq!(error(ConvGeometry { stride: [0, 1], ..base() }), KernelError::Zero { what: "vertical stride" });
        assert_eq!(
            error(ConvGeometry { groups: 4, ..base() }),
            KernelError::Groups { what: "output channels", channels: 6, groups: 4 }
        );
        assert_eq!(
            error(ConvGeometry { dilation: [1, 5], ..base() }),
            KernelError::KernelTooLarge { axis: "columns", extent: 11, available: 9 }
        );
        let huge = ConvGeometry { pads: [usize::MAX, 0, 0, 0], ..base() };
        assert_eq!((huge.out_height(), error(huge)), (0, KernelError::TooLarge { what: "the padded input" }));
        let wide = ConvGeometry { in_width: 1 << 31, ..base() };
        assert_eq!(error(wide), KernelError::TooLarge { what: "the padded input" });
    }
}
