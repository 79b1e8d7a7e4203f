//! Every latency sample as a dot, one strip per model, so that spread and outliers are seen and not averaged away.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{AFTER, BEFORE, Chart, Drawn, GRID, INK, Legend, MUTED, draw, text};
use crate::error::ReportError;
use crate::format::milliseconds;
use crate::record::{BenchRow, Board, RunRecord};
use crate::stats::percentile;

const STRIP: i32 = 66;
const WIDTH: i32 = 980;
const RIGHT: i32 = 24;
const AXIS: i32 = 28;
/// Dots drawn per strip; more would only make the page heavy.
const DOTS: usize = 400;

/// The chart; `None` without samples.
pub(crate) fn latency(record: &RunRecord) -> Result<Option<Chart>, ReportError> {
    // dots of an emulated machine beside those of a real one would be compared by whoever sees them
    let real = record.benches.iter().filter(|bench| bench.machine.emulated.is_none());
    let rows = real.flat_map(|bench| bench.rows.iter().map(|row| (bench.board.as_ref(), row)));
    let rows: Vec<(Option<&Board>, &BenchRow)> = rows.filter(|(_, row)| !row.latency.samples_ns.is_empty()).collect();
    let far = rows.iter().filter_map(|(_, row)| percentile(&row.latency.samples_ns, 99.0)).max_by(f64::total_cmp);
    let Some(far) = far.filter(|&far| far > 0.0) else { return Ok(None) };
    let limit = far * 1.06;
    let at = |ns: f64| (ns.min(limit) / limit * f64::from(WIDTH - RIGHT)).round() as i32;
    let height = STRIP * rows.len() as i32;
    let svg = draw("latency", (WIDTH as u32, (height + AXIS) as u32), |area| -> Drawn {
        let step = round_step(limit / 1e6 / 8.0);
        let mut tick = 0.0;
        while tick * 1e6 <= limit {
            let x = at(tick * 1e6);
            area.draw(&PathElement::new(vec![(x, 0), (x, height)], GRID.rgb))?;
            let side = if x == 0 { HPos::Left } else { HPos::Center };
            let label = if step < 0.1 { format!("{tick:.2} ms") } else { format!("{tick:.1} ms") };
            area.draw(&Text::new(label, (x, height + 7), text(MUTED, 13, side, VPos::Top)))?;
            tick += step;
        }
        for (index, (board, row)) in rows.iter().enumerate() {
            let top = STRIP * index as i32;
            let paint = if row.model == record.baseline.name { BEFORE } else { AFTER };
            let samples = &row.latency.samples_ns;
            let stride = samples.len().div_ceil(DOTS);
            for (dot, &ns) in samples.iter().step_by(stride).enumerate() {
                // A fixed sequence spreads the dots over the strip without a random source.
                let jitter = (dot * 7 % 19) as i32;
                area.draw(&Circle::new((at(ns as f64), top + 34 + jitter), 2, paint.rgb.mix(0.4).filled()))?;
            }
            if let Some(middle) = percentile(samples, 50.0) {
                let x = at(middle);
                area.draw(&PathElement::new(vec![(x, top + 28), (x, top + 58)], INK.rgb.stroke_width(2)))?;
                let place = board.map_or(String::new(), |board| format!(" · {}", board.address));
                let median = milliseconds(middle / 1e6);
                let title = format!("{} · {}{place} · median {median}", row.model, row.engine.name);
                area.draw(&Text::new(title, (2, top + 8), text(INK, 14, HPos::Left, VPos::Top)))?;
            }
        }
        Ok(())
    })?;
    let legend = vec![Legend::new(BEFORE, "dense model"), Legend::new(AFTER, "pruned models")];
    let caption = "Each dot is one run, the line is the median. The slowest 1 % are drawn at the right edge.";
    Ok(Some(Chart { svg, legend, caption: caption.into() }))
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|&round| round >= step).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_numbers() {
        let steps = [0.013, 0.2, 3.0, 7.0].map(round_step);
        for (step, expected) in steps.into_iter().zip([0.02, 0.2, 5.0, 10.0]) {
            assert!((step - expected).abs() < 1e-9, "{step} {expected}");
        }
    }
}
