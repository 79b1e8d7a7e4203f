//! 8 pixels a vector, and outputs of the dense kernel.

use crate::isa::avx2::*;

super::pixels::tiny_pixels!(#[target_feature(enable = "avx2,fma")] [1 8; 2 4]);
super::sparse::tiny_sparse!(#[target_feature(enable = "avx2,fma")]);
super::dense::tiny_dense!(#[target_feature(enable = "avx2,fma")] [2: 1 2 4 6; 1: 8 9 12]);
