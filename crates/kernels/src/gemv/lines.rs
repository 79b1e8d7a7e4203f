//! Numbers that start on a cache line, so that vectors of them never straddle one.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Element types for which every bit pattern is a value and that have no padding.
///
/// # Safety
/// Both hold, and the alignment is at most 64.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: plain numbers.
unsafe impl Plain for u32 {}
// SAFETY: plain numbers.
unsafe impl Plain for u16 {}
// SAFETY: plain numbers.
unsafe impl Plain for i8 {}

/// A slice that starts on a cache line.
#[derive(Clone)]
pub(crate) struct Lines<T> {
    lines: Vec<Line>,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Plain> Lines<T> {
    /// `len` elements, all bits 0.
    pub fn zeros(len: usize) -> Self {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)];
        Self { lines, len, numbers: PhantomData }
    }

    /// Copies `items`.
    pub fn of(items: &[T]) -> Self {
        let mut lines = Self::zeros(items.len());
        lines.as_mut_slice().copy_from_slice(items);
        lines
    }

    /// All elements.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: the lines hold `len` elements, initialised and aligned, every bit pattern of which is a `T`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Plain> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as in `as_mut_slice`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T> fmt::Debug for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({} elements)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_start_on_a_line_and_keep_their_values() {
        let bytes: Vec<i8> = (0..100).collect();
        let lines = Lines::of(&bytes);
        assert_eq!((&lines[..], lines.as_ptr() as usize % 64), (&bytes[..], 0));
        assert_eq!((Lines::<f32>::zeros(17)[16], Lines::<u16>::zeros(0).len()), (0.0, 0));
    }
}
