//! Tile kernels and copies of one instruction set.

use crate::isa::scalar::*;

super::fill::planes_fill!();
super::tiles::planes_tiles!( [1: 1 2 3 4; 2: 1 2; 4: 1; 8: 1;]);
