//! Where a gradient goes.

use super::Output;
use super::planes::fits;
use super::simd::Simd;

/// A gradient to be written, or to be added to what other consumers of the same value have left.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// As long as the value that it belongs to.
    pub values: &'a mut [f32],
    /// Whether it is added to what is there; else what is there does not matter.
    pub accumulate: bool,
}

impl<'a> Gradient<'a> {
    /// Overwrites `values`.
    pub fn write(values: &'a mut [f32]) -> Self {
        Self { values, accumulate: false }
    }

    /// Adds to `values`.
    pub fn add(values: &'a mut [f32]) -> Self {
        Self { values, accumulate: true }
    }

    /// What several tasks write; asserts the length.
    pub(super) fn sink(self, what: &str, expected: usize) -> Sink<'a> {
        fits(what, self.values.len(), expected);
        Sink { to: Output::new(self.values), accumulate: self.accumulate }
    }
}

/// A [`Gradient`] that several tasks write.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a> {
    pub to: Output<'a>,
    pub accumulate: bool,
}

impl Sink<'_> {
    /// Writes or adds `vector`, or as much of it as `to` holds.
    #[inline(always)]
    pub fn put<S: Simd>(self, s: S, to: &mut [f32], vector: S::V) {
        let vector = if self.accumulate { s.add(s.load_some(to), vector) } else { vector };
        s.store_some(to, vector);
    }
}
