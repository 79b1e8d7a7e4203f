//! Accuracy against sparsity, one point per variant with its interval.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{AFTER, BEFORE, Chart, Drawn, GRID, INK, Legend, MUTED, draw, padded, text};
use crate::error::ReportError;
use crate::record::RunRecord;

/// The chart; `None` with fewer than two evaluated variants.
pub(crate) fn sparsity(record: &RunRecord) -> Result<Option<Chart>, ReportError> {
    let mut points = Vec::new();
    for variant in record.variants() {
        let accuracy = variant.quality().map(|quality| quality.accuracy());
        if let Some((value, interval)) = accuracy.and_then(|a| a.value().zip(a.wilson())) {
            points.push((variant.sparsity, value, interval, variant.name.as_str()));
        }
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bounds = points.iter().flat_map(|point| [point.2.low, point.2.high]);
    let (Some((low, high)), 2..) = (padded(bounds, 0.22), points.len()) else { return Ok(None) };
    let (low, high) = (low.max(0.0), high.min(1.02));
    let chosen = record.chosen().map(|variant| variant.name.as_str());
    let svg = draw("sparsity", (980, 300), |area| -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .margin_top(14)
            .margin_right(30)
            .x_label_area_size(46)
            .y_label_area_size(62)
            .build_cartesian_2d(-0.06..1.03, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb)
            .axis_style(GRID.rgb)
            .x_labels(11)
            .y_labels(6)
            .x_desc("weights removed")
            .axis_desc_style(text(MUTED, 13, HPos::Center, VPos::Center))
            .x_label_style(text(MUTED, 13, HPos::Center, VPos::Top))
            .y_label_style(text(MUTED, 13, HPos::Right, VPos::Center))
            .x_label_formatter(&|x| format!("{:.0} %", x * 100.0))
            .y_label_formatter(&|y| format!("{:.1} %", y * 100.0))
            .draw()?;
        let dense = points[0].1;
        let level = [(-0.06, dense), (1.03, dense)];
        chart.draw_series(DashedLineSeries::new(level, 5, 5, BEFORE.rgb.stroke_width(1)))?;
        let line = points.iter().map(|point| (point.0, point.1));
        chart.draw_series(LineSeries::new(line, AFTER.rgb.mix(0.45).stroke_width(2)))?;
        for (index, (x, y, interval, name)) in points.iter().enumerate() {
            let bar = vec![(*x, interval.low), (*x, interval.high)];
            chart.draw_series([PathElement::new(bar, AFTER.rgb.mix(0.55).stroke_width(3))])?;
            let radius = if Some(*name) == chosen { 7 } else { 5 };
            let paint = if *x == 0.0 { BEFORE } else { AFTER };
            chart.draw_series([Circle::new((*x, *y), radius, paint.rgb.filled())])?;
            // Names alternate below and above their bars, since high sparsities lie close together; the last, usually
            // lowest, goes below.
            let (end, shift, anchor) = if (points.len() - index) % 2 == 1 {
                (interval.low, 5, VPos::Top)
            } else {
                (interval.high, -5, VPos::Bottom)
            };
            let short: String = name.chars().take(16).collect();
            let label = Text::new(short, (0, shift), text(INK, 13, HPos::Center, anchor));
            chart.draw_series([EmptyElement::at((*x, end)) + label])?;
        }
        Ok(())
    })?;
    let legend = vec![Legend::new(BEFORE, "dense model"), Legend::new(AFTER, "pruned models")];
    let caption = "Accuracy against the share of weights removed. Bars are 95 % intervals: models whose bars overlap \
                   widely cannot be told apart on this many images.";
    Ok(Some(Chart { svg, legend, caption: caption.into() }))
}
