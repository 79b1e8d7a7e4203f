//! NEON: tile kernels.

pub(super) use super::lists::keep;
use crate::isa::neon::*;

super::tiles::sparse_tiles!(#[target_feature(enable = "neon")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; 2: 1 2 3 4 5 6 7 8; 3: 1 2 3 4 5; 4: 1 2 3 4; 5: 1 2 3; 6: 1 2; 7: 1 2; 8: 1 2;]);
