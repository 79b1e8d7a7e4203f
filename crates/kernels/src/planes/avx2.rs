//! Tile kernels and copies of one instruction set.

use crate::isa::avx2::*;

super::fill::planes_fill!(#[target_feature(enable = "avx2,fma,bmi2")]);
super::tiles::planes_tiles!(#[target_feature(enable = "avx2,fma,bmi2")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 2: 1 2 3 4 5 6; 4: 1 2 3; 8: 1;]);
