//! Where the time of a training went.

use std::collections::BTreeMap;

use crate::format::{count, milliseconds, percent};
use crate::record::ProfileRow;
use crate::table::{Cell, Table};

/// One row per op, part and kernel, the longest first: layers of a kind are added up.
pub fn profile(rows: &[ProfileRow]) -> Table {
    let mut table = Table::new(&["Op", "Part", "Kernel", "#Layers", "#Runs", "#Per run", "#Share"]);
    let all: f64 = rows.iter().map(|row| row.seconds).sum();
    let mut kinds: BTreeMap<(&str, &str, &str), (u64, u64, f64)> = BTreeMap::new();
    for row in rows {
        let kind = kinds.entry((&row.op, &row.part, &row.kernel)).or_default();
        *kind = (kind.0 + u64::from(!row.layer.is_empty()), kind.1 + row.runs, kind.2 + row.seconds);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|(_, a), (_, b)| b.2.total_cmp(&a.2));
    for ((op, part, kernel), (layers, runs, seconds)) in kinds {
        let share = if all > 0.0 { seconds / all } else { 0.0 };
        let layers = if layers == 0 { String::new() } else { count(layers) };
        table.push([
            op.into(),
            part.into(),
            kernel.into(),
            layers.into(),
            count(runs).into(),
            milliseconds(seconds * 1000.0 / runs.max(1) as f64).into(),
            Cell::from(percent(share)).heat(share),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_a_kind_are_added_up_and_the_longest_comes_first() {
        let row = |layer: &str, op: &str, part: &str, runs, seconds| ProfileRow {
            layer: layer.into(),
            op: op.into(),
            part: part.into(),
            kernel: "dense".into(),
            runs,
            seconds,
        };
        let rows = [
            row("", "optimiser", "", 4, 0.5),
            row("c1", "Conv", "forward", 4, 1.0),
            row("c2", "Conv", "forward", 4, 2.0),
            row("c2", "Conv", "weight gradient", 4, 0.5),
        ];
        let text = profile(&rows).plain();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains('%')).collect();
        assert_eq!(lines.len(), 3, "{text}");
        for wanted in ["Conv", "forward", "2", "8", "75.0 %", "375 ms"] {
            assert!(lines[0].contains(wanted), "{wanted} in {}", lines[0]);
        }
    }
}
