//! Memory that starts on a cache line.

use std::fmt;

use crate::LINE;

/// `f32` elements, zero at first, the first of them on a cache line.
pub(super) struct Lines {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Lines {
    /// Takes memory for `len` elements; pages that nobody writes cost nothing.
    pub fn new(len: usize) -> Self {
        let memory = vec![0.0f32; len + LINE - 1];
        let start = (memory.as_ptr() as usize).wrapping_neg() % (LINE * size_of::<f32>()) / size_of::<f32>();
        Self { memory, start, len }
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_starts_on_a_line() {
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            let mut lines = Lines::new(len);
            assert_eq!((lines.as_mut_slice().len(), lines.as_mut_slice().as_ptr() as usize % 64), (len, 0));
        }
    }
}
