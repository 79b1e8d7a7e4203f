//! Raw latency samples and what follows from them.

use serde::{Deserialize, Serialize};

use crate::stats;
use crate::warning::Warning;

/// Samples from which a 99th percentile means something: one sample lies above it.
const SAMPLES_FOR_P99: usize = 100;
/// Samples from which a 99.9th percentile is stated at all.
const SAMPLES_FOR_P999: usize = 1000;
/// Share of outliers that is worth a warning.
const OUTLIER_SHARE: f64 = 0.05;
/// First run over median from which the first run is called slow.
const SLOW_FIRST: f64 = 3.0;
/// Rise of the median from the first to the last quarter that is called throttling.
const THROTTLE_RISE: f64 = 1.1;
/// Samples needed to compare quarters.
const SAMPLES_FOR_DRIFT: usize = 40;

/// Raw samples of one model in steady state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Runs made before the first sample and not kept.
    pub warmup: u32,
    /// Duration of each run in the order taken, in nanoseconds.
    pub samples_ns: Vec<u64>,
}

/// Statistics of a [`Latency`], all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Number of samples.
    pub samples: usize,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile; with fewer than 100 samples it is close to the maximum.
    pub p99_ms: f64,
    /// 99.9th percentile, from 1000 samples on.
    pub p999_ms: Option<f64>,
    /// Median absolute deviation.
    pub mad_ms: f64,
    /// Fastest sample.
    pub min_ms: f64,
    /// Slowest sample.
    pub max_ms: f64,
    /// Number of outliers, see [`stats::outliers`].
    pub outliers: usize,
}

impl Latency {
    /// The statistics; `None` without samples.
    pub fn summary(&self) -> Option<LatencySummary> {
        let samples = &self.samples_ns;
        let at = |percent| stats::percentile(samples, percent).map(|ns| ns / 1e6);
        Some(LatencySummary {
            samples: samples.len(),
            p50_ms: at(50.0)?,
            p90_ms: at(90.0)?,
            p99_ms: at(99.0)?,
            p999_ms: if samples.len() >= SAMPLES_FOR_P999 { at(99.9) } else { None },
            mad_ms: stats::mad(samples)? / 1e6,
            min_ms: at(0.0)?,
            max_ms: at(100.0)?,
            outliers: stats::outliers(samples).len(),
        })
    }

    /// Reasons to doubt these samples.
    ///
    /// * `model`: name used in the warnings;
    /// * `first_ns`: duration of the very first run, if it was taken apart.
    pub fn warnings(&self, model: &str, first_ns: Option<u64>) -> Vec<Warning> {
        let Some(summary) = self.summary() else {
            return vec![Warning::TooFewRuns { model: model.into(), samples: 0, needed: SAMPLES_FOR_P99 }];
        };
        let mut found = Vec::new();
        let model = model.to_owned();
        let first_ms = first_ns.map(|ns| ns as f64 / 1e6);
        if let Some(first_ms) = first_ms.filter(|&ms| ms > SLOW_FIRST * summary.p50_ms) {
            found.push(Warning::FirstRunSlow { model: model.clone(), first_ms, median_ms: summary.p50_ms });
        }
        if summary.samples < SAMPLES_FOR_P99 {
            let (samples, needed) = (summary.samples, SAMPLES_FOR_P99);
            found.push(Warning::TooFewRuns { model: model.clone(), samples, needed });
        }
        if summary.outliers as f64 > OUTLIER_SHARE * summary.samples as f64 {
            found.push(Warning::Outliers {
                model: model.clone(),
                outliers: summary.outliers,
                samples: summary.samples,
                worst_ms: summary.max_ms,
                median_ms: summary.p50_ms,
            });
        }
        let quarter = self.samples_ns.len() / 4;
        let early = stats::median(&self.samples_ns[..quarter]);
        let late = stats::median(&self.samples_ns[self.samples_ns.len() - quarter..]);
        if let (true, Some(early), Some(late)) = (summary.samples >= SAMPLES_FOR_DRIFT, early, late)
            && late > early * THROTTLE_RISE
        {
            found.push(Warning::Throttling { model, early_ms: early / 1e6, late_ms: late / 1e6 });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples_ns: Vec<u64>) -> Latency {
        Latency { warmup: 0, samples_ns }
    }

    #[test]
    fn summary_is_in_milliseconds() {
        let summary = of(vec![1_000_000, 3_000_000, 2_000_000]).summary().unwrap();
        assert_eq!((summary.p50_ms, summary.min_ms, summary.max_ms, summary.mad_ms), (2.0, 1.0, 3.0, 1.0));
        assert_eq!(summary.p999_ms, None);
        assert_eq!(Latency::default().summary(), None);
    }

    #[test]
    fn steady_samples_raise_no_warning() {
        let latency = of((0..200).map(|i| 1_000_000 + i % 7 * 1000).collect());
        assert_eq!(latency.warnings("m", Some(1_100_000)), []);
    }

    #[test]
    fn each_symptom_raises_its_own_warning() {
        let kinds = |latency: Latency, first| {
            let found = latency.warnings("m", first);
            let kind = |w: &Warning| serde_json::to_value(w).unwrap()["kind"].as_str().unwrap().to_owned();
            found.iter().map(kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(of(vec![1_000_000; 120]), Some(9_000_000)), ["first_run_slow"]);
        assert_eq!(kinds(of(vec![1_000_000; 20]), None), ["too_few_runs"]);
        let rising = (0..120).map(|i| 1_000_000 + i * 4000).collect();
        assert_eq!(kinds(of(rising), None), ["throttling"]);
        let spiky = (0..120).map(|i| if i % 10 == 0 { 9_000_000 } else { 1_000_000 + i }).collect();
        assert_eq!(kinds(of(spiky), None), ["outliers"]);
        assert_eq!(kinds(of(vec![]), None), ["too_few_runs"]);
    }
}
