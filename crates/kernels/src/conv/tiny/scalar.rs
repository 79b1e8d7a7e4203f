//! Portable: 8 pixels a vector, and outputs of the dense kernel.

use crate::isa::scalar::*;

super::pixels::tiny_pixels!( [1 8; 2 4]);
super::sparse::tiny_sparse!();
super::dense::tiny_dense!( [2: 1 2 4; 1: 6 8 9]);
