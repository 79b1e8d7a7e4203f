//! Tile kernels of one instruction set.

use crate::isa::neon::*;

super::tiles::dense_tiles!(#[target_feature(enable = "neon")] [12: 1 2; 8: 1 2 3; 6: 1 2 3 4; 4: 1 2 3 4; 2: 1 2 3 4; 1: 1 2 3 4;]);
