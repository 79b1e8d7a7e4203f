//! Before against after in one table.

use crate::compare::Comparison;
use crate::format::{bytes, large, milliseconds, or_unknown, percent, points, share, threads, times};
use crate::record::{Memory, RunRecord};
use crate::stats::{Difference, Proportion};
use crate::table::{Cell, Table, Tone};

type MemoryColumn = fn(&Memory) -> Option<u64>;

/// A change in points below which accuracy counts as unchanged when colours are chosen.
pub(crate) const SAME_POINTS: f64 = 0.05;

/// The measures of the baseline beside those of the chosen model; empty when the run only trained.
pub fn verdict(record: &RunRecord) -> Table {
    let mut table = Table::new(&["Measure", "#Before", "#After", "#Change"]);
    let Some(chosen) = record.chosen() else { return table };
    let comparison = Comparison::of(record, chosen);
    let baseline = &record.baseline;

    let memory: [(&str, MemoryColumn); 6] = [
        ("File", |m| Some(m.file_bytes)),
        ("File, gzip", |m| m.gzip_bytes),
        ("Weights in memory", |m| m.weight_bytes),
        ("Activation arena", |m| m.arena_bytes),
        ("Steady RSS", |m| m.steady_rss_bytes),
        ("Peak RSS", |m| m.peak_rss_bytes),
    ];
    for (name, column) in memory {
        let of = |m: &Option<Memory>| m.as_ref().and_then(column);
        let (before, after) = (of(&baseline.memory), of(&chosen.memory));
        if before.is_some() || after.is_some() {
            let change =
                comparison.memory_ratio(column).map_or_else(Cell::default, |r| ratio_cell(r, "smaller", "larger"));
            table.push([name.into(), or_unknown(before, bytes).into(), or_unknown(after, bytes).into(), change]);
        }
    }
    for pair in &comparison.latency {
        let p50 = |row: &crate::record::BenchRow| or_unknown(row.latency.summary(), |s| milliseconds(s.p50_ms));
        let engine = &pair.baseline.engine;
        let name = format!("Latency, {} ({}), {}", engine.name, engine.provider, threads(engine.threads));
        let change = pair.ratio.as_ref().map_or_else(Cell::default, |ratio| match ratio.difference() {
            Difference::None => Cell::from("no difference"),
            Difference::Faster => Cell::from(format!("{} faster", times(ratio.ratio))).tone(Tone::Good),
            Difference::Slower => Cell::from(format!("{} slower", times(1.0 / ratio.ratio))).tone(Tone::Bad),
        });
        table.push([name.into(), p50(pair.baseline).into(), p50(pair.variant).into(), change]);
    }
    if let Some((before, after)) = comparison.qualities() {
        let cells = |name: &str, b: Option<f64>, a: Option<f64>| {
            let change = b.zip(a).map_or_else(Cell::default, |(b, a)| points_cell((a - b) * 100.0));
            [name.into(), or_unknown(b, percent).into(), or_unknown(a, percent).into(), change]
        };
        table.push(cells("Accuracy", before.accuracy().value(), after.accuracy().value()));
        table.push(cells("Balanced accuracy", before.balanced_accuracy(), after.balanced_accuracy()));
        let counts = |name: &str, b: Option<Proportion>, a: Option<Proportion>| {
            let text = |p: Option<Proportion>| or_unknown(p, |p| format!("{} of {}", p.hits, p.total));
            let change = b.zip(a).map_or_else(Cell::default, |(b, a)| count_cell(b.hits, a.hits));
            [name.into(), text(b).into(), text(a).into(), change]
        };
        if before.ok_class.is_some() {
            table.push(counts("Missed defects", before.missed_defects(), after.missed_defects()));
            table.push(counts("False alarms", before.false_alarms(), after.false_alarms()));
        }
        for (b, a) in before.false_alarms.iter().zip(&after.false_alarms) {
            let name = format!("Defects found at {} false alarms", percent(b.rate));
            let change = b.recall.value().zip(a.recall.value()).map(|(b, a)| points_cell((a - b) * 100.0));
            table.push([name.into(), share(b.recall).into(), share(a.recall).into(), change.unwrap_or_default()]);
        }
    }
    let (before, after) = (&baseline.work, &chosen.work);
    let fewer = |b: u64, a: u64| {
        if a == 0 { Cell::default() } else { ratio_cell(b as f64 / a as f64, "fewer", "more") }
    };
    let work = |name: &str, b: u64, a: u64| [name.into(), large(b).into(), large(a).into(), fewer(b, a)];
    table.push(work("Non-zero parameters", before.nonzero, after.nonzero));
    table.push(work("MACs executed", before.macs, after.macs));
    table.push(work("MACs, dense equivalent", before.dense_macs, after.dense_macs));
    table
}

fn ratio_cell(ratio: f64, less: &str, more: &str) -> Cell {
    if (ratio - 1.0).abs() < 0.005 {
        Cell::from("same")
    } else if ratio > 1.0 {
        Cell::from(format!("{} {less}", times(ratio))).tone(Tone::Good)
    } else {
        Cell::from(format!("{} {more}", times(1.0 / ratio))).tone(Tone::Bad)
    }
}

pub(crate) fn points_cell(change: f64) -> Cell {
    let tone = match change {
        c if c >= SAME_POINTS => Tone::Good,
        c if c <= -SAME_POINTS => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::from(points(change)).tone(tone)
}

fn count_cell(before: u64, after: u64) -> Cell {
    match after.cmp(&before) {
        std::cmp::Ordering::Less => Cell::from(format!("−{}", before - after)).tone(Tone::Good),
        std::cmp::Ordering::Equal => Cell::from("same"),
        std::cmp::Ordering::Greater => Cell::from(format!("+{}", after - before)).tone(Tone::Bad),
    }
}
