//! Before against after, and the gate that turns the comparison into pass or fail.

use serde::{Deserialize, Serialize};

use crate::record::{LatencyPair, Memory, Quality, RunRecord, Variant};
use crate::stats::Proportion;

/// The baseline beside one variant. Ratios are baseline / variant, so above 1 is a saving; points are variant - baseline.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// The dense model.
    pub baseline: &'a Variant,
    /// The pruned model.
    pub variant: &'a Variant,
    /// Latency of both, once per engine.
    pub latency: Vec<LatencyPair<'a>>,
}

/// Recall of one class before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallChange {
    /// Class index.
    pub class: usize,
    /// Recall of the baseline.
    pub before: Proportion,
    /// Recall of the variant.
    pub after: Proportion,
}

impl<'a> Comparison<'a> {
    /// Puts `variant` beside the baseline of `record`.
    pub fn of(record: &'a RunRecord, variant: &'a Variant) -> Self {
        Self { baseline: &record.baseline, variant, latency: record.latency_pairs(&variant.name) }
    }

    /// Both qualities on the same split: test if both have it, else validation.
    pub fn qualities(&self) -> Option<(&'a Quality, &'a Quality)> {
        let both = |get: fn(&'a Variant) -> Option<&'a Quality>| get(self.baseline).zip(get(self.variant));
        both(|v| v.quality_test.as_ref()).or_else(|| both(|v| v.quality_val.as_ref()))
    }

    /// The split of [`Comparison::qualities`]: `test` or `validation`.
    pub fn split(&self) -> &'static str {
        let tested = self.baseline.quality_test.is_some() && self.variant.quality_test.is_some();
        if tested { "test" } else { "validation" }
    }

    /// Change of the accuracy, in percentage points.
    pub fn accuracy_points(&self) -> Option<f64> {
        let (before, after) = self.qualities()?;
        Some((after.accuracy().value()? - before.accuracy().value()?) * 100.0)
    }

    /// Change of the balanced accuracy, in percentage points.
    pub fn balanced_accuracy_points(&self) -> Option<f64> {
        let (before, after) = self.qualities()?;
        Some((after.balanced_accuracy()? - before.balanced_accuracy()?) * 100.0)
    }

    /// Recall per class; empty when the classes differ or nothing was evaluated.
    pub fn recalls(&self) -> Vec<RecallChange> {
        let Some((before, after)) = self.qualities().filter(|(b, a)| b.classes == a.classes) else { return Vec::new() };
        let change = |class| RecallChange { class, before: before.recall(class), after: after.recall(class) };
        (0..before.classes.len()).map(change).collect()
    }

    /// Ratio of the file sizes.
    pub fn file_ratio(&self) -> Option<f64> {
        self.memory_ratio(|memory| Some(memory.file_bytes))
    }

    /// Ratio of one column of the memory table.
    pub fn memory_ratio(&self, column: impl Fn(&Memory) -> Option<u64>) -> Option<f64> {
        let bytes = |variant: &Variant| variant.memory.as_ref().and_then(&column).filter(|&bytes| bytes > 0);
        Some(bytes(self.baseline)? as f64 / bytes(self.variant)? as f64)
    }

    /// Ratio of the executed multiply-adds.
    pub fn macs_ratio(&self) -> Option<f64> {
        let (before, after) = (self.baseline.work.macs, self.variant.work.macs);
        (before > 0 && after > 0).then(|| before as f64 / after as f64)
    }
}

/// Limits a pruned model must keep; the `[gate]` table of a recipe. What is absent is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Largest loss of accuracy, in percentage points.
    pub max_accuracy_drop_points: Option<f64>,
    /// Smallest baseline file / pruned file.
    pub min_size_ratio: Option<f64>,
    /// Largest pruned latency / baseline latency, in every engine measured; 1 means "not slower".
    pub max_latency_ratio: Option<f64>,
    /// Smallest recall of every defect class, in `[0, 1]`.
    pub min_recall: Option<f64>,
}

/// What a gate decided and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// Whether every check passed.
    pub pass: bool,
    /// One entry per limit that was set.
    pub checks: Vec<GateCheck>,
}

/// One limit of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateCheck {
    /// Key in the recipe, for example `min_recall`.
    pub rule: String,
    /// Limit in the recipe.
    pub limit: f64,
    /// Value that was measured; `None` when it was not, which fails.
    pub seen: Option<f64>,
    /// Whether the limit was kept.
    pub pass: bool,
    /// The same in words.
    pub reason: String,
}

impl GateResult {
    /// The reasons of the checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|check| !check.pass).map(|check| check.reason.as_str())
    }
}

