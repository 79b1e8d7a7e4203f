//! Tables of right and wrong answers.

use std::collections::BTreeMap;

use super::verdict::points_cell;
use crate::compare::Comparison;
use crate::format::{bytes, count, interval, large, milliseconds, or_unknown, percent, ratio, share};
use crate::record::{Quality, RunRecord, Variant};
use crate::table::{Cell, Table, Tone};

/// Recall and precision per class, before and after, with Wilson intervals of the chosen model.
pub fn recall(record: &RunRecord) -> Table {
    let titles = ["Class", "#Images", "#Found before", "#Found after", "#Change", "#95 % interval", "#Precision after"];
    let mut table = Table::new(&titles);
    let chosen = record.chosen().unwrap_or(&record.baseline);
    let comparison = Comparison::of(record, chosen);
    let Some((_, after)) = comparison.qualities() else { return table };
    for change in comparison.recalls() {
        let name = after.classes[change.class].as_str();
        let points = change.before.value().zip(change.after.value()).map(|(b, a)| points_cell((a - b) * 100.0));
        table.push([
            name.into(),
            count(change.after.total).into(),
            share(change.before).into(),
            share(change.after).into(),
            points.unwrap_or_default(),
            or_unknown(change.after.wilson(), interval).into(),
            share(after.precision(change.class)).into(),
        ]);
    }
    table
}

/// Recall of any defect at each false-alarm rate, per variant.
pub fn false_alarms(record: &RunRecord) -> Table {
    let titles = ["Model", "#Allowed", "#False alarms", "#Defects found", "#95 % interval", "Threshold set on"];
    let mut table = Table::new(&titles);
    for variant in record.variants() {
        for point in variant.quality().iter().flat_map(|quality| &quality.false_alarms) {
            let split = if point.from_validation { "validation images" } else { "the same images (optimistic)" };
            let of = |p: crate::stats::Proportion| format!("{} ({} of {})", share(p), p.hits, p.total);
            table.push([
                variant.name.as_str().into(),
                percent(point.rate).into(),
                of(point.false_alarms).into(),
                of(point.recall).into(),
                or_unknown(point.recall.wilson(), interval).into(),
                format!("{} good {split}", point.chosen_on).into(),
            ]);
        }
    }
    table
}

/// One row per variant: what it saves and what it costs.
pub fn variants(record: &RunRecord) -> Table {
    let titles = [
        "Model",
        "#Sparsity",
        "#Accuracy",
        "#95 % interval",
        "#Balanced",
        "#File",
        "#gzip",
        "#Weights",
        "#MACs",
        "#p50",
        "#Faster than dense (95 %)",
    ];
    let mut table = Table::new(&titles);
    for variant in record.variants() {
        let accuracy = variant.quality().map(Quality::accuracy);
        let memory = variant.memory.as_ref();
        let pair = record.latency_pairs(&variant.name).into_iter().next();
        let p50 = pair.as_ref().and_then(|pair| pair.variant.latency.summary()).map(|summary| summary.p50_ms);
        let faster = pair.and_then(|pair| pair.ratio);
        table.push([
            variant.name.as_str().into(),
            percent(variant.sparsity).into(),
            or_unknown(accuracy, share).into(),
            or_unknown(accuracy.and_then(|a| a.wilson()), interval).into(),
            or_unknown(variant.quality().and_then(Quality::balanced_accuracy), percent).into(),
            or_unknown(memory.map(|m| m.file_bytes), bytes).into(),
            or_unknown(memory.and_then(|m| m.gzip_bytes), bytes).into(),
            or_unknown(memory.and_then(|m| m.weight_bytes), bytes).into(),
            large(variant.work.macs).into(),
            or_unknown(p50, milliseconds).into(),
            or_unknown(faster.as_ref(), ratio).into(),
        ]);
    }
    table
}

/// Counts per true class (row) and predicted class (column). The heat is the root of the share of the row, so that a
/// few mistakes are seen beside many right answers.
pub fn confusion(quality: &Quality) -> Table {
    let heads: Vec<String> = quality.classes.iter().map(|class| format!("#{class}")).collect();
    let titles: Vec<&str> = std::iter::once("True class").chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::new(&titles);
    for (label, (class, counts)) in quality.classes.iter().zip(&quality.confusion).enumerate() {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let cell = |(predicted, &hits): (usize, &u64)| {
            let tone = match hits {
                0 => Tone::Plain,
                _ if predicted == label => Tone::Good,
                _ => Tone::Bad,
            };
            let text = if hits == 0 { "·".into() } else { count(hits) };
            Cell::from(text).heat((hits as f64 / total).sqrt()).tone(tone)
        };
        table.push(std::iter::once(Cell::from(class.as_str())).chain(counts.iter().enumerate().map(cell)));
    }
    table
}

/// Accuracy per layer and sparsity; the heat is the loss against the best of the table.
pub fn sensitivity(record: &RunRecord) -> Table {
    // Keyed by thousandths: sparsities are chosen by people, and floats are no keys.
    let key = |sparsity: f64| (sparsity * 1000.0).round() as i64;
    let mut columns: BTreeMap<i64, String> = BTreeMap::new();
    let points = record.sensitivity.iter().flat_map(|scan| &scan.points);
    let best = points.clone().map(|point| point.accuracy).fold(0.0, f64::max);
    for point in points {
        columns.insert(key(point.sparsity), format!("#{} zero", percent(point.sparsity)));
    }
    let titles: Vec<&str> = std::iter::once("Layer").chain(columns.values().map(String::as_str)).collect();
    let mut table = Table::new(&titles);
    for scan in &record.sensitivity {
        let cell = |&column: &i64| {
            let point = scan.points.iter().find(|point| key(point.sparsity) == column);
            point.map_or_else(Cell::default, |point| {
                // A loss of 20 points is as red as it gets: beyond that the layer is lost anyway.
                let loss = (best - point.accuracy) / 0.2;
                Cell::from(percent(point.accuracy)).heat(loss).tone(Tone::Bad)
            })
        };
        table.push(std::iter::once(Cell::from(scan.layer.as_str())).chain(columns.keys().map(cell)));
    }
    table
}

/// Samples of one variant whose verdict changed, at most `limit` of them.
pub fn flips(variant: &Variant, classes: &[String], limit: usize) -> Table {
    let mut table = Table::new(&["Image", "Is", "Before", "After", "Effect"]);
    let name = |class: usize| classes.get(class).map_or("?", String::as_str);
    for flip in variant.flips.iter().take(limit) {
        let verdict = |class, score: f32| Cell::from(format!("{} ({:.2})", name(class), score));
        let (effect, tone) = if flip.before == flip.label {
            ("newly wrong", Tone::Bad)
        } else if flip.after == flip.label {
            ("newly right", Tone::Good)
        } else {
            ("wrong both times", Tone::Plain)
        };
        table.push([
            flip.sample.as_str().into(),
            name(flip.label).into(),
            verdict(flip.before, flip.before_score),
            verdict(flip.after, flip.after_score),
            Cell::from(effect).tone(tone),
        ]);
    }
    table
}
