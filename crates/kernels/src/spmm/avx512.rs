//! The tile loop for one instruction set.

use crate::isa::avx512::{LANES, Vector, activate, add, fma, load, load_tail, splat, store, store_tail, tail};

super::tiles::spmm_tiles!("avx512f", [1 2 3 4 5 6 7 8 9 10], 10);
