//! Portable: tile kernels.

use crate::isa::scalar::*;

super::tiles::sparse_tiles!([1: 1 2 3 4; 2: 1 2; 3: 1; 4: 1;]);
