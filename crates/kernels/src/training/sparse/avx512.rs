//! AVX-512: tile kernels.

use crate::isa::avx512::*;

super::tiles::sparse_tiles!(#[target_feature(enable = "avx512f,bmi2")] [1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; 2: 1 2 3 4 5 6 7 8; 3: 1 2 3 4 5; 4: 1 2 3 4; 5: 1 2 3; 6: 1 2; 7: 1 2; 8: 1 2;]);
