//! Training curves: accuracy, loss and kept weights over the epochs of all phases.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{AFTER, BEFORE, Chart, Drawn, GRID, INK, Legend, MUTED, PARTS, Paint, draw, padded, text, text_width};
use crate::error::ReportError;
use crate::record::EpochRow;

const SIZE: (u32, u32) = (980, 250);
const LEFT: u32 = 58;
const RIGHT: u32 = 14;

struct Series {
    paint: Paint,
    label: &'static str,
    value: fn(&EpochRow) -> Option<f64>,
}

/// Up to three charts: accuracy, loss and, when it changes, the kept fraction of the weights.
pub(crate) fn curves(rows: &[EpochRow]) -> Result<Vec<Chart>, ReportError> {
    let percent = |value: &f64| format!("{:.0} %", value * 100.0);
    let accuracy: [Series; 2] = [
        Series { paint: BEFORE, label: "training images", value: |row| Some(row.train_accuracy) },
        Series { paint: AFTER, label: "validation images", value: |row| row.val_accuracy },
    ];
    let loss: [Series; 2] = [
        Series { paint: BEFORE, label: "training images", value: |row| Some(row.train_loss) },
        Series { paint: AFTER, label: "validation images", value: |row| row.val_loss },
    ];
    let density = [Series { paint: PARTS[1], label: "kept weights", value: |row| Some(row.density) }];
    let mut charts = Vec::new();
    charts.extend(chart("accuracy", "Accuracy per epoch", rows, &accuracy, &percent)?);
    charts.extend(chart("loss", "Loss per epoch", rows, &loss, &|value| format!("{value:.2}"))?);
    if rows.iter().any(|row| row.density != rows[0].density) {
        charts.extend(chart("density", "Kept fraction of the prunable weights per epoch", rows, &density, &percent)?);
    }
    Ok(charts)
}

fn chart(
    name: &'static str,
    caption: &str,
    rows: &[EpochRow],
    series: &[Series],
    label: &dyn Fn(&f64) -> String,
) -> Result<Option<Chart>, ReportError> {
    let values = rows.iter().flat_map(|row| series.iter().filter_map(|s| (s.value)(row)));
    let Some((low, high)) = padded(values, 0.06) else { return Ok(None) };
    let low = low.max(0.0);
    let high = if name == "loss" { high } else { high.min(1.02) };
    let last = rows.len() as f64 + 0.5;
    let svg = draw(name, SIZE, |area| -> Drawn {
        let mut chart = ChartBuilder::on(area)
            .margin_top(22)
            .margin_right(RIGHT)
            .x_label_area_size(30)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.5..last, low..high)?;
        let small = text(MUTED, 13, HPos::Right, VPos::Center);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb)
            .axis_style(GRID.rgb)
            .x_labels(rows.len().clamp(2, 12))
            .y_labels(5)
            .x_label_style(text(MUTED, 13, HPos::Center, VPos::Top))
            .y_label_style(small)
            .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
            .y_label_formatter(label)
            .draw()?;
        let pixels_per_epoch = f64::from(SIZE.0 - LEFT - RIGHT) / rows.len() as f64;
        for (start, phase) in phases(rows) {
            let x = start as f64 + 0.5;
            if start > 0 {
                chart.draw_series([PathElement::new(vec![(x, low), (x, high)], MUTED.rgb.mix(0.5))])?;
            }
            let room = phase.len() as f64 * pixels_per_epoch;
            let title = &phase[0].phase;
            if text_width(title, 13) < room {
                let style = text(INK, 13, HPos::Left, VPos::Bottom);
                let offset = EmptyElement::at((x, high)) + Text::new(title.clone(), (3, -5), style);
                chart.draw_series([offset])?;
            }
        }
        for one in series {
            for (start, phase) in phases(rows) {
                let point = |(index, row): (usize, &EpochRow)| {
                    let y = (one.value)(row).filter(|y| y.is_finite())?;
                    Some(((start + index + 1) as f64, y))
                };
                let points: Vec<(f64, f64)> = phase.iter().enumerate().filter_map(point).collect();
                chart.draw_series(LineSeries::new(points.iter().copied(), one.paint.rgb.stroke_width(2)))?;
                if points.len() < 40 {
                    chart.draw_series(points.iter().map(|&at| Circle::new(at, 2, one.paint.rgb.filled())))?;
                }
            }
        }
        Ok(())
    })?;
    let legend = series.iter().map(|s| Legend::new(s.paint, s.label)).collect();
    Ok(Some(Chart { svg, legend, caption: caption.into() }))
}

/// Runs of rows of the same phase and where they start.
fn phases(rows: &[EpochRow]) -> Vec<(usize, &[EpochRow])> {
    let mut start = 0;
    let mut runs = Vec::new();
    for run in rows.chunk_by(|a, b| a.phase == b.phase) {
        runs.push((start, run));
        start += run.len();
    }
    runs
}
