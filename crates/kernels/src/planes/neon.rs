//! Tile kernels and copies of one instruction set.

use crate::isa::neon::*;

super::fill::planes_fill!(#[target_feature(enable = "neon")]; each #[inline(never)]);
super::tiles::planes_tiles!(#[target_feature(enable = "neon")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; 2: 1 2 3 4 5 6 7 8 9 10 11 12; 4: 1 2 3 4 5 6; 8: 1 2 3;]);
