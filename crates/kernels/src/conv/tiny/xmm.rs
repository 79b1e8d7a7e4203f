//! 4 pixels a vector.

use crate::isa::xmm::*;

super::pixels::tiny_pixels!(#[target_feature(enable = "avx2,fma")] [1 8]);
super::sparse::tiny_sparse!(#[target_feature(enable = "avx2,fma")]);
