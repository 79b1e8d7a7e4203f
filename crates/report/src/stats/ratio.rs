//! The ratio of two median latencies and how sure it is.

use serde::{Deserialize, Serialize};

use super::{Interval, median};

/// Bootstrap replicates; the 2.5 % and 97.5 % bounds are the 25th value from either end.
const REPLICATES: usize = 1000;

/// A ratio closer to 1 than this is never called a difference: code and memory placement alone move a latency by
/// about as much between two loads of the same file.
pub const NOISE_FLOOR: f64 = 0.01;

/// `median(first) / median(this)`: above 1, this is faster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Ratio of the sample medians.
    pub ratio: f64,
    /// Lower bound of the 95 % interval.
    pub low: f64,
    /// Upper bound of the 95 % interval.
    pub high: f64,
}

/// What a [`Ratio`] allows one to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The interval contains 1, or the ratio is within [`NOISE_FLOOR`] of 1.
    None,
    /// This takes less time than the first.
    Faster,
    /// This takes more time than the first.
    Slower,
}

impl Ratio {
    /// What the interval allows one to say.
    pub fn difference(&self) -> Difference {
        let interval = Interval { low: self.low, high: self.high };
        if interval.contains(1.0) || (self.ratio - 1.0).abs() < NOISE_FLOOR {
            Difference::None
        } else if self.ratio > 1.0 {
            Difference::Faster
        } else {
            Difference::Slower
        }
    }
}

/// How two series of samples belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Sample `i` of both was taken in round `i`, so a disturbance hits both: rounds are resampled together.
    Rounds,
    /// The series were measured at different times: each is resampled alone.
    Separate,
}

/// The ratio of the medians with a 95 % percentile-bootstrap interval.
///
/// Blocks of `n^(1/3)` consecutive rounds are resampled (circularly), because neighbouring samples share clock and
/// temperature and resampling them one by one would give too narrow an interval.
/// The same samples and `seed` give the same interval on every machine.
///
/// `None` when a series is empty, a median is zero, or paired series have different lengths.
pub fn ratio_of_medians(first: &[u64], this: &[u64], pairing: Pairing, seed: u64) -> Option<Ratio> {
    if pairing == Pairing::Rounds && first.len() != this.len() {
        return None;
    }
    let (mut a, mut b) = (Resampler::new(first), Resampler::new(this));
    let quotient = |a: f64, b: f64| (a > 0.0 && b > 0.0).then(|| a / b);
    let ratio = quotient(median(first)?, median(this)?)?;
    let mut rng = SplitMix64(seed);
    let mut replicates = Vec::with_capacity(REPLICATES);
    for _ in 0..REPLICATES {
        a.clear();
        b.clear();
        match pairing {
            Pairing::Rounds => blocks(first.len(), &mut rng, |round| {
                a.add(round);
                b.add(round);
            }),
            Pairing::Separate => {
                blocks(first.len(), &mut rng, |round| a.add(round));
                blocks(this.len(), &mut rng, |round| b.add(round));
            }
        }
        replicates.push(quotient(a.median(), b.median())?);
    }
    replicates.sort_unstable_by(f64::total_cmp);
    let tail = REPLICATES / 40;
    // With few samples the replicates can miss the estimate itself; an interval without it would mislead.
    let low = replicates[tail].min(ratio);
    let high = replicates[REPLICATES - 1 - tail].max(ratio);
    Some(Ratio { ratio, low, high })
}

/// Draws `n` rounds below `n` as circular blocks.
fn blocks(n: usize, rng: &mut SplitMix64, mut draw: impl FnMut(usize)) {
    let block = (n as f64).cbrt().round().max(1.0) as usize;
    let mut drawn = 0;
    while drawn < n {
        let start = rng.below(n);
        for offset in 0..block.min(n - drawn) {
            draw((start + offset) % n);
        }
        drawn += block;
    }
}

/// Medians of resamples without sorting each: samples are ranked once, a resample is a count per rank.
struct Resampler {
    sorted: Vec<u64>,
    rank_of_round: Vec<usize>,
    counts: Vec<usize>,
}

impl Resampler {
    fn new(samples: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.sort_by_key(|&round| samples[round]);
        let mut rank_of_round = vec![0; samples.len()];
        for (rank, &round) in order.iter().enumerate() {
            rank_of_round[round] = rank;
        }
        let sorted = order.iter().map(|&round| samples[round]).collect();
        Self { sorted, rank_of_round, counts: vec![0; samples.len()] }
    }

