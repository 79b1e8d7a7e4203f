//! What a reader should doubt, as data: what was seen, why it matters, which flag helps.
//!
//! [`Warning`] is stored in records and sent through events; its `Display` is the one sentence people read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason to trust a number less. `Display` gives the observation, the consequence and the flag in that order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The first run took several times the median.
    FirstRunSlow {
        /// Model that was measured.
        model: String,
        /// Duration of the first run, in milliseconds.
        first_ms: f64,
        /// Median of the steady samples, in milliseconds.
        median_ms: f64,
    },
    /// Several samples lie far from the median.
    Outliers {
        /// Model that was measured.
        model: String,
        /// Number of outlying samples.
        outliers: usize,
        /// Number of samples.
        samples: usize,
        /// Slowest sample, in milliseconds.
        worst_ms: f64,
        /// Median, in milliseconds.
        median_ms: f64,
    },
    /// The last quarter of the samples is slower than the first quarter.
    Throttling {
        /// Model that was measured.
        model: String,
        /// Median of the first quarter, in milliseconds.
        early_ms: f64,
        /// Median of the last quarter, in milliseconds.
        late_ms: f64,
    },
    /// The machine is emulated.
    Emulated {
        /// What emulates it.
        by: String,
    },
    /// The machine slowed itself down during the measurement.
    Throttled {
        /// How that was seen.
        reason: String,
    },
    /// The frequency governor of this machine cannot be read.
    ClockUnknown,
    /// The frequency governor lets the clock change with load.
    ClockScaling {
        /// Governor as the kernel names it, for example `powersave`.
        governor: String,
    },
    /// There are too few samples for the stated percentiles.
    TooFewRuns {
        /// Model that was measured.
        model: String,
        /// Number of samples.
        samples: usize,
        /// Number from which the percentiles mean something.
        needed: usize,
    },
    /// A split is so small that its accuracy is uncertain.
    SmallSplit {
        /// Split, for example `val`.
        split: String,
        /// Number of samples in it.
        samples: u64,
        /// Half width of the widest 95 % interval of an accuracy on it, in percentage points.
        points: f64,
    },
    /// A class has few samples in a split.
    FewSamples {
        /// Class name.
        class: String,
        /// Split, for example `test`.
        split: String,
        /// Number of samples of the class in the split.
        samples: u64,
    },
    /// The classes have very different numbers of samples.
    Imbalance {
        /// Most frequent class.
        largest: String,
        /// Its samples.
        largest_samples: u64,
        /// Rarest class.
        smallest: String,
        /// Its samples.
        smallest_samples: u64,
    },
    /// There are fewer good samples than a false-alarm rate needs.
    FalseAlarmUnresolved {
        /// False-alarm rate that was asked for, in `[0, 1]`.
        rate: f64,
        /// Good samples that set the threshold.
        ok_samples: u64,
    },
    /// A loss became infinite or NaN.
    LossNotFinite {
        /// Phase of the run.
        phase: String,
        /// Epoch within the phase.
        epoch: u64,
    },
    /// Anything else, in the same three parts.
    Note {
        /// What was seen.
        seen: String,
        /// Why it matters.
        why: String,
        /// Flag or action that helps, if one exists.
        help: Option<String>,
    },
}

