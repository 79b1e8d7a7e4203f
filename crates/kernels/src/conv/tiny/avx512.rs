//! 16 pixels a vector, and outputs of the dense kernel.

use crate::isa::avx512::*;

super::pixels::tiny_pixels!(#[target_feature(enable = "avx512f")] [1 8]);
super::sparse::tiny_sparse!(#[target_feature(enable = "avx512f")]);
super::dense::tiny_dense!(#[target_feature(enable = "avx512f")] [4: 1 2 4 6; 2: 8 9 12; 1: 16]);