    fn clear(&mut self) {
        self.counts.fill(0);
    }

    fn add(&mut self, round: usize) {
        self.counts[self.rank_of_round[round]] += 1;
    }

    /// Median of what was added, as many as there are samples.
    fn median(&self) -> f64 {
        let (lower, upper) = ((self.sorted.len() - 1) / 2, self.sorted.len() / 2);
        let mut seen = 0;
        let mut low = None;
        for (&value, &count) in self.sorted.iter().zip(&self.counts) {
            seen += count;
            if seen > lower && low.is_none() {
                low = Some(value as f64);
            }
            if seen > upper {
                let value = value as f64;
                return low.map_or(value, |low| low + (value - low) / 2.0);
            }
        }
        unreachable!("a resample has as many members as there are samples")
    }
}

/// A small deterministic generator; statistics must not change with a dependency's version.
///
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value below `bound`; the bias of the multiply is below `bound / 2^64`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interleaved rounds of two models that cost `a` and `b` nanoseconds under a drift both share.
    fn rounds(a: u64, b: u64, n: usize, seed: u64) -> (Vec<u64>, Vec<u64>) {
        let mut rng = SplitMix64(seed);
        (0..n)
            .map(|i| {
                let drift = (i * 20 / n) as u64;
                let mut noisy = |cost: u64| cost + cost * (drift + rng.below(40) as u64) / 400;
                (noisy(a), noisy(b))
            })
            .unzip()
    }

    #[test]
    fn a_against_the_same_samples_is_exactly_one() {
        let (a, _) = rounds(10_000, 10_000, 51, 1);
        let ratio = ratio_of_medians(&a, &a, Pairing::Rounds, 7).unwrap();
        assert_eq!(ratio, Ratio { ratio: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(ratio.difference(), Difference::None);
    }

    #[test]
    fn a_against_a_says_no_difference_for_nearly_every_seed() {
        let same = |seed| {
            let (a, b) = rounds(10_000, 10_000, 60, seed);
            let ratio = ratio_of_medians(&a, &b, Pairing::Rounds, seed).unwrap();
            Interval { low: ratio.low, high: ratio.high }.contains(1.0)
        };
        let inside = (0..100).filter(|&seed| same(seed)).count();
        assert!(inside >= 90, "{inside} of 100 intervals contain 1");
    }

    #[test]
    fn twice_as_fast_is_two_with_a_tight_interval() {
        let (a, b) = rounds(20_000, 10_000, 61, 3);
        let ratio = ratio_of_medians(&a, &b, Pairing::Rounds, 7).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 0.06, "{ratio:?}");
        assert!(ratio.low > 1.9 && ratio.high < 2.1, "{ratio:?}");
        assert_eq!(ratio.difference(), Difference::Faster);
    }

    #[test]
    fn exchanging_the_models_inverts_the_interval() {
        for seed in 0..20 {
            let (a, b) = rounds(13_000, 10_000, 33, seed);
            let ab = ratio_of_medians(&a, &b, Pairing::Rounds, seed).unwrap();
            let ba = ratio_of_medians(&b, &a, Pairing::Rounds, seed).unwrap();
            assert!((ab.low * ba.high - 1.0).abs() < 1e-12, "{ab:?} {ba:?}");
            assert!(ab.low <= ab.ratio && ab.ratio <= ab.high);
            assert_eq!(ba.difference(), Difference::Slower);
        }
    }

    #[test]
    fn a_resample_of_every_round_has_the_median_of_the_samples() {
        for samples in [vec![5], vec![4, 1], vec![9, 3, 3], vec![8, 1, 6, 2]] {
            let mut resampler = Resampler::new(&samples);
            (0..samples.len()).for_each(|round| resampler.add(round));
            assert_eq!(Some(resampler.median()), median(&samples));
        }
    }

    #[test]
    fn a_half_percent_is_below_the_noise_floor() {
        let ratio = Ratio { ratio: 1.005, low: 1.004, high: 1.006 };
        assert_eq!(ratio.difference(), Difference::None);
    }

    #[test]
    fn undefined_ratios_are_none() {
        assert_eq!(ratio_of_medians(&[], &[], Pairing::Rounds, 0), None);
        assert_eq!(ratio_of_medians(&[0], &[5], Pairing::Separate, 0), None);
        assert_eq!(ratio_of_medians(&[1, 2], &[1], Pairing::Rounds, 0), None);
        assert!(ratio_of_medians(&[1, 2], &[1], Pairing::Separate, 0).is_some());
    }
}
