//! AVX2: tile kernels.

pub(super) use super::lists::keep;
use crate::isa::avx2::*;

super::tiles::sparse_tiles!(#[target_feature(enable = "avx2,fma,bmi2")] [1: 1 2 3 4 5 6 7 8 9 10 11 12; 2: 1 2 3 4 5 6; 3: 1 2 3 4; 4: 1 2 3; 5: 1 2; 6: 1 2; 7: 1; 8: 1;]);
