//! Tables of a sweep.

use crate::format::{or_unknown, percent, seconds, sparsity};
use crate::record::DENSE;
use crate::stats::MeanInterval;
use crate::sweep::{On, Sweep, SweepCell, points};
use crate::table::{Cell, Table, Tone};

/// Methods down, sparsities across: mean, half width of the 95 % interval, finished of planned seeds.
pub fn sweep_matrix(sweep: &Sweep<'_>, on: On) -> Table {
    let sparsities = sweep.sparsities();
    let mut titles = vec!["Method".to_string()];
    titles.extend(sparsities.iter().map(|s| format!("#{} removed", sparsity(*s))));
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let text = |cell: &SweepCell| {
        let mean = if on == On::Test { cell.test } else { cell.validation };
        format!("{} ({}/{})", or_unknown(mean, mean_text), cell.done, cell.planned)
    };
    let dense = sweep.cell(DENSE, 0.0);
    if dense.planned > 0 {
        // It has no sparsity of its own, so its one number stands in the first column.
        table.push([format!("{DENSE}, nothing removed").into(), text(&dense).into()]);
    }
    for method in sweep.methods() {
        let cells = sparsities.iter().map(|s| Cell::from(text(&sweep.cell(method, *s))));
        table.push(std::iter::once(method.into()).chain(cells));
    }
    table
}

/// One row per method and sparsity: difference to the baseline, density reached, epochs, time.
pub fn sweep_cells(sweep: &Sweep<'_>) -> Table {
    let against = format!("#Test, against {}", sweep.baseline);
    let titles = ["Method", "#Removed", "#Seeds", "#Validation", "#Test", &against, "#Kept", "#Epochs", "#Time"];
    let mut table = Table::new(&titles);
    for cell in sweep.cells() {
        let tone = |d: &MeanInterval| match (d.excludes_zero(), d.mean > 0.0) {
            (false, _) => Tone::Plain,
            (true, true) => Tone::Good,
            (true, false) => Tone::Bad,
        };
        let difference = cell.difference.as_ref().map(|d| Cell::from(points(d)).tone(tone(d)));
        table.push([
            cell.method.as_str().into(),
            sparsity(cell.sparsity).into(),
            format!("{} of {}", cell.done, cell.planned).into(),
            or_unknown(cell.validation, mean_text).into(),
            or_unknown(cell.test, mean_text).into(),
            difference.unwrap_or_else(|| "".into()),
            or_unknown(cell.density, |d| kept(d, &cell)).into(),
            or_unknown(cell.epochs, |e| format!("{e:.0}")).into(),
            or_unknown(cell.seconds, seconds).into(),
        ]);
    }
    table
}

/// Kept fraction, and how many networks have an empty layer.
fn kept(density: f64, cell: &SweepCell) -> String {
    let empty = if cell.collapsed > 0 { format!(" ({} with an empty layer)", cell.collapsed) } else { String::new() };
    format!("{:.2} %{empty}", density * 100.0)
}

/// `93.1 ± 1.2 %`, or without the interval when there is none; one that reaches beyond all fractions tells nothing else.
fn mean_text(mean: MeanInterval) -> String {
    match mean.half() {
        Some(half) if half > 1.0 => format!("{:.1} ± >100 %", mean.mean * 100.0),
        Some(half) => format!("{:.1} ± {:.1} %", mean.mean * 100.0, half * 100.0),
        None => percent(mean.mean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Metric;
    use crate::sweep::tests::example;

    #[test]
    fn an_interval_wider_than_all_fractions_says_just_that() {
        let of = |values: &[f64]| mean_text(crate::stats::mean_interval(values, 0.95).unwrap());
        assert_eq!(of(&[0.5, 1.0]), "75.0 ± >100 %");
        assert_eq!(of(&[0.7, 0.8]), "75.0 ± 63.5 %");
        assert_eq!(of(&[0.7]), "70.0 %");
    }

    #[test]
    fn cells_say_how_many_seeds_they_stand_on() {
        let (planned, results) = example();
        let sweep = Sweep { planned: &planned, results: &results, metric: Metric::Accuracy, baseline: "a" };
        insta::assert_snapshot!(sweep_matrix(&sweep, On::Test).markdown(), @r"
        | Method                 |      90.0 % removed |
        |------------------------|--------------------:|
        | dense, nothing removed |  94.0 ± 0.0 % (3/3) |
        | a                      | 85.0 ± 12.4 % (3/3) |
        | b                      | 75.0 ± 12.4 % (3/3) |
        | c                      | 92.5 ± 31.8 % (2/3) |
        ");
        insta::assert_snapshot!(sweep_cells(&sweep).markdown(), @r"
        | Method | Removed |  Seeds |    Validation |          Test |               Test, against a |     Kept | Epochs |  Time |
        |--------|--------:|-------:|--------------:|--------------:|------------------------------:|---------:|-------:|------:|
        | dense  |   0.0 % | 3 of 3 |  95.0 ± 0.0 % |  94.0 ± 0.0 % |                               | 100.00 % |      3 | 3.0 s |
        | a      |  90.0 % | 3 of 3 | 85.0 ± 12.4 % | 85.0 ± 12.4 % |                               |  10.00 % |      3 | 3.0 s |
        | b      |  90.0 % | 3 of 3 | 86.0 ± 12.4 % | 75.0 ± 12.4 % | −10.0 points (−10.0 to −10.0) |  10.00 % |      3 | 3.0 s |
        | c      |  90.0 % | 2 of 3 | 92.5 ± 31.8 % | 92.5 ± 31.8 % |   +10.0 points (10.0 to 10.0) |  10.00 % |      3 | 3.0 s |
        ");
    }
}
