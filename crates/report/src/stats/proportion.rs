//! Counts out of a total, with the interval their size allows.

use serde::{Deserialize, Serialize};

/// Half width of the central 95 % of the normal distribution, in standard deviations.
const Z_95: f64 = 1.959_963_984_540_054;

/// A closed range of plausible values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in the range, bounds included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// `hits` out of `total`, for example defects found out of defects shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proportion {
    /// Number that counted.
    pub hits: u64,
    /// Number there were.
    pub total: u64,
}

impl Proportion {
    /// `hits / total` in `[0, 1]`; `None` when the total is zero.
    pub fn value(&self) -> Option<f64> {
        (self.total > 0).then(|| self.hits as f64 / self.total as f64)
    }

    /// The Wilson score interval at 95 %; `None` when the total is zero or smaller than the hits.
    ///
    /// Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    pub fn wilson(&self) -> Option<Interval> {
        if self.total == 0 || self.hits > self.total {
            return None;
        }
        let n = self.total as f64;
        let p = self.hits as f64 / n;
        let z2 = Z_95 * Z_95;
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // At the ends the exact bound is 0 or 1; rounding would leave a residue.
        let low = if self.hits == 0 { 0.0 } else { centre - half };
        let high = if self.hits == self.total { 1.0 } else { centre + half };
        Some(Interval { low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(hits: u64, total: u64) -> (f64, f64) {
        let interval = Proportion { hits, total }.wilson().unwrap();
        ((interval.low * 1e4).round() / 1e4, (interval.high * 1e4).round() / 1e4)
    }

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
        assert_eq!(rounded(81, 263), (0.2553, 0.3662));
        assert_eq!(rounded(15, 148), (0.0624, 0.1605));
        assert_eq!(rounded(0, 20), (0.0, 0.1611));
        assert_eq!(rounded(1, 29), (0.0061, 0.1718));
    }

    #[test]
    fn all_hits_reach_exactly_one() {
        assert_eq!(Proportion { hits: 7, total: 7 }.wilson().unwrap().high, 1.0);
    }

    #[test]
    fn nothing_out_of_nothing_is_undefined() {
        assert_eq!(Proportion::default().value(), None);
        assert_eq!(Proportion::default().wilson(), None);
        assert_eq!(Proportion { hits: 2, total: 1 }.wilson(), None);
    }

    #[test]
    fn the_interval_holds_its_value_and_stays_in_range() {
        for total in 1..40 {
            for hits in 0..=total {
                let proportion = Proportion { hits, total };
                let interval = proportion.wilson().unwrap();
                assert!(interval.contains(proportion.value().unwrap()), "{proportion:?} {interval:?}");
                assert!(interval.low >= 0.0 && interval.high <= 1.0);
            }
        }
    }
}
