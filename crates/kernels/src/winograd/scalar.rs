//! Transforms of one instruction set.

use crate::isa::scalar::*;

super::transforms::winograd_transforms!();
