//! NEON (aarch64): 24 sums, 4 outputs times 6 channels, or 8 times 3.

use super::panels::{Products, Turn, panel_kernels};
use super::tiles::{Rect, Tile, weight_gradient_kernels};
use crate::isa::neon::{LANES, Vector, add, fma, interleave, load, splat, store, store_tail, tail};

weight_gradient_kernels!("neon", halvings [2 1], tiles [
    (1, 1) (1, 2) (1, 3) (1, 4) (1, 5) (1, 6) (2, 1) (2, 2) (2, 3) (2, 4) (2, 5) (2, 6) (3, 1) (3, 2) (3, 3) (3, 4) (3, 5) (3, 6) (4, 1) (4, 2) (4, 3) (4, 4) (4, 5) (4, 6)
    (5, 1) (5, 2) (5, 3) (6, 1) (6, 2) (6, 3) (7, 1) (7, 2) (7, 3) (8, 1) (8, 2) (8, 3)
]);

panel_kernels!(
    "neon",
    tiles[(1, 1)(1, 2)(1, 3)(2, 1)(2, 2)(2, 3)(3, 1)(3, 2)(3, 3)(4, 1)(4, 2)(4, 3)(5, 1)(5, 2)(5, 3)(6, 1)(6, 2)(6, 3)(
        7, 1
    )(7, 2)(7, 3)(8, 1)(8, 2)(8, 3)]
);
