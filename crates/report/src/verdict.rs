//! The result in plain words, for someone who decides and does not read tables.

use serde::Serialize;

use crate::compare::Comparison;
use crate::format::{bytes, count, images, milliseconds, percent, points, threads, times};
use crate::record::{Memory, Quality, RunRecord};
use crate::stats::{Difference, Proportion};
use crate::table::Tone;

/// Loss of accuracy, in points, from which it is shown as bad when no gate decides.
const NOTABLE_POINTS: f64 = 1.0;

/// The result in plain words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// One line that can stand alone.
    pub headline: String,
    /// `Good` for a passed gate, `Bad` for a failed one.
    pub tone: Tone,
    /// Full sentences, the most important first.
    pub sentences: Vec<String>,
    /// The few numbers to remember.
    pub cards: Vec<Card>,
}

/// One number to remember.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// What it is about, for example `File size`.
    pub label: String,
    /// The change in a few words, for example `8.1× smaller`.
    pub value: String,
    /// The change with its subject, for example `file 8.1× smaller`, as used in the headline.
    pub summary: String,
    /// Before and after, for example `1.20 MiB → 151 KiB`.
    pub detail: String,
    /// How sure it is or what it refers to.
    pub note: String,
    /// Better or worse.
    pub tone: Tone,
}

impl Verdict {
    /// Says what `record` shows.
    pub fn of(record: &RunRecord) -> Self {
        let Some(chosen) = record.chosen() else { return Self::of_training(record) };
        let comparison = Comparison::of(record, chosen);
        let mut cards = Vec::new();
        let mut sentences = Vec::new();
        let work = &chosen.work;
        if work.params > 0 {
            sentences.push(format!(
                "{} of {} parameters remain ({} of the prunable weights are zero).",
                count(work.nonzero),
                count(record.baseline.work.params.max(work.params)),
                percent(chosen.sparsity)
            ));
        }
        cards.extend(memory_card(
            "File size",
            &comparison,
            |m| Some(m.file_bytes),
            |m| m.gzip_bytes.map_or_else(String::new, |gzip| format!("dense file gzipped: {}", bytes(gzip))),
        ));
        let resident = |m: &Memory| m.weight_bytes.or(m.steady_rss_bytes);
        cards.extend(memory_card("Weights in memory", &comparison, resident, |_| "held by the loaded engine".into()));
        if let Some((card, sentence)) = latency(&comparison, record) {
            cards.push(card);
            sentences.push(sentence);
        }
        quality(&comparison, record, &mut cards, &mut sentences);
        sentences.extend(flips(record));
        let values: Vec<&str> = cards.iter().take(4).map(|card| card.summary.as_str()).collect();
        let summary = values.join(", ");
        let (headline, tone) = match record.gate.as_ref() {
            None => (format!("Pruned: {summary}"), Tone::Plain),
            Some(gate) if gate.pass => (format!("Passed: {summary}"), Tone::Good),
            Some(gate) => {
                sentences.splice(0..0, gate.failures().map(|reason| format!("Gate not met: {reason}.")));
                (format!("Not passed: {summary}"), Tone::Bad)
            }
        };
        Self { headline, tone, sentences, cards }
    }

    fn of_training(record: &RunRecord) -> Self {
        let accuracy = record.baseline.quality().and_then(|quality| quality.accuracy().value());
        let headline = accuracy.map_or_else(
            || "Dense model, nothing pruned".into(),
            |accuracy| format!("Dense model: {} accuracy, nothing pruned", percent(accuracy)),
        );
        Self { headline, tone: Tone::Plain, sentences: Vec::new(), cards: Vec::new() }
    }
}

fn memory_card(
    label: &str,
    comparison: &Comparison<'_>,
    column: fn(&Memory) -> Option<u64>,
    note: impl Fn(&Memory) -> String,
) -> Option<Card> {
    let ratio = comparison.memory_ratio(column)?;
    let (before, after) = (comparison.baseline.memory.as_ref()?, comparison.variant.memory.as_ref()?);
    let subject = if label == "File size" { "file" } else { "weights" };
    let value =
        if ratio >= 1.0 { format!("{} smaller", times(ratio)) } else { format!("{} larger", times(1.0 / ratio)) };
    Some(Card {
        label: label.into(),
        summary: format!("{subject} {value}"),
        value,
        detail: format!("{} → {}", bytes(column(before)?), bytes(column(after)?)),
        note: note(before),
        tone: if ratio >= 1.0 { Tone::Good } else { Tone::Bad },
    })
}

