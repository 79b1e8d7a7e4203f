//! Tile kernels in portable code.

use crate::isa::scalar::*;

super::tiles::dense_tiles!([4: 1; 2: 1 2; 1: 1 2 3 4;]);
