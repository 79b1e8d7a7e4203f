//! Portable: 4 sums of 8 lanes.

use super::panels::{Products, Turn, panel_kernels};
use super::tiles::{Rect, Tile, weight_gradient_kernels};
use crate::isa::scalar::{LANES, Vector, add, fma, interleave, load, splat, store, store_tail, tail};

weight_gradient_kernels!(, halvings [4 2 1], tiles [
    (1, 1) (1, 2) (2, 1) (2, 2)
]);

panel_kernels!(, tiles [
    (1, 1) (1, 2) (2, 1) (2, 2)
]);
