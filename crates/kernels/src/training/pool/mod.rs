//! Pools with any window, step and padding, forward and backward.
//!
//! Nothing is remembered between the two: backward finds the winners of a max pool once more, which costs a read of `x` instead
//! of a write and a read of places.

mod average;
mod max;
#[cfg(test)]
mod tests;

pub use average::{average_pool, average_pool_backward};
pub use max::{max_pool, max_pool_backward};

use std::ops::Range;

use super::{Lanes, Planes};

/// Every length of one pool but the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolGeometry {
    /// Channels.
    pub channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Padding above and to the left; what is below and right follows from the output.
    pub pads: [usize; 2],
}

impl PoolGeometry {
    /// One window over everything: the global average.
    pub fn global(channels: usize, input: [usize; 2]) -> Self {
        Self { channels, input, output: [1, 1], kernel: input, stride: [1, 1], pads: [0, 0] }
    }

    fn planes(&self, lanes: Lanes, plane: [usize; 2]) -> Planes {
        Planes { lanes, channels: self.channels, pixels: plane[0] * plane[1] }
    }

    /// The inputs that output `o` covers along `axis`.
    fn span(&self, axis: usize, o: usize) -> Range<usize> {
        let start = o * self.stride[axis];
        let first = start.saturating_sub(self.pads[axis]);
        let last = (start + self.kernel[axis]).saturating_sub(self.pads[axis]).min(self.input[axis]);
        first.min(last)..last
    }
}
