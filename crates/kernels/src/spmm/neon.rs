//! The tile loop for one instruction set.

use crate::isa::neon::{LANES, Vector, activate, add, fma, load, load_tail, splat, store, store_tail, tail};

super::tiles::spmm_tiles!("neon", [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16], 16);