impl Gate {
    /// Checks each limit that is set. A value that was not measured fails: a gate must not pass by absence.
    ///
    /// A latency fails only when the whole 95 % interval of its ratio is above the limit, so that noise does not fail it.
    pub fn check(&self, comparison: &Comparison<'_>) -> GateResult {
        let mut checks = Vec::new();
        let mut add = |rule: &str, limit: Option<f64>, seen: Option<f64>, pass: bool, reason: String| {
            if let Some(limit) = limit {
                let missing = format!("{rule}: not measured, and the limit is {limit}");
                let reason = if seen.is_some() { reason } else { missing };
                checks.push(GateCheck { rule: rule.into(), limit, seen, pass: pass && seen.is_some(), reason });
            }
        };
        let within = |seen: Option<f64>, keeps: &dyn Fn(f64) -> bool| seen.is_some_and(keeps);

        let limit = self.max_accuracy_drop_points;
        // A drop of exactly the limit passes in spite of rounding in the subtraction.
        let drop = comparison.accuracy_points().map(|points| 0.0 - points);
        let pass = within(drop, &|drop| drop <= limit.unwrap_or(f64::INFINITY) + 1e-9);
        let text = format!(
            "accuracy changes by {:+.2} points, a drop of {} is allowed",
            0.0 - drop.unwrap_or(0.0),
            limit.unwrap_or(0.0)
        );
        add("max_accuracy_drop_points", limit, drop, pass, text);

        let (limit, ratio) = (self.min_size_ratio, comparison.file_ratio());
        let pass = within(ratio, &|ratio| ratio >= limit.unwrap_or(0.0));
        let text = format!(
            "the file is {:.2} times smaller, at least {} is required",
            ratio.unwrap_or(0.0),
            limit.unwrap_or(0.0)
        );
        add("min_size_ratio", limit, ratio, pass, text);

        let limit = self.max_latency_ratio;
        let slowest = comparison.latency.iter().filter_map(|pair| Some((pair, pair.ratio?)));
        let slowest = slowest.min_by(|a, b| a.1.high.total_cmp(&b.1.high));
        let seen = slowest.as_ref().map(|(_, ratio)| 1.0 / ratio.ratio);
        // The lower bound of pruned / baseline is one over the upper bound of baseline / pruned.
        let best = slowest.as_ref().map(|(_, ratio)| 1.0 / ratio.high);
        let pass = within(best, &|best| best <= limit.unwrap_or(f64::INFINITY));
        let text = format!(
            "in {} the pruned model takes {:.2} times as long (at least {:.2}), {} is allowed",
            slowest.map_or("", |(pair, _)| pair.variant.engine.name.as_str()),
            seen.unwrap_or(0.0),
            best.unwrap_or(0.0),
            limit.unwrap_or(0.0)
        );
        add("max_latency_ratio", limit, seen, pass, text);

        let limit = self.min_recall;
        let worst = comparison.qualities().and_then(|(_, after)| Some((after, after.worst_defect()?)));
        let seen = worst.and_then(|(_, (_, recall))| recall.value());
        let pass = within(seen, &|recall| recall >= limit.unwrap_or(0.0));
        let text = format!(
            "class `{}` is found {:.1} % of the time, at least {:.1} % is required",
            worst.map_or("", |(after, (class, _))| after.classes[class].as_str()),
            seen.unwrap_or(0.0) * 100.0,
            limit.unwrap_or(0.0) * 100.0
        );
        add("min_recall", limit, seen, pass, text);

        GateResult { pass: checks.iter().all(|check| check.pass), checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Bench, BenchRow, Engine, Latency};

    fn variant(name: &str, right: u64, wrong: u64, file_bytes: u64) -> Variant {
        let quality = Quality {
            classes: vec!["ok".into(), "pit".into()],
            ok_class: Some(0),
            confusion: vec![vec![100, 0], vec![wrong, right]],
            false_alarms: Vec::new(),
        };
        let memory = Memory { file_bytes, ..Memory::default() };
        Variant { name: name.into(), quality_test: Some(quality), memory: Some(memory), ..Variant::default() }
    }

    fn record() -> RunRecord {
        let row = |model: &str, ns: u64| BenchRow {
            model: model.into(),
            engine: Engine { name: "tract".into(), ..Engine::default() },
            latency: Latency { warmup: 0, samples_ns: (0..50).map(|i| ns + i % 5).collect() },
            ..BenchRow::default()
        };
        RunRecord {
            baseline: variant("dense", 98, 2, 8000),
            pruned: vec![variant("pruned", 96, 4, 1000)],
            benches: vec![Bench {
                interleaved: true,
                rows: vec![row("dense", 1000), row("pruned", 2000)],
                ..Bench::default()
            }],
            ..RunRecord::default()
        }
    }

    #[test]
    fn ratios_are_savings_and_points_are_changes() {
        let record = record();
        let comparison = Comparison::of(&record, record.chosen().unwrap());
        assert_eq!(comparison.file_ratio(), Some(8.0));
        assert!((comparison.accuracy_points().unwrap() + 1.0).abs() < 1e-9);
        assert_eq!(comparison.recalls()[1].after, Proportion { hits: 96, total: 100 });
        assert_eq!(comparison.macs_ratio(), None);
    }

    #[test]
    fn a_gate_fails_with_the_reason_of_each_broken_limit() {
        let record = record();
        let gate = Gate {
            max_accuracy_drop_points: Some(1.0),
            min_size_ratio: Some(10.0),
            max_latency_ratio: Some(1.0),
            min_recall: Some(0.97),
        };
        let result = gate.check(&Comparison::of(&record, record.chosen().unwrap()));
        assert!(!result.pass);
        assert!(result.checks[0].pass, "a drop of exactly the limit is allowed");
        let failures: Vec<&str> = result.failures().collect();
        assert_eq!(
            failures,
            [
                "the file is 8.00 times smaller, at least 10 is required",
                "in tract the pruned model takes 2.00 times as long (at least 2.00), 1 is allowed",
                "class `pit` is found 96.0 % of the time, at least 97.0 % is required",
            ]
        );
    }

    #[test]
    fn an_empty_gate_passes_and_an_unmeasured_limit_fails() {
        let mut record = record();
        record.benches.clear();
        let comparison = Comparison::of(&record, record.chosen().unwrap());
        assert!(Gate::default().check(&comparison).pass);
        let gate = Gate { max_latency_ratio: Some(1.0), ..Gate::default() };
        let result = gate.check(&comparison);
        assert_eq!(result.failures().collect::<Vec<_>>(), ["max_latency_ratio: not measured, and the limit is 1"]);
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        assert!(serde_json::from_str::<Gate>(r#"{"min_recal": 0.9}"#).is_err());
    }
}
