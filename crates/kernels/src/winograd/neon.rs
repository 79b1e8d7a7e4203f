//! Transforms of one instruction set.

use crate::isa::neon::*;

super::transforms::winograd_transforms!(#[target_feature(enable = "neon")]);
