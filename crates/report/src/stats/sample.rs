//! Means of a few repeats, and differences of repeats that belong together in pairs, with Student's interval.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

use serde::{Deserialize, Serialize};

/// Mean of some numbers with the interval that their spread allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanInterval {
    /// Arithmetic mean.
    pub mean: f64,
    /// Lower bound of the interval of the mean; `None` for a single number, whose spread is not known.
    pub low: Option<f64>,
    /// Upper bound; `None` for a single number.
    pub high: Option<f64>,
    /// How many numbers.
    pub n: usize,
    /// Standard deviation of the numbers (divisor `n - 1`); `None` for a single number.
    pub std: Option<f64>,
}

impl MeanInterval {
    /// Half the width of the interval.
    pub fn half(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0)
    }

    /// Whether the whole interval lies on one side of 0.
    pub fn excludes_zero(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

/// Mean of `values` and its interval: mean ± t(level, n - 1) · std / √n.
///
/// * `level`: coverage in `(0, 1)`, for example 0.95. The interval is exact for independent normal values.
///
/// `None` when there are no values, one is not finite, or `level` is out of range.
///
/// Source: Student 1908, "The probable error of a mean".
pub fn mean_interval(values: &[f64], level: f64) -> Option<MeanInterval> {
    with_least_spread(values, level, 0.0)
}

/// As [`mean_interval`], but the spread is taken to be at least `least`.
fn with_least_spread(values: &[f64], level: f64, least: f64) -> Option<MeanInterval> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() == 1 {
        return Some(MeanInterval { mean, low: None, high: None, n: 1, std: None });
    }
    let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt().max(least);
    let half = student_t(level, values.len() - 1) * std / n.sqrt();
    Some(MeanInterval { mean, low: Some(mean - half), high: Some(mean + half), n: values.len(), std: Some(std) })
}

/// Mean of `first - second` over `pairs`, for example two methods with the same seeds; the spread that a pair has in
/// common drops out. `None` as in [`mean_interval`].
///
/// * `step`: the least by which two such numbers can differ, for example 1 / samples for an accuracy; 0 if there is none.
///
/// Two or three repeats often differ by the very same number of steps, which shows how coarse the numbers are and not that
/// the difference is sure: the spread is at least that of two numbers, each rounded to a step, `step / √6`.
pub fn paired_difference(pairs: &[(f64, f64)], level: f64, step: f64) -> Option<MeanInterval> {
    let differences: Vec<f64> = pairs.iter().map(|(first, second)| first - second).collect();
    with_least_spread(&differences, level, step / 6f64.sqrt())
}

/// Probability that Student's t with `freedom` degrees of freedom lies within `±t`; the inverse of the quantile.
pub fn confidence(t: f64, freedom: usize) -> f64 {
    central_probability((t / (freedom as f64).sqrt()).atan(), freedom)
}

/// The t with `P(|T| <= t) = level` for `freedom` degrees of freedom, at least 1.
fn student_t(level: f64, freedom: usize) -> f64 {
    // The probability is a finite sum in the angle atan(t / √freedom) and grows with it.
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if central_probability(middle, freedom) < level { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).tan() * (freedom as f64).sqrt()
}

/// `P(|T| <= √freedom · tan(angle))`, by the finite series for whole degrees of freedom.
///
/// Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
fn central_probability(angle: f64, freedom: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    // Term k is the one before times 2k / (2k + 1) or (2k - 1) / (2k), and cos².
    let (mut term, mut sum) = (if odd { cosine } else { 1.0 }, 0.0);
    for k in 1..=freedom / 2 {
        sum += term;
        let k = k as f64;
        let ratio = if odd { 2.0 * k / (2.0 * k + 1.0) } else { (2.0 * k - 1.0) / (2.0 * k) };
        term *= ratio * cosine * cosine;
    }
    if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        let table = [
            (0.95, 1, 12.706_204_736),
            (0.95, 2, 4.302_652_730),
            (0.95, 3, 3.182_446_305),
            (0.95, 4, 2.776_445_105),
            (0.95, 9, 2.262_157_163),
            (0.99, 5, 4.032_142_984),
            (0.90, 30, 1.697_260_887),
            (0.95, 1000, 1.962_339_081),
        ];
        for (level, freedom, expected) in table {
            let found = student_t(level, freedom);
            assert!((found - expected).abs() < 1e-8 * expected, "{level} {freedom}: {found} for {expected}");
        }
    }

    #[test]
    fn the_interval_of_three_values_is_the_one_worked_out_by_hand() {
        let found = mean_interval(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert_eq!((found.mean, found.n, found.std), (2.0, 3, Some(1.0)));
        let half = 4.302_652_730 / 3f64.sqrt();
        assert!((found.half().unwrap() - half).abs() < 1e-8 && found.excludes_zero() == (half < 2.0), "{found:?}");
    }

    #[test]
    fn one_value_has_a_mean_and_no_interval() {
        let found = mean_interval(&[0.5], 0.95).unwrap();
        assert_eq!((found.mean, found.low, found.std, found.half()), (0.5, None, None, None));
        assert!(!found.excludes_zero());
    }

    #[test]
    fn one_step_more_in_both_of_two_repeats_shows_nothing() {
        let pairs = [(0.81, 0.80), (0.71, 0.70)];
        assert!(paired_difference(&pairs, 0.95, 0.0).unwrap().excludes_zero(), "the trap");
        let found = paired_difference(&pairs, 0.95, 0.01).unwrap();
        let half = 12.706_204_736 * 0.01 / 12f64.sqrt();
        assert!(!found.excludes_zero() && (found.half().unwrap() - half).abs() < 1e-9, "{found:?}");
        assert!((found.mean - 0.01).abs() < 1e-12);
        let wide = [(0.9, 0.8), (0.6, 0.7)];
        assert_eq!(paired_difference(&wide, 0.95, 0.01), paired_difference(&wide, 0.95, 0.0));
    }

    #[test]
    fn what_is_undefined_is_none() {
        assert_eq!(mean_interval(&[], 0.95), None);
        assert_eq!(mean_interval(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(mean_interval(&[1.0, 2.0], 1.0), None);
        assert_eq!(mean_interval(&[1.0, 2.0], f64::NAN), None);
    }

    #[test]
    fn pairs_that_move_together_have_a_narrow_difference() {
        let pairs = [(0.90, 0.88), (0.80, 0.78), (0.70, 0.681)];
        let found = paired_difference(&pairs, 0.95, 0.0).unwrap();
        assert!(found.excludes_zero() && (found.mean - 0.019_666_666).abs() < 1e-6, "{found:?}");
        let apart = mean_interval(&pairs.map(|p| p.0), 0.95).unwrap();
        assert!(apart.half().unwrap() > 50.0 * found.half().unwrap(), "{apart:?} {found:?}");
    }
}
