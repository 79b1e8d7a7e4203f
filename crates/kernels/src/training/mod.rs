//! What a training step is made of on a CPU: layers forward and backward, for a batch whose images lie side by side.
//!
//! Activations lie as `[N / L][C][H][W][L]` ([`Lanes`]): one vector holds the same pixel of `L` images. So weights of any pattern
//! multiply whole vectors, at any stride and padding, and a depthwise layer is as regular as a dense one. Weights keep the
//! order of the file, `[O, C / groups, kh, kw]`.
//!
//! **Order of sums**, the same for every instruction set with as many lanes, every number of threads, dense and sparse:
//! an output adds its taps by input channel, then row, then column of the kernel; an input gradient by output channel, then row,
//! then column of the kernel; a weight gradient adds vectors by block of images, row, column, then its lanes
//! by halves. A weight that is zero adds nothing that is not zero, so leaving it out gives the same bits.

mod buffer;
mod dense;
mod depthwise;
mod geometry;
mod gradient;
mod lanes;
mod layout;
mod norm;
mod planes;
mod pointwise;
mod pool;
mod resample;
mod simd;
mod sparse;
mod tasks;
#[cfg(test)]
mod testing;
mod weight_gradient;

pub use buffer::Buffer;
pub use dense::DenseConv;
pub use depthwise::Depthwise;
pub use geometry::ConvGeometry;
pub use gradient::Gradient;
pub use lanes::Lanes;
pub use layout::{from_lanes, repeat_first, to_lanes};
pub use norm::{Norm, moments, norm_backward, norm_forward, normalise};
pub use planes::Planes;
pub use pointwise::{
    Curve, Piecewise, activate, activate_backward, add, add_assign, add_backward, bias_gradient, curve, curve_backward,
    scale_channels, scale_channels_backward,
};
pub use pool::{PoolGeometry, average_pool, average_pool_backward, max_pool, max_pool_backward};
pub use resample::Resample;
pub use sparse::SparseConv;
pub use tasks::for_each;
pub(crate) use tasks::{Output, tasks};
pub use weight_gradient::{SurvivingWeightGradient, WeightGradient};