fn latency(comparison: &Comparison<'_>, record: &RunRecord) -> Option<(Card, String)> {
    let pair = comparison.latency.first()?;
    let ratio = pair.ratio?;
    let p50 = |row: &crate::record::BenchRow| row.latency.summary().map(|summary| milliseconds(summary.p50_ms));
    let detail = format!("{} → {}", p50(pair.baseline)?, p50(pair.variant)?);
    let (value, tone, sentence) = match ratio.difference() {
        Difference::None => ("same speed".to_owned(), Tone::Plain, "is as fast as the dense one".to_owned()),
        Difference::Faster => {
            let value = format!("{} faster", times(ratio.ratio));
            (value.clone(), Tone::Good, format!("is {value} than the dense one"))
        }
        Difference::Slower => {
            let value = format!("{} slower", times(1.0 / ratio.ratio));
            (value.clone(), Tone::Bad, format!("is {value} than the dense one"))
        }
    };
    let engine = &pair.variant.engine;
    let sure = format!("{:.2} to {:.2}", ratio.low, ratio.high);
    let sentence = format!(
        "One image at a time, the pruned model {sentence} in {} ({}, {}): {detail}, ratio {:.2}, 95 % sure \
         between {low:.2} and {high:.2}.",
        engine.name,
        threads(engine.threads),
        record.machine.cpu_model,
        ratio.ratio,
        low = ratio.low,
        high = ratio.high
    );
    let note = format!("{}, {}; ratio {sure}", engine.name, threads(engine.threads));
    Some((Card { label: "Time per image".into(), summary: value.clone(), value, detail, note, tone }, sentence))
}

fn quality(comparison: &Comparison<'_>, record: &RunRecord, cards: &mut Vec<Card>, sentences: &mut Vec<String>) {
    let Some((before, after)) = comparison.qualities() else { return };
    let judged = |rule: &str, notable: bool| {
        let check = record.gate.iter().flat_map(|gate| &gate.checks).find(|check| check.rule == rule);
        match check.map_or(!notable, |check| check.pass) {
            true => Tone::Good,
            false => Tone::Bad,
        }
    };
    if let (Some(change), Some(b), Some(a)) =
        (comparison.accuracy_points(), before.accuracy().value(), after.accuracy().value())
    {
        let detail = format!("{} → {}", percent(b), percent(a));
        let images = images(after.accuracy().total);
        sentences.push(format!(
            "Accuracy on {images} of the {} split: {detail} ({}).",
            comparison.split(),
            points(change)
        ));
        cards.push(Card {
            label: "Accuracy".into(),
            value: points(change),
            summary: format!("accuracy {}", points(change)),
            detail,
            note: format!("{images} of the {} split", comparison.split()),
            tone: judged("max_accuracy_drop_points", change < -NOTABLE_POINTS),
        });
    }
    if let (Some(b), Some(a), Some(alarms_b), Some(alarms_a)) =
        (before.missed_defects(), after.missed_defects(), before.false_alarms(), after.false_alarms())
    {
        sentences.push(format!(
            "Of {} defects, the dense model passes {} as good, the pruned one {}; of {} good images, {} and {} are \
             rejected.",
            count(a.total),
            count(b.hits),
            count(a.hits),
            count(alarms_a.total),
            count(alarms_b.hits),
            count(alarms_a.hits)
        ));
        cards.push(Card {
            label: "Missed defects".into(),
            value: format!("{} of {}", count(a.hits), count(a.total)),
            summary: format!("{} of {} defects missed", count(a.hits), count(a.total)),
            detail: format!("{} → {}", count(b.hits), count(a.hits)),
            note: format!("false alarms {} → {} of {}", alarms_b.hits, alarms_a.hits, alarms_a.total),
            tone: missed_tone(b, a),
        });
    } else if let Some((class, recall)) = worst(after) {
        let was = before.recall(class.0).value().map_or_else(String::new, percent);
        cards.push(Card {
            label: "Hardest class".into(),
            value: format!("{} found", percent(recall)),
            summary: format!("hardest class {} found", percent(recall)),
            detail: format!("{was} → {}", percent(recall)),
            note: class.1,
            tone: judged("min_recall", before.recall(class.0).value().is_some_and(|b| recall < b - 0.01)),
        });
    }
    if let Some(((_, name), recall)) = worst(after) {
        sentences.push(format!("The hardest class is {name}: {} of its images are recognised.", percent(recall)));
    }
}

/// More misses are bad only when the number before lies outside what chance allows around the number after.
fn missed_tone(before: Proportion, after: Proportion) -> Tone {
    match (before.value(), after.wilson()) {
        _ if after.hits <= before.hits => Tone::Good,
        (Some(before), Some(interval)) if interval.contains(before) => Tone::Plain,
        _ => Tone::Bad,
    }
}

fn worst(quality: &Quality) -> Option<((usize, String), f64)> {
    let (class, recall) = quality.worst_defect()?;
    Some(((class, quality.classes.get(class)?.clone()), recall.value()?))
}

fn flips(record: &RunRecord) -> Option<String> {
    let flips = &record.chosen()?.flips;
    if flips.is_empty() {
        return None;
    }
    let wrong = flips.iter().filter(|flip| flip.before == flip.label).count();
    let right = flips.iter().filter(|flip| flip.after == flip.label).count();
    Some(format!(
        "The verdict changed for {}: {wrong} newly wrong, {right} newly right, {} wrong both times.",
        images(flips.len() as u64),
        flips.len() - wrong - right
    ))
}
