//! Transforms of one instruction set.

use crate::isa::avx2::*;

super::transforms::winograd_transforms!(#[target_feature(enable = "avx2,fma")]);
