//! 4 pixels a vector, and outputs of the dense kernel.

use crate::isa::neon::*;

super::pixels::tiny_pixels!(#[target_feature(enable = "neon")] [1 8; 2 8; 4 4]);
super::sparse::tiny_sparse!(#[target_feature(enable = "neon")]);
super::dense::tiny_dense!(#[target_feature(enable = "neon")] [4: 1 2 4 6; 2: 8 9 12; 1: 16]);
