//! The lengths of one convolution, and which outputs a tap of its kernel reaches.

use std::ops::Range;

use crate::KernelError;

/// Every length of one convolution but the batch. A fully connected layer is one with 1x1 maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Groups of channels that see nothing of each other.
    pub groups: usize,
    /// Input channels of all groups.
    pub in_channels: usize,
    /// Output channels of all groups.
    pub out_channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Zero padding above and to the left; what is below and right follows from the output.
    pub pads: [usize; 2],
    /// Distance between taps, down and right.
    pub dilation: [usize; 2],
}

impl ConvGeometry {
    /// Checks that the channels fit the groups and nothing is empty.
    ///
    /// # Errors
    /// [`KernelError::Zero`] and [`KernelError::Groups`] say what does not fit.
    pub fn check(&self) -> Result<(), KernelError> {
        let pairs = [
            ("input", self.input),
            ("output", self.output),
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("groups and input channels", [self.groups, self.in_channels]),
            ("output channels", [self.out_channels, 1]),
        ];
        if let Some((what, _)) = pairs.into_iter().find(|(_, lengths)| lengths.contains(&0)) {
            return Err(KernelError::Zero { what });
        }
        for (what, channels) in [("input channels", self.in_channels), ("output channels", self.out_channels)] {
            if channels % self.groups != 0 {
                return Err(KernelError::Groups { what, channels, groups: self.groups });
            }
        }
        Ok(())
    }

    /// Input channels of one group.
    pub fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of one group.
    pub fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Weights behind one output channel.
    pub fn patch(&self) -> usize {
        self.group_in() * self.kernel[0] * self.kernel[1]
    }

    /// Weights in all.
    pub fn weights(&self) -> usize {
        self.out_channels * self.patch()
    }

    /// Pixels of an input plane.
    pub fn in_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of an output plane.
    pub fn out_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether each group has one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups > 1
    }

    /// Along `axis`, the outputs whose tap `tap` lands inside the input.
    pub fn reached(&self, axis: usize, tap: usize) -> Range<usize> {
        let (offset, pad, stride) = (tap * self.dilation[axis], self.pads[axis], self.stride[axis]);
        // output `o` reads input `o * stride + offset - pad`
        let first = pad.saturating_sub(offset).div_ceil(stride);
        let last = (self.input[axis] + pad).saturating_sub(offset).div_ceil(stride).min(self.output[axis]);
        first.min(last)..last
    }
}
