//! Tile kernels of one instruction set.

use crate::isa::avx2::*;

super::tiles::dense_tiles!(#[target_feature(enable = "avx2,fma")] [8: 1; 6: 1 2; 4: 1 2 3; 3: 1 2 3 4; 2: 1 2 3 4; 1: 1 2 3 4;]);
