//! Recall per class, before and after, with the interval of the after.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{AFTER, BEFORE, Chart, Drawn, GRID, INK, Legend, MUTED, draw, text};
use crate::compare::Comparison;
use crate::error::ReportError;
use crate::format::percent;
use crate::record::RunRecord;

const ROW: i32 = 34;
const WIDTH: i32 = 980;
const NAMES: i32 = 190;
const VALUES: i32 = 130;
const AXIS: i32 = 26;

/// The chart; `None` when nothing was evaluated.
pub(crate) fn recall(record: &RunRecord) -> Result<Option<Chart>, ReportError> {
    let chosen = record.chosen().unwrap_or(&record.baseline);
    let comparison = Comparison::of(record, chosen);
    let Some((_, after)) = comparison.qualities() else { return Ok(None) };
    let rows: Vec<_> = comparison
        .recalls()
        .into_iter()
        .filter_map(|c| Some((after.classes[c.class].as_str(), c.before.value()?, c.after.value()?, c.after.wilson()?)))
        .collect();
    let Some(lowest) = rows.iter().map(|row| row.3.low.min(row.1)).min_by(f64::total_cmp) else { return Ok(None) };
    // The axis starts at a full ten percent below the lowest bound, so that one bad class cannot hide off the chart.
    let from = ((lowest * 10.0).floor() / 10.0).clamp(0.0, 0.9);
    let at = |value: f64| NAMES + ((value - from) / (1.0 - from) * f64::from(WIDTH - NAMES - VALUES)).round() as i32;
    let height = ROW * rows.len() as i32;
    let svg = draw("recall", (WIDTH as u32, (height + AXIS) as u32), |area| -> Drawn {
        let steps = ((1.0 - from) * 10.0).round() as i32;
        for step in 0..=steps {
            let value = from + f64::from(step) / 10.0;
            let x = at(value);
            area.draw(&PathElement::new(vec![(x, 0), (x, height)], GRID.rgb))?;
            let label = format!("{:.0} %", value * 100.0);
            area.draw(&Text::new(label, (x, height + 6), text(MUTED, 13, HPos::Center, VPos::Top)))?;
        }
        for (index, (class, before, now, interval)) in rows.iter().enumerate() {
            let y = ROW * index as i32 + ROW / 2;
            let name: String = class.chars().take(24).collect();
            area.draw(&Text::new(name, (NAMES - 14, y), text(INK, 14, HPos::Right, VPos::Center)))?;
            let bar = vec![(at(interval.low), y), (at(interval.high), y)];
            area.draw(&PathElement::new(bar, AFTER.rgb.mix(0.35).stroke_width(6)))?;
            area.draw(&Circle::new((at(*before), y), 5, BEFORE.rgb.filled()))?;
            area.draw(&Circle::new((at(*now), y), 6, AFTER.rgb.filled()))?;
            let label = format!("{} → {}", percent(*before), percent(*now));
            area.draw(&Text::new(label, (WIDTH, y), text(INK, 13, HPos::Right, VPos::Center)))?;
        }
        Ok(())
    })?;
    let legend = vec![Legend::new(BEFORE, "dense model"), Legend::new(AFTER, "pruned model, with its 95 % interval")];
    let caption = "Share of the images of each class that are recognised as it. A short bar means many images.";
    Ok(Some(Chart { svg, legend, caption: caption.into() }))
}
