//! Position streams: how each encoding writes, reads, checks and prices them.
//!
//! * gap4: 4-bit symbols, low nibble first. `1..=15` advances that far and places the next value; `0` advances 15
//!   and places nothing. The walk starts at position -1. An odd count leaves the last high nibble zero.
//! * gap8: the same with bytes; `0` advances 255.
//! * mask: one bit per element, least significant bit first.

use super::PackedError;

/// How the positions of the non-zeros are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// Distances in 4-bit symbols; smallest from about 75 % to 95 % zeros.
    Gap4,
    /// Distances in bytes; smallest above about 95 % zeros.
    Gap8,
    /// One bit per element; smallest below about 75 % zeros.
    Mask,
}

impl Encoding {
    /// Every encoding; ties in size go to the earlier one.
    pub const ALL: [Self; 3] = [Self::Gap4, Self::Gap8, Self::Mask];

    /// `gap4`, `gap8` or `mask`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap4 => "gap4",
            Self::Gap8 => "gap8",
            Self::Mask => "mask",
        }
    }

    /// The advance of a skip symbol; a mask has none.
    fn skip(self) -> Option<u64> {
        match self {
            Self::Gap4 => Some(15),
            Self::Gap8 => Some(255),
            Self::Mask => None,
        }
    }

    /// Bytes that `symbols` symbols fill.
    pub(super) fn bytes_of(self, symbols: usize) -> usize {
        match self {
            Self::Gap4 => symbols.div_ceil(2),
            Self::Gap8 | Self::Mask => symbols,
        }
    }

    /// Symbol `index` of the stream; `bytes` holds at least `bytes_of(index + 1)` bytes.
    #[inline]
    pub(super) fn symbol(self, bytes: &[u8], index: usize) -> u8 {
        match self {
            Self::Gap4 => (bytes[index / 2] >> (4 * (index % 2))) & 15,
            Self::Gap8 | Self::Mask => bytes[index],
        }
    }

    /// Symbols of strictly increasing `positions` in a tensor of `elements` elements.
    fn symbols_for(self, positions: &[u32], elements: usize) -> usize {
        let Some(skip) = self.skip() else { return elements.div_ceil(8) };
        let mut before = -1i64;
        let mut symbols = 0;
        for &position in positions {
            let advance = (i64::from(position) - before) as u64;
            symbols += advance.div_ceil(skip) as usize;
            before = i64::from(position);
        }
        symbols
    }

    /// Position stream and its symbol count; `positions` are strictly increasing and below `elements`.
    pub(super) fn write(self, positions: &[u32], elements: usize) -> (Vec<u8>, usize) {
        let symbols = self.symbols_for(positions, elements);
        let mut bytes = vec![0; self.bytes_of(symbols)];
        let Some(skip) = self.skip() else {
            for &position in positions {
                bytes[position as usize / 8] |= 1 << (position % 8);
            }
            return (bytes, symbols);
        };
        let mut before = -1i64;
        let mut at = 0;
        for &position in positions {
            let advance = (i64::from(position) - before) as u64;
            let skips = (advance - 1) / skip;
            at += skips as usize;
            let last = (advance - skips * skip) as u8;
            match self {
                Self::Gap4 => bytes[at / 2] |= last << (4 * (at % 2)),
                Self::Gap8 | Self::Mask => bytes[at] = last,
            }
            at += 1;
            before = i64::from(position);
        }
        (bytes, symbols)
    }

    /// Every rule of the position stream; returns the number of values it places.
    pub(super) fn check(self, bytes: &[u8], symbols: usize, elements: usize) -> Result<usize, PackedError> {
        let encoding = self.name();
        let expected = if self == Self::Mask { elements.div_ceil(8) } else { self.bytes_of(symbols) };
        if bytes.len() != expected || (self == Self::Mask && symbols != expected) {
            let found = if bytes.len() == expected { symbols } else { bytes.len() };
            return Err(PackedError::PositionBytes { encoding, expected, found });
        }
        let Some(skip) = self.skip() else {
            let used = elements % 8;
            if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
                return Err(PackedError::Padding { encoding });
            }
            return Ok(bytes.iter().map(|byte| byte.count_ones() as usize).sum());
        };
        if self == Self::Gap4 && symbols % 2 == 1 && bytes.last().is_some_and(|last| last >> 4 != 0) {
            return Err(PackedError::Padding { encoding });
        }
        let mut next = 0u64; // one past the current position, so that the walk starts at -1
        let mut placed = 0;
        for symbol in 0..symbols {
            let value = self.symbol(bytes, symbol);
            next += if value == 0 { skip } else { u64::from(value) };
            if next > elements as u64 {
                return Err(PackedError::PastEnd { symbol, position: next - 1, elements });
            }
            placed += usize::from(value != 0);
        }
        if symbols > 0 && self.symbol(bytes, symbols - 1) == 0 {
            return Err(PackedError::TrailingSkip);
        }
        Ok(placed)
    }
}

