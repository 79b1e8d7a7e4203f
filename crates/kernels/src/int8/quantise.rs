//! From numbers to bytes: bounds, scale and zero point, and words of four channels.

/// Steps from the smallest to the largest number: two fewer than bytes have, so that no rounding leaves them.
const STEPS: f32 = 253.0;
/// The byte of the smallest number, or one less.
const LOWEST: i32 = -127;
/// 1.5 * 2^23: a number much smaller that is added to it is rounded to an integer, which the low bits of the sum are.
const MAGIC: f32 = 12_582_912.0;

/// Numbers that are looked at side by side.
const LANES: usize = 8;

/// The largest and the smallest number seen, as bits, in every lane: positive ones compare like signed integers, negative ones like unsigned
/// ones turned round, and both end in the infinite and in what is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub high: [i32; LANES],
    pub low: [u32; LANES],
}

impl Bounds {
    /// Before anything was seen: zero, which padding is.
    pub const ZERO: Self = Self { high: [0; LANES], low: [1 << 31; LANES] };

    fn numbers(&self) -> (f32, f32) {
        let (high, low) = (self.high.iter().copied().max(), self.low.iter().copied().max());
        (f32::from_bits(high.unwrap_or(0) as u32), f32::from_bits(low.unwrap_or(0)))
    }
}

/// How numbers become bytes: `byte = round(number / scale) + zero`, halves to the even integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rounding {
    /// Difference of two numbers whose bytes differ by one; not a number where some input was not finite, which then is what all outputs are.
    pub scale: f32,
    /// The byte of 0.
    pub zero: i32,
    /// 1 / `scale`.
    pub inverse: f32,
    /// [`MAGIC`] and the zero point in one.
    pub shift: f32,
}

impl Rounding {
    /// For numbers within `bounds`.
    pub fn of(bounds: Bounds) -> Self {
        let (high, low) = bounds.numbers();
        let range = high - low;
        if !range.is_finite() {
            return Self { scale: f32::NAN, zero: 0, inverse: 0.0, shift: MAGIC };
        }
        let inverse = STEPS / range;
        // no range, or one too small to divide by: nothing but zeros to eight bits
        if !inverse.is_finite() {
            return Self { scale: 0.0, zero: 0, inverse: 0.0, shift: MAGIC };
        }
        let zero = LOWEST - ((low * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32);
        Self { scale: range / STEPS, zero, inverse, shift: MAGIC + zero as f32 }
    }

    /// Four zeros.
    pub fn zero_word(&self) -> u32 {
        u32::from_le_bytes([self.zero as u8; 4])
    }

    #[inline(always)]
    fn byte(&self, number: f32) -> u32 {
        // two roundings on every processor: a fused one would give other ties
        (number * self.inverse + self.shift).to_bits() & 0xff
    }
}

/// The portable body of `widen`.
#[inline(always)]
pub(crate) fn widen(numbers: &[f32], bounds: Bounds) -> Bounds {
    let Bounds { mut high, mut low } = bounds;
    for (at, number) in numbers.iter().enumerate() {
        let lane = at % LANES;
        high[lane] = high[lane].max(number.to_bits() as i32);
        low[lane] = low[lane].max(number.to_bits());
    }
    Bounds { high, low }
}

/// The portable body of `words`.
#[inline(always)]
pub(crate) fn words(rounding: &Rounding, rows: [&[f32]; 4], to: &mut [u32]) {
    let [a, b, c, d] = rows;
    assert!([a, b, c, d].iter().all(|row| row.len() == to.len()), "rows as long as their words");
    // in this form the compiler makes vectors of it
    for ((((word, a), b), c), d) in to.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        let byte = |number: &f32| rounding.byte(*number);
        *word = byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> (Rounding, Vec<i8>) {
        let rounding = Rounding::of(widen(numbers, Bounds::ZERO));
        let mut to = vec![0; numbers.len()];
        words(&rounding, [numbers; 4], &mut to);
        let bytes = to.iter().map(|word| word.to_le_bytes()).inspect(|bytes| assert_eq!(*bytes, [bytes[0]; 4]));
        (rounding, bytes.map(|bytes| bytes[0] as i8).collect())
    }

    #[test]
    fn integers_within_the_steps_stay_what_they_are() {
        let (rounding, found) = bytes(&[-100.0, 153.0, 0.0, 7.0, -1.0]);
        assert_eq!((rounding.scale, rounding.zero), (1.0, -27));
        assert_eq!(found, [-127, 126, -27, -20, -28]);
        // all positive: zero still has a byte
        let (rounding, found) = bytes(&[253.0, 1.0]);
        assert_eq!((rounding.scale, rounding.zero, found), (1.0, -127, vec![126, -126]));
        let (rounding, found) = bytes(&[-253.0, -3.0]);
        assert_eq!((rounding.scale, rounding.zero, found), (1.0, 126, vec![-127, 123]));
    }

    #[test]
    fn no_byte_is_further_than_half_a_step_from_its_number() {
        for seed in 0..200 {
            let scale = 10f32.powi(seed as i32 % 60 - 30);
            let numbers: Vec<f32> = crate::map_testing::random(300, seed).iter().map(|x| (x + 0.3) * scale).collect();
            let (rounding, found) = bytes(&numbers);
            for (number, byte) in numbers.iter().zip(found) {
                let back = (f32::from(byte) - rounding.zero as f32) * rounding.scale;
                let error = f64::from((back - number).abs()) / f64::from(rounding.scale);
                assert!(error <= 0.5001, "{number} became {back}, {error} steps away");
            }
        }
    }

    #[test]
    fn bounds_meet_every_kind_of_number() {
        let rounding = |numbers: &[f32]| Rounding::of(widen(numbers, Bounds::ZERO));
        for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(rounding(&[1.0, odd, -2.0]).scale.is_nan());
        }
        assert!(rounding(&[f32::MAX, -f32::MAX]).scale.is_nan(), "their difference is not finite");
        for (numbers, scale) in [(&[0.0, -0.0][..], 0.0), (&[], 0.0), (&[1e-44, -1e-44], 0.0), (&[-0.0, 253.0], 1.0)] {
            let found = rounding(numbers);
            assert_eq!(found.scale, scale);
            assert_eq!((0.0 * found.inverse + found.shift).to_bits() & 0xff, found.zero as u32 & 0xff);
        }
    }
}
