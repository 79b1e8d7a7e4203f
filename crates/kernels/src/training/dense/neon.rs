//! NEON (aarch64): 32 registers, up to 24 sums.

use super::tile::{Kernels, Run, Tile, tiles};
use crate::isa::neon::{LANES, Vector, fma, load, splat, store};

tiles! { "neon",
    1: 1 2 3 4 5 6 7 8;
    2: 1 2 3 4 5 6 7 8;
    3: 1 2 3 4 5 6 7 8;
    4: 1 2 3 4 5 6;
    5: 1 2 3 4;
    6: 1 2 3 4;
}