/// Bytes of positions and values in the file, without encoding anything.
///
/// * `positions`: flat positions of the non-zeros, strictly increasing, below `elements`.
/// * `elements`: elements of the dense tensor.
/// * `bytes_per_value`: 4, 2 or 1.
///
/// The leading fill value is counted; shape, names and scales are not (they are the same for every encoding).
pub fn encoded_bytes(encoding: Encoding, positions: &[u32], elements: usize, bytes_per_value: usize) -> usize {
    encoding.bytes_of(encoding.symbols_for(positions, elements)) + (1 + positions.len()) * bytes_per_value
}

/// The encoding with the fewest [`encoded_bytes`]; ties go to the earlier one of [`Encoding::ALL`].
pub fn smallest(positions: &[u32], elements: usize, bytes_per_value: usize) -> Encoding {
    let bytes = |encoding: &Encoding| encoded_bytes(*encoding, positions, elements, bytes_per_value);
    Encoding::ALL.into_iter().min_by_key(bytes).expect("there is at least one encoding")
}

/// Walks the positions of a checked stream; on an unchecked one it ends early instead of failing.
#[derive(Clone, Debug)]
pub(super) struct Positions<'a> {
    encoding: Encoding,
    bytes: &'a [u8],
    symbols: usize,
    elements: u64,
    at: usize,
    next: u64,
    /// Bits of the current mask byte that are still to be reported.
    bits: u8,
}

impl<'a> Positions<'a> {
    pub(super) fn new(encoding: Encoding, bytes: &'a [u8], symbols: usize, elements: u64) -> Self {
        let held = if encoding == Encoding::Gap4 { bytes.len().saturating_mul(2) } else { bytes.len() };
        Self { encoding, bytes, symbols: symbols.min(held), elements, at: 0, next: 0, bits: 0 }
    }
}

impl Iterator for Positions<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let position = if let Some(skip) = self.encoding.skip() {
            loop {
                if self.at == self.symbols {
                    return None;
                }
                let symbol = self.encoding.symbol(self.bytes, self.at);
                self.at += 1;
                if symbol != 0 {
                    self.next += u64::from(symbol);
                    break self.next - 1;
                }
                self.next += skip;
            }
        } else {
            while self.bits == 0 {
                if self.at == self.symbols {
                    return None;
                }
                self.bits = self.bytes[self.at];
                self.at += 1;
            }
            let bit = self.bits.trailing_zeros();
            self.bits &= self.bits - 1;
            (self.at as u64 - 1) * 8 + u64::from(bit)
        };
        if position < self.elements { u32::try_from(position).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_streams_match_bytes_written_by_hand() {
        // gaps from -1: 1, 15, 16, 30, 31 -> 4-bit symbols 1 15 (0 1) (0 15) (0 0 1), low nibble first
        let positions = [0, 15, 31, 61, 92];
        assert_eq!(Encoding::Gap4.write(&positions, 100), (vec![0xf1, 0x10, 0xf0, 0x00, 0x01], 9));
        // gaps 255, 256, 1 -> bytes 255 (0 1) 1
        assert_eq!(Encoding::Gap8.write(&[254, 510, 511], 600), (vec![255, 0, 1, 1], 4));
        assert_eq!(Encoding::Mask.write(&[0, 9, 10], 11), (vec![1, 6], 2));
    }

    #[test]
    fn the_price_is_the_length_of_what_is_written() {
        let positions = [3, 19, 274, 275, 1000];
        for encoding in Encoding::ALL {
            let (bytes, _) = encoding.write(&positions, 1003);
            assert_eq!(encoded_bytes(encoding, &positions, 1003, 4), bytes.len() + 6 * 4);
        }
    }

    #[test]
    fn the_smallest_encoding_follows_the_density() {
        let every = |step: usize| (0..4096u32).step_by(step).collect::<Vec<_>>();
        assert_eq!(smallest(&every(2), 4096, 4), Encoding::Mask);
        assert_eq!(smallest(&every(8), 4096, 4), Encoding::Gap4);
        assert_eq!(smallest(&every(64), 4096, 4), Encoding::Gap8);
        assert_eq!(smallest(&[], 4096, 4), Encoding::Gap4);
    }
}
