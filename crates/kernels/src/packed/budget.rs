//! A limit on what untrusted packed tensors may decode to.
//!
//! Trailing zeros cost nothing in a gap stream, so a few bytes can announce gigabytes. The only exact defence
//! is a budget on the sum of all decoded bytes, charged before anything is allocated.

use super::PackedError;

/// Bytes that decoding may still use, shared by all tensors of one model.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    left: u64,
}

impl ByteBudget {
    /// Budget of [`ByteBudget::default`]: 1 GiB.
    pub const DEFAULT_BYTES: u64 = 1 << 30;

    /// A budget of `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// Bytes not yet charged.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes `bytes` from the budget.
    ///
    /// # Errors
    /// [`PackedError::Budget`] when fewer are left; the budget then stays as it was.
    pub fn charge(&mut self, bytes: u64) -> Result<(), PackedError> {
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(PackedError::Budget { needed: bytes, left: self.left });
        };
        self.left = left;
        Ok(())
    }
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_may_be_charged_and_no_more() {
        let mut budget = ByteBudget::new(10);
        budget.charge(4).unwrap();
        assert_eq!(budget.charge(7), Err(PackedError::Budget { needed: 7, left: 6 }));
        budget.charge(6).unwrap();
        assert_eq!(budget.left(), 0);
    }
}
