//! Tile kernels of one instruction set.

use crate::isa::avx512::*;

super::tiles::dense_tiles!(#[target_feature(enable = "avx512f")] [14: 1 2; 12: 1 2; 8: 1 2 3; 6: 1 2 3 4; 4: 1 2 3 4 5 6; 2: 1 2 3 4 5 6; 1: 1 2 3 4 5 6;]);
