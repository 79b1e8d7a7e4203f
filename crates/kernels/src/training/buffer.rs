//! Memory of one map.

use std::ops::{Deref, DerefMut};

use crate::gemv::Lines;

/// Numbers that start on a cache line, so that no vector of a map straddles two.
#[derive(Clone, Debug)]
pub struct Buffer(Lines<f32>);

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(Lines::zeros(len))
    }
}

impl Default for Buffer {
    /// Nothing; it allocates nothing.
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.0.as_mut_slice()
    }
}
