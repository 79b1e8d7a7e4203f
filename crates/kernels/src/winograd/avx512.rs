//! Transforms of one instruction set.

use crate::isa::avx512::*;

super::transforms::winograd_transforms!(#[target_feature(enable = "avx512f")]);
