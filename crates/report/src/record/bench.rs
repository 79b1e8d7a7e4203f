//! Several models measured in one process, and the object that `bench --json` prints.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Condition, Engine, Latency, Machine, Memory};
use crate::stats::{Pairing, Ratio, ratio_of_medians};
use crate::warning::Warning;

/// Seed of every bootstrap, so that the same samples always print the same interval.
pub const BOOTSTRAP_SEED: u64 = 20;

/// Models measured in one process. When `interleaved`, sample `i` of every row was taken in round `i`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Machine that measured.
    pub machine: Machine,
    /// Threads each engine was given.
    pub threads: usize,
    /// Whether rounds went over all rows, so that samples of equal index belong together.
    pub interleaved: bool,
    /// One row per model and engine; ratios refer to the first.
    pub rows: Vec<BenchRow>,
    /// The board that was reached for it; `None` if the machine measured itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<Board>,
}

/// How a board was reached, and its condition around the measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Address, for example `ssh://user@host`.
    pub address: String,
    /// Version of the program that measured there.
    pub runner: String,
    /// Before the first run.
    pub before: Condition,
    /// After the last run.
    pub after: Condition,
}

/// A model's seeded input computed on the machine that measures, beside what the model file says comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Largest difference of an output.
    pub difference: f64,
    /// Largest difference allowed.
    pub tolerance: f64,
}

/// One model in one engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// Model; in a run record this is the name of the variant.
    pub model: String,
    /// Engine and provider that really ran.
    pub engine: Engine,
    /// Time to load and prepare the model, in nanoseconds.
    pub load_ns: Option<u64>,
    /// Duration of the first run after loading, in nanoseconds.
    pub first_ns: Option<u64>,
    /// Steady state.
    pub latency: Latency,
    /// Where the bytes are, if it was measured.
    pub memory: Option<Memory>,
    /// Energy of one run, in microjoules, where a meter is readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_uj: Option<f64>,
    /// What the self-test before the measurement found, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
}

impl Bench {
    /// `median(first) / median(this)` of two rows of this bench, paired by round when the rounds were interleaved; never of an
    /// emulated machine, whose timings say nothing about a real one.
    pub fn ratio(&self, first: &BenchRow, this: &BenchRow) -> Option<Ratio> {
        if self.machine.emulated.is_some() {
            return None;
        }
        let equal = first.latency.samples_ns.len() == this.latency.samples_ns.len();
        let pairing = if self.interleaved && equal { Pairing::Rounds } else { Pairing::Separate };
        ratio_of_medians(&first.latency.samples_ns, &this.latency.samples_ns, pairing, BOOTSTRAP_SEED)
    }

    /// Reasons to doubt this bench, the machine's first.
    pub fn warnings(&self) -> Vec<Warning> {
        if let Some(by) = &self.machine.emulated {
            return vec![Warning::Emulated { by: by.clone() }];
        }
        let clock = match self.machine.governor.as_deref() {
            None => Some(Warning::ClockUnknown),
            Some("performance") => None,
            Some(governor) => Some(Warning::ClockScaling { governor: governor.into() }),
        };
        let rows = self.rows.iter().flat_map(|row| row.latency.warnings(&row.model, row.first_ns));
        let throttled = self.board.iter().flat_map(|board| board.before.throttling_until(&board.after));
        let throttled = throttled.map(|reason| Warning::Throttled { reason });
        clock.into_iter().chain(throttled).chain(rows).collect()
    }

