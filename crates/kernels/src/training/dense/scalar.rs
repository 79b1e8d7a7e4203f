//! Portable: as many sums as 16 registers hold of vectors of 8; where vectors are shorter, some lie in memory.

use super::tile::{Kernels, Run, Tile, tiles};
use crate::isa::scalar::{LANES, Vector, fma, load, splat, store};

tiles! { ,
    1: 1 2 3 4 5 6 7 8;
    2: 1 2 3 4 5 6;
    3: 1 2 3 4;
    4: 1 2 3;
}
