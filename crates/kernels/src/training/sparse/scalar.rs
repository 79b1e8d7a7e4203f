//! Portable: tile kernels.

pub(super) use super::lists::keep;
use crate::isa::scalar::*;

super::tiles::sparse_tiles!([1: 1 2 3 4; 2: 1 2; 3: 1; 4: 1;]);