impl Warning {
    /// What was seen.
    pub fn seen(&self) -> String {
        match self {
            Self::FirstRunSlow { model, first_ms, median_ms } => format!(
                "{model}: the first run took {first_ms:.2} ms, {:.1} times the median of {median_ms:.2} ms",
                first_ms / median_ms
            ),
            Self::Outliers { model, outliers, samples, worst_ms, median_ms } => format!(
                "{model}: {outliers} of {samples} samples are outliers (slowest {worst_ms:.2} ms, median {median_ms:.2} ms)"
            ),
            Self::Throttling { model, early_ms, late_ms } => {
                format!("{model}: latency rose from {early_ms:.2} ms to {late_ms:.2} ms during the measurement")
            }
            Self::Emulated { by } => format!("this machine is emulated: {by}"),
            Self::Throttled { reason } => format!("the machine was slowed down: {reason}"),
            Self::ClockUnknown => "the frequency governor of this machine cannot be read".into(),
            Self::ClockScaling { governor } => format!("the frequency governor is `{governor}`"),
            Self::TooFewRuns { model, samples, needed } => {
                format!("{model}: {samples} samples, percentiles need {needed}")
            }
            Self::SmallSplit { split, samples, points } => {
                format!(
                    "split `{split}` has {samples} samples: an accuracy on it is known to ±{points:.1} points at worst"
                )
            }
            Self::FewSamples { class, split, samples } => {
                format!("class `{class}` has {samples} samples in split `{split}`")
            }
            Self::Imbalance { largest, largest_samples, smallest, smallest_samples } => {
                format!("class `{largest}` has {largest_samples} samples, class `{smallest}` only {smallest_samples}")
            }
            Self::FalseAlarmUnresolved { rate, ok_samples } => {
                format!("a false-alarm rate of {:.1} % was asked of {ok_samples} good samples", rate * 100.0)
            }
            Self::LossNotFinite { phase, epoch } => {
                format!("the loss is not a finite number in epoch {epoch} of phase `{phase}`")
            }
            Self::Note { seen, .. } => seen.clone(),
        }
    }

    /// Why it matters.
    pub fn why(&self) -> String {
        match self {
            Self::FirstRunSlow { .. } => {
                "one-off work would distort a mean, and the first part on the line waits longer".into()
            }
            Self::Outliers { .. } => "something else used the machine, so high percentiles are not the model's".into(),
            Self::Throttling { .. } => "the clock probably dropped with heat, so later models look slower".into(),
            Self::Emulated { .. } => "its timings say nothing about a board, so none is compared".into(),
            Self::Throttled { .. } => "the timings are those of a machine that holds itself back".into(),
            Self::ClockUnknown => "a clock that changes during the run shifts every latency".into(),
            Self::ClockScaling { .. } => {
                "the clock follows the load, so short runs look slower than steady work".into()
            }
            Self::TooFewRuns { .. } => "one slow run moves the high percentiles".into(),
            Self::SmallSplit { .. } => "smaller differences than that cannot be seen on it".into(),
            Self::FewSamples { .. } => "its recall has a wide interval, see the table".into(),
            Self::Imbalance { .. } => "plain accuracy hides the rare class: read balanced accuracy and recall".into(),
            Self::FalseAlarmUnresolved { .. } => {
                "no false alarm at all can be allowed, so the recall is a lower bound".into()
            }
            Self::LossNotFinite { .. } => "the weights of that phase are not usable".into(),
            Self::Note { why, .. } => why.clone(),
        }
    }

    /// Flag or action that helps, if one exists.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::FirstRunSlow { .. } => "--warmup keeps it out of the steady samples",
            Self::Outliers { .. } => "stop other programs, or raise --rounds",
            Self::Throttling { .. } => "cool the board, or lower --threads",
            Self::Emulated { .. } => "measure on the board itself",
            Self::Throttled { .. } => "cool the board, check its power supply, or lower --threads",
            Self::ClockUnknown => "compare ratios of one run, not milliseconds of two",
            Self::ClockScaling { .. } => "set the `performance` governor, or raise --warmup",
            Self::TooFewRuns { .. } => "raise --rounds",
            Self::SmallSplit { .. } => "give the split more images, or train with several --seed values",
            Self::FewSamples { .. } => "collect more images of it",
            Self::Imbalance { .. } => return None,
            Self::FalseAlarmUnresolved { .. } => "collect more good images",
            Self::LossNotFinite { .. } => "lower --learning-rate",
            Self::Note { help, .. } => return help.clone(),
        };
        Some(text.into())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.seen(), self.why())?;
        match self.help() {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_seen_why_and_flag() {
        let warning = Warning::TooFewRuns { model: "a.onnx".into(), samples: 5, needed: 30 };
        assert_eq!(
            warning.to_string(),
            "a.onnx: 5 samples, percentiles need 30; one slow run moves the high percentiles (raise --rounds)"
        );
    }

    #[test]
    fn a_warning_without_a_flag_ends_after_the_reason() {
        let warning = Warning::Note { seen: "s".into(), why: "w".into(), help: None };
        assert_eq!(warning.to_string(), "s; w");
    }
}
