//! Tile kernels and copies of one instruction set.

use crate::isa::avx512::*;

super::fill::planes_fill!(#[target_feature(enable = "avx512f,bmi2")]);
super::tiles::planes_tiles!(#[target_feature(enable = "avx512f,bmi2")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 2: 1 2 3 4 5 6 7 8 9 10 11 12; 4: 1 2 3 4 5 6; 8: 1 2 3;]);
