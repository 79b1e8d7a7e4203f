//! Weight gradients: `gw[o][c][tap] = sum over images and pixels of gy[o][pixel] * x[c][pixel of the tap]`.
//!
//! Every weight has one vector of sums, a lane per image of a block, to which pixels are added by block, row and column; at the end
//! its lanes are added by halves. So a weight's bits depend on nothing but the lanes, and a kernel for surviving weights
//! ([`SurvivingWeightGradient`]) gives the bits of the dense one ([`WeightGradient`]).
//!
//! Taps differ in which outputs they reach, so a tile of weights is of one tap, and the pixels it adds are one rectangle per block.
//! Pixels are taken in [`bands`] that stay in the cache from tap to tap; sums wait in scratch meanwhile.
//!
//! All weights of a fully connected layer are computed with features instead of images side by side ([`one_pixel`]), in the
//! same order, so to the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bands;
mod dense;
mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
mod one_pixel;
mod panels;
mod plan;
mod scalar;
mod scratch;
mod surviving;
#[cfg(test)]
mod tests;
mod tiles;

pub use dense::WeightGradient;
pub use surviving::SurvivingWeightGradient;
