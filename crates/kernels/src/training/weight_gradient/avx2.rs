//! AVX2 + FMA: 12 sums, 4 outputs times 3 channels.

use super::panels::{Products, Turn, panel_kernels};
use super::tiles::{Rect, Tile, weight_gradient_kernels};
use crate::isa::avx2::{LANES, Vector, add, fma, interleave, load, splat, store, store_tail, tail};

weight_gradient_kernels!("avx2,fma", halvings [4 2 1], tiles [
    (1, 1) (1, 2) (1, 3) (2, 1) (2, 2) (2, 3) (3, 1) (3, 2) (3, 3) (4, 1) (4, 2) (4, 3)
]);

panel_kernels!("avx2,fma", tiles[(1, 1)(1, 2)(1, 3)(1, 4)(2, 1)(2, 2)(2, 3)(2, 4)(3, 1)(3, 2)(3, 3)(3, 4)]);
