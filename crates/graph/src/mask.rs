//! Which weights of one initializer are kept.

use std::sync::Arc;

use crate::Tensor;

/// One flag per weight of one initializer, in row-major order; `true` = keep. Copies share the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    bits: Arc<[bool]>,
}

impl Mask {
    /// A mask that keeps all `len` weights.
    pub fn dense(len: usize) -> Self {
        Mask { bits: vec![true; len].into() }
    }

    /// A mask from one flag per weight.
    pub fn from_bits(bits: Vec<bool>) -> Self {
        Mask { bits: bits.into() }
    }

    /// The mask that the zero pattern of `tensor` is: keep what is not zero.
    pub fn of_zeros(tensor: &Tensor) -> Self {
        Mask { bits: tensor.data.iter().map(|v| *v != 0.0).collect() }
    }

    /// One flag per weight.
    pub fn bits(&self) -> &[bool] {
        &self.bits
    }

    /// Number of weights, kept and removed.
    pub fn len(&self) -> usize {
        self.bits.len()
    }

    /// Whether the mask covers no weights at all.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Number of kept weights.
    pub fn kept(&self) -> usize {
        self.bits.iter().filter(|b| **b).count()
    }

    /// Kept fraction, in `[0, 1]`; 1 for an empty mask.
    pub fn density(&self) -> f64 {
        if self.bits.is_empty() { 1.0 } else { self.kept() as f64 / self.len() as f64 }
    }

    /// Keeps what both masks keep.
    ///
    /// # Panics
    /// When the lengths differ: masks of different initializers were mixed up.
    pub fn and(&self, other: &Mask) -> Mask {
        assert_eq!(self.len(), other.len(), "masks of different initializers");
        Mask { bits: self.bits.iter().zip(&*other.bits).map(|(a, b)| *a && *b).collect() }
    }

    /// Whether every weight kept here is kept by `other` too.
    pub fn is_subset_of(&self, other: &Mask) -> bool {
        self.len() == other.len() && self.bits.iter().zip(&*other.bits).all(|(a, b)| !*a || *b)
    }

    /// Writes `+0.0` (never `-0.0`) wherever the mask removes.
    ///
    /// # Panics
    /// When `weights` is not as long as the mask.
    pub fn apply(&self, weights: &mut [f32]) {
        assert_eq!(self.len(), weights.len(), "mask and weights differ in length");
        for (w, keep) in weights.iter_mut().zip(&*self.bits) {
            if !keep {
                *w = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_twice_changes_nothing_more_and_writes_positive_zero() {
        let mask = Mask::from_bits(vec![true, false, true]);
        let mut w = [1.0, -2.0, -3.0];
        mask.apply(&mut w);
        let once = w;
        mask.apply(&mut w);
        assert_eq!(w, once);
        assert_eq!(w[1].to_bits(), 0.0f32.to_bits());
    }

    #[test]
    fn the_zero_pattern_is_the_mask() {
        let t = Tensor::new([4], vec![0.0, -0.0, 2.0, -1.0]);
        assert_eq!(Mask::of_zeros(&t).bits(), [false, false, true, true]);
        assert_eq!(Mask::of_zeros(&t).density(), 0.5);
    }
}
