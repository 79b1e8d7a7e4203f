//! Pieces of a run turned into the report's records.

use std::collections::BTreeMap;

use anyhow::Result;
use sentei_convert::{CompileOptions, Compiled};
use sentei_data::{Dataset, Split};
use sentei_report::events::{Event, Line};
use sentei_report::record::{self, EpochRow, Equivalence, LayerError, RunRecord, SizePart};
use sentei_report::tables;
use sentei_report::verdict::Verdict;
use sentei_report::warning::Warning;

use crate::data_args;
use crate::data_recipe::DataRecipe;

/// Warnings on the terminal; the report has all of them.
const WARNINGS_PRINTED: usize = 4;

/// The data set as the report shows it.
///
/// # Errors
/// When the recipe's `ok_class` is none of the classes.
pub fn dataset(recipe: &DataRecipe, data: &Dataset, manifest: &str) -> Result<record::Dataset> {
    let split = |split: Split| record::Split {
        name: split.name().into(),
        counts: data.class_counts(split).into_iter().map(|n| n as u64).collect(),
    };
    Ok(record::Dataset {
        name: data.name.clone(),
        classes: data.classes.clone(),
        ok_class: data_args::ok_class(recipe, &data.classes)?,
        input: vec![data.channels, data.height, data.width],
        splits: [Split::Train, Split::Val, Split::Test].map(split).to_vec(),
        manifest_sha256: Some(manifest.into()),
    })
}

/// Every epoch in `events.jsonl`, in order; an epoch that was run again after a kill counts once.
pub fn epochs(events: &str) -> Vec<EpochRow> {
    let mut rows: Vec<EpochRow> = Vec::new();
    // A line cut short by a kill is the only kind that does not parse; its epoch was run again.
    for line in events.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        if let Event::Epoch(row) = line.event {
            match rows.iter_mut().find(|r| r.phase == row.phase && r.epoch == row.epoch) {
                Some(earlier) => *earlier = row,
                None => rows.push(row),
            }
        }
    }
    rows
}

/// Bytes of a compiled file by what they are for.
pub fn size_parts(compiled: &Compiled) -> Vec<SizePart> {
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in &compiled.tensors {
        *parts.entry(format!("weights, {} {}", tensor.encoding, tensor.values)).or_default() += tensor.bytes;
    }
    let weights: u64 = parts.values().sum();
    parts.insert("graph and names".into(), (compiled.bytes.len() as u64).saturating_sub(weights));
    parts.into_iter().map(|(part, bytes)| SizePart { part, bytes }).collect()
}

/// The proof that a compiled file computes what its network did, layer by layer. Folding and fusing round differently;
/// packing changes nothing (`compile` refuses a packed file that differs from its dense twin in a single bit).
pub fn equivalence(compiled: &Compiled) -> Equivalence {
    let found = &compiled.deployment;
    let layer = |l: &sentei_convert::LayerError| LayerError {
        name: l.name.clone(),
        max_abs_error: l.max_abs,
        max_ulp: Some(l.max_ulp),
    };
    Equivalence {
        inputs: CompileOptions::default().samples as u64,
        max_abs_error: found.max_abs,
        max_ulp: Some(found.max_ulp),
        tolerance: found.layers.iter().map(|l| l.tolerance).fold(0.0, f64::max),
        layers: found.layers.iter().map(layer).collect(),
    }
}

/// An engine that the recipe asks for and this machine does not have.
pub fn absent(engine: &str, error: &anyhow::Error) -> Warning {
    Warning::Note {
        seen: format!("engine {engine} was not measured: {error:#}"),
        why: "the comparison lacks a column".into(),
        help: Some("`sentei doctor` says what is found; `engines` under [bench] says what is wanted".into()),
    }
}

/// What is printed when a run ends: the verdict, before and after, what to doubt.
pub fn summary(record: &RunRecord) -> String {
    let verdict = Verdict::of(record);
    let mut text = format!("\n{}\n", verdict.headline);
    for sentence in &verdict.sentences {
        text += &format!("  {sentence}\n");
    }
    for table in [tables::verdict(record), tables::recall(record), tables::variants(record), tables::gate(record)] {
        if !table.is_empty() {
            text += &format!("\n{}", table.markdown());
        }
    }
    let warnings = record.all_warnings();
    for warning in warnings.iter().take(WARNINGS_PRINTED) {
        text += &format!("\nwarning: {warning}");
    }
    if warnings.len() > WARNINGS_PRINTED {
        text += &format!("\nand {} more reasons for doubt in report.md", warnings.len() - WARNINGS_PRINTED);
    }
    text
}

/// `pruned.onnx` for the first sparsity, `pruned-95.onnx` for others; `suffix` comes last.
pub fn numbered(stem: &str, index: usize, sparsity: f64, suffix: &str) -> String {
    let level = if index == 0 { String::new() } else { format!("-{}", (sparsity * 1e4).round() / 1e2) };
    let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    format!("{stem}{level}{suffix}.onnx")
}

/// A sparsity for people, without digits that say nothing.
pub fn percent(sparsity: f64) -> String {
    format!("{} %", (sparsity * 1e4).round() / 1e2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_sparsity_and_values_apart() {
        assert_eq!(numbered("model", 0, 0.9, ""), "model.onnx");
        assert_eq!(numbered("model", 0, 0.9, "i8"), "model-i8.onnx");
        assert_eq!(numbered("model", 1, 0.95, "i8"), "model-95-i8.onnx");
        assert_eq!(numbered("pruned", 1, 0.975, ""), "pruned-97.5.onnx");
        assert_eq!(percent(0.9), "90 %");
    }

    #[test]
    fn an_epoch_that_was_run_again_counts_once() {
        let row = |epoch: u64, train_loss: f64| EpochRow {
            phase: "train".into(),
            epoch,
            train_loss,
            train_accuracy: 0.5,
            val_loss: None,
            val_accuracy: None,
            density: 1.0,
            learning_rate: 0.1,
            seconds: 1.0,
        };
        let line =
            |row: EpochRow| serde_json::to_string(&Line { elapsed_ms: 0, event: Event::Epoch(row) }).expect("json");
        let text =
            [line(row(1, 3.0)), line(row(2, 2.0)), "{\"elapsed_ms\":3,\"ev".into(), line(row(2, 1.0))].join("\n");
        let found = epochs(&text);
        assert_eq!(found.iter().map(|r| r.train_loss).collect::<Vec<_>>(), [3.0, 1.0]);
    }
}