    /// The object `bench --json` prints: `machine`, `threads`, `rows` and `warnings`.
    ///
    /// `samples` is the number of samples and `samples_ns` holds them; `ratio` is first row / this row.
    /// What was not measured is `null`.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        let warnings: Vec<String> = self.warnings().iter().map(ToString::to_string).collect();
        json!({
            "machine": self.machine,
            "threads": self.threads,
            "interleaved": self.interleaved,
            "board": self.board,
            "rows": rows,
            "warnings": warnings,
        })
    }

    fn row_json(&self, row: &BenchRow) -> Value {
        let summary = row.latency.summary();
        let ratio = self.rows.first().and_then(|first| self.ratio(first, row));
        let memory = row.memory.as_ref();
        let ms = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e6);
        json!({
            "model": row.model,
            "engine": row.engine.name,
            "engine_version": row.engine.version,
            "provider": row.engine.provider,
            "threads": row.engine.threads,
            "load_ms": ms(row.load_ns),
            "first_ms": ms(row.first_ns),
            "p50_ms": summary.map(|s| s.p50_ms),
            "p90_ms": summary.map(|s| s.p90_ms),
            "p99_ms": summary.map(|s| s.p99_ms),
            "p999_ms": summary.and_then(|s| s.p999_ms),
            "mad_ms": summary.map(|s| s.mad_ms),
            "outliers": summary.map(|s| s.outliers),
            "samples": row.latency.samples_ns.len(),
            "warmup": row.latency.warmup,
            "samples_ns": row.latency.samples_ns,
            "file_bytes": memory.map(|m| m.file_bytes),
            "gzip_bytes": memory.and_then(|m| m.gzip_bytes),
            "weight_bytes": memory.and_then(|m| m.weight_bytes),
            "arena_bytes": memory.and_then(|m| m.arena_bytes),
            "peak_heap_bytes": memory.and_then(|m| m.peak_heap_bytes),
            "steady_rss_bytes": memory.and_then(|m| m.steady_rss_bytes),
            "peak_rss_bytes": memory.and_then(|m| m.peak_rss_bytes),
            "baseline_rss_bytes": memory.and_then(|m| m.baseline_rss_bytes),
            "energy_uj": row.energy_uj,
            "self_test": row.self_test,
            "ratio": ratio.map(|r| r.ratio),
            "ratio_low": ratio.map(|r| r.low),
            "ratio_high": ratio.map(|r| r.high),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, samples_ns: Vec<u64>) -> BenchRow {
        BenchRow { model: model.into(), latency: Latency { warmup: 2, samples_ns }, ..BenchRow::default() }
    }

    fn bench() -> Bench {
        let slow = (0..100).map(|i| 4_000_000 + i % 5).collect();
        let fast = (0..100).map(|i| 1_000_000 + i % 3).collect();
        Bench { interleaved: true, rows: vec![row("dense", slow), row("packed", fast)], ..Bench::default() }
    }

    #[test]
    fn the_object_has_every_key_of_the_contract() {
        let value = bench().to_json();
        let contract = "model engine provider load_ms first_ms p50_ms p90_ms p99_ms samples file_bytes weight_bytes \
                        arena_bytes peak_heap_bytes steady_rss_bytes ratio ratio_low ratio_high";
        for row in value["rows"].as_array().unwrap() {
            for key in contract.split_whitespace() {
                assert!(row.get(key).is_some(), "{key}");
            }
        }
        assert!(value["machine"].is_object() && value["threads"].is_u64());
    }

    #[test]
    fn emulated_timings_never_reach_a_comparison() {
        let emulated = Machine { emulated: Some("qemu".into()), ..Machine::default() };
        let bench = Bench { machine: emulated, ..bench() };
        assert!(bench.to_json()["rows"][1]["ratio"].is_null());
        let warnings: Vec<String> = bench.warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("emulated"), "{warnings:?}");
    }

    #[test]
    fn a_board_that_was_throttled_is_named_in_the_warnings() {
        let after = Condition { throttled: vec!["cpufreq is at step 2".into()], ..Condition::default() };
        let bench = Bench { board: Some(Board { after, ..Board::default() }), ..bench() };
        assert!(bench.warnings().iter().any(|w| w.to_string().contains("cpufreq is at step 2")));
    }

    #[test]
    fn the_ratio_is_first_row_over_this_row() {
        let value = bench().to_json();
        assert_eq!(value["rows"][0]["ratio"], 1.0);
        assert!((value["rows"][1]["ratio"].as_f64().unwrap() - 4.0).abs() < 0.01);
        assert_eq!(value["rows"][1]["samples"], 100);
        assert!(value["rows"][1]["file_bytes"].is_null());
    }

    #[test]
    fn an_unreadable_governor_is_said() {
        assert_eq!(bench().warnings(), [Warning::ClockUnknown]);
    }
}
