//! AVX2 + FMA: 16 registers, up to 12 sums.

use super::tile::{Kernels, Run, Tile, tiles};
use crate::isa::avx2::{LANES, Vector, fma, load, splat, store};

tiles! { "avx2,fma",
    1: 1 2 3 4 5 6 7 8;
    2: 1 2 3 4 5 6;
    3: 1 2 3 4;
    4: 1 2 3;
}
