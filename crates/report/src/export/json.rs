//! The record as JSON, and the object that `shrink --json` prints.

use serde_json::{Value, json};

use crate::error::ReportError;
use crate::record::{Quality, RunRecord, Variant};
use crate::verdict::Verdict;

/// The record with a `derived` object beside its fields: `verdict`, `baseline`, `pruned` and every warning as text.
/// [`RunRecord::from_json`] reads it back and ignores `derived`.
///
/// # Errors
/// [`ReportError::Record`] when parts of the record contradict each other.
pub fn report_json(record: &RunRecord) -> Result<String, ReportError> {
    record.check()?;
    let mut value = serde_json::to_value(record)?;
    let warnings: Vec<String> = record.all_warnings().iter().map(ToString::to_string).collect();
    value["derived"] = json!({
        "verdict": Verdict::of(record),
        "baseline": model_json(record, &record.baseline),
        "pruned": record.pruned.iter().map(|variant| model_json(record, variant)).collect::<Vec<_>>(),
        "warnings": warnings,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// The object `shrink --json` prints: `run_dir`, `seconds`, `sparsity`, `gate`, `baseline`, `pruned`.
/// `gate` is `null` without a gate, else an object with `pass` and `checks`; `pruned` is the chosen model.
pub fn shrink_json(record: &RunRecord, run_dir: &str, seconds: f64) -> Value {
    json!({
        "run_dir": run_dir,
        "seconds": seconds,
        "sparsity": record.chosen().map(|variant| variant.sparsity),
        "gate": record.gate,
        "baseline": model_json(record, &record.baseline),
        "pruned": record.chosen().map(|variant| model_json(record, variant)),
        "variants": record.pruned.iter().map(|variant| model_json(record, variant)).collect::<Vec<_>>(),
    })
}

/// The numbers of one variant; what was not measured is `null`. Latency is that of the first engine.
pub fn model_json(record: &RunRecord, variant: &Variant) -> Value {
    let memory = variant.memory.as_ref();
    let quality = variant.quality();
    let rows = record.benches.iter().flat_map(|bench| &bench.rows);
    let row = rows.filter(|row| row.model == variant.name).find_map(|row| row.latency.summary());
    let ratio = record.latency_pairs(&variant.name).into_iter().find_map(|pair| pair.ratio);
    json!({
        "name": variant.name,
        "sparsity": variant.sparsity,
        "accuracy": quality.and_then(|q| q.accuracy().value()),
        "balanced_accuracy": quality.and_then(Quality::balanced_accuracy),
        "params": variant.work.params,
        "nonzero": variant.work.nonzero,
        "file_bytes": memory.map(|m| m.file_bytes),
        "gzip_bytes": memory.and_then(|m| m.gzip_bytes),
        "weight_bytes": memory.and_then(|m| m.weight_bytes),
        "macs": variant.work.macs,
        "dense_macs": variant.work.dense_macs,
        "p50_ms": row.map(|summary| summary.p50_ms),
        "ratio": ratio.map(|ratio| ratio.ratio),
        "ratio_low": ratio.map(|ratio| ratio.low),
        "ratio_high": ratio.map(|ratio| ratio.high),
        "steady_rss_bytes": memory.and_then(|m| m.steady_rss_bytes),
        "peak_rss_bytes": memory.and_then(|m| m.peak_rss_bytes),
    })
}
