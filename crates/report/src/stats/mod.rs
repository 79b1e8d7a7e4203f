//! Statistics of raw samples. What is undefined (no samples, a zero denominator) is `None`, never zero or infinity.

mod proportion;
mod ratio;
mod sample;

pub use proportion::{Interval, Proportion};
pub use ratio::{Difference, NOISE_FLOOR, Pairing, Ratio, ratio_of_medians};
pub use sample::{MeanInterval, confidence, mean_interval, paired_difference};

/// Modified z-score above which a sample is an outlier.
///
/// Source: Iglewicz and Hoaglin 1993, "How to detect and handle outliers".
pub const OUTLIER_Z: f64 = 3.5;

/// Smallest spread assumed when looking for outliers, as a fraction of the median: a timer with coarse ticks can show
/// a median absolute deviation of zero, and then every other value would be an outlier.
const SPREAD_FLOOR: f64 = 0.01;

/// The middle sample, or the mean of the two middle ones.
pub fn median(samples: &[u64]) -> Option<f64> {
    percentile(samples, 50.0)
}

/// The value below which `percent` percent of the samples lie, by linear interpolation between the two closest ranks:
/// rank `percent / 100 * (n - 1)`, so 0 is the smallest and 100 the largest sample.
///
/// * `percent`: in `[0, 100]`; anything else, NaN included, gives `None`.
pub fn percentile(samples: &[u64], percent: f64) -> Option<f64> {
    if samples.is_empty() || !(0.0..=100.0).contains(&percent) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = percent / 100.0 * (sorted.len() - 1) as f64;
    let below = sorted[rank.floor() as usize] as f64;
    let above = sorted[rank.ceil() as usize] as f64;
    Some(below + (above - below) * rank.fract())
}

/// Median absolute deviation from the median, unscaled.
pub fn mad(samples: &[u64]) -> Option<f64> {
    let middle = median(samples)?;
    let mut deviations: Vec<f64> = samples.iter().map(|&s| (s as f64 - middle).abs()).collect();
    deviations.sort_unstable_by(f64::total_cmp);
    let half = deviations.len() / 2;
    Some(if deviations.len() % 2 == 1 { deviations[half] } else { (deviations[half - 1] + deviations[half]) / 2.0 })
}

/// Indices of the samples whose modified z-score exceeds [`OUTLIER_Z`], ascending.
///
/// The score is `|x - median| / (1.4826 * MAD)`; a spread below 1 % of the median counts as 1 % of it.
pub fn outliers(samples: &[u64]) -> Vec<usize> {
    let (Some(middle), Some(deviation)) = (median(samples), mad(samples)) else { return Vec::new() };
    let spread = (1.4826 * deviation).max(SPREAD_FLOOR * middle);
    let far = |&(_, &s): &(usize, &u64)| (s as f64 - middle).abs() > OUTLIER_Z * spread;
    samples.iter().enumerate().filter(far).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_ranks() {
        let samples = [40, 10, 30, 20];
        assert_eq!(median(&samples), Some(25.0));
        assert_eq!(percentile(&samples, 0.0), Some(10.0));
        assert_eq!(percentile(&samples, 100.0), Some(40.0));
        assert_eq!(percentile(&samples, 90.0).map(|v| (v * 1e6).round()), Some(37e6));
    }

    #[test]
    fn nothing_is_known_of_no_samples() {
        assert_eq!(median(&[]), None);
        assert_eq!(mad(&[]), None);
        assert!(outliers(&[]).is_empty());
        assert_eq!(percentile(&[1], 100.5), None);
        assert_eq!(percentile(&[1], f64::NAN), None);
    }

    #[test]
    fn mad_is_the_median_distance_to_the_median() {
        assert_eq!(mad(&[1, 1, 2, 2, 4, 6, 9]), Some(1.0));
        assert_eq!(mad(&[1, 2, 3, 10]), Some(1.0));
    }

    #[test]
    fn one_far_sample_is_the_outlier() {
        assert_eq!(outliers(&[100, 101, 99, 102, 98, 300, 100]), [5]);
    }

    #[test]
    fn coarse_timer_ticks_are_not_outliers() {
        assert!(outliers(&[1000, 1000, 1000, 1000, 1010]).is_empty());
    }
}
