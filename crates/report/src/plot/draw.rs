//! Puts axes, series and legend together.

use std::fmt::Write;

use super::axis::Axis;
use super::looks::{Look, draw_marker, look};
use super::{Plot, Point, Series};
use crate::error::ReportError;

/// Pixels of the area inside the axes.
const AREA: (f64, f64) = (620.0, 380.0);
const LEFT: f64 = 72.0;
const TOP: f64 = 56.0;
const BELOW: f64 = 56.0;
/// Pixels per legend row.
const ROW: f64 = 20.0;
/// Average pixels per character at 13 pixels of height.
const CHARACTER: f64 = 7.2;
/// Longest name in the legend, in characters; the rest is cut.
const NAME: usize = 44;
/// Points of a series from which intervals are a band rather than bars.
const BAND: usize = 26;
/// Pixels between the bars of two series at the same x, and the most that all of them may take together.
const APART: f64 = 5.0;
const APART_ALL: f64 = 32.0;
/// How far intervals may stretch the vertical axis beyond the values at each end, as a share of the values' own range;
/// the interval of two repeats can be ten times as wide as all differences that the plot is about.
const STRETCH: f64 = 0.6;

const INK: &str = "#1c252e";
const MUTED: &str = "#5f6c78";
const GRID: &str = "#dde2e6";

pub(super) fn svg(plot: &Plot) -> Result<String, ReportError> {
    let nothing =
        || ReportError::Chart { chart: "plot", reason: format!("`{}` has no point that can be drawn", plot.title) };
    let drawable = |p: &&Point| p.x.is_finite() && p.y.is_finite() && (!plot.log_y || p.y > 0.0);
    let points = || plot.series.iter().flat_map(|s| &s.points).filter(drawable);
    let legend =
        plot.series.iter().map(|s| s.name.chars().count().min(NAME)).max().unwrap_or(0) as f64 * CHARACTER + 50.0;
    let height = AREA.1.max(plot.series.len() as f64 * ROW);
    let (right, bottom) = (LEFT + AREA.0, TOP + height);
    let x_values = points().map(|p| p.x).chain(plot.marks.iter().map(|m| m.x));
    let x = points().next().and_then(|_| Axis::over(x_values, (LEFT, right), false, plot.x_percent));
    let y = Axis::over(y_values(plot, points()).into_iter(), (bottom, TOP), plot.log_y, plot.y_percent);
    let (Some(x), Some(y)) = (x, y) else { return Err(nothing()) };

    let (width, full) = (right + 16.0 + legend, bottom + BELOW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{full:.0}\" viewBox=\"0 0 {width:.0} {full:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escape(&plot.title)
    );
    label(&mut svg, (LEFT, 24.0), "start", (INK, "font-size=\"16\" font-weight=\"bold\""), &plot.title);
    for (at, text) in x.ticks(7) {
        rule(&mut svg, (at, TOP), (at, bottom), GRID, "class=\"tick\"");
        label(&mut svg, (at, bottom + 18.0), "middle", (MUTED, ""), &text);
    }
    for (at, text) in y.ticks(6) {
        rule(&mut svg, (LEFT, at), (right, at), GRID, "class=\"tick\"");
        label(&mut svg, (LEFT - 8.0, at + 4.5), "end", (MUTED, ""), &text);
    }
    rule(&mut svg, (LEFT, TOP), (LEFT, bottom), MUTED, "");
    rule(&mut svg, (LEFT, bottom), (right, bottom), MUTED, "");
    label(&mut svg, ((LEFT + right) / 2.0, bottom + 42.0), "middle", (INK, ""), &plot.x_label);
    let middle = (TOP + bottom) / 2.0;
    label(
        &mut svg,
        (18.0, middle),
        "middle",
        (INK, &format!("transform=\"rotate(-90 18 {middle:.0})\"")),
        &plot.y_label,
    );
    for mark in &plot.marks {
        let Some(at) = x.pixel(mark.x) else { continue };
        rule(&mut svg, (at, TOP), (at, bottom), INK, "stroke-dasharray=\"4 4\"");
        label(&mut svg, (at, TOP - 6.0), "middle", (INK, "font-size=\"12\""), &mark.label);
    }
    let shifts = shifts(plot);
    for (index, series) in plot.series.iter().enumerate() {
        draw_series(&mut svg, series, look(index), &x, &y, shifts[index]);
    }
    for (index, series) in plot.series.iter().enumerate() {
        let (look, left, at) = (look(index), right + 18.0, TOP + 8.0 + index as f64 * ROW);
        if series.line {
            line(&mut svg, &[(left, at), (left + 24.0, at)], look, "legend");
        }
        draw_marker(&mut svg, look, left + 12.0, at);
        let name: String = series.name.chars().take(NAME).collect();
        label(&mut svg, (left + 32.0, at + 4.5), "start", (INK, ""), &name);
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// What the vertical axis has to show: all values, and their intervals as far as [`STRETCH`] allows.
fn y_values<'a>(plot: &Plot, points: impl Iterator<Item = &'a Point> + Clone) -> Vec<f64> {
    let scale = |v: f64| if plot.log_y { v.max(f64::MIN_POSITIVE).log10() } else { v };
    let back = |v: f64| if plot.log_y { 10f64.powf(v) } else { v };
    let values = points.clone().map(|p| scale(p.y));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let width = |p: &Point| has_interval(p).then(|| scale(p.high.unwrap_or(p.y)) - scale(p.low.unwrap_or(p.y)));
    // At least one interval is seen whole when all values are equal.
    let narrowest = points.clone().filter_map(width).filter(|w| *w > 0.0).fold(f64::INFINITY, f64::min);
    let narrowest = if narrowest.is_finite() { narrowest } else { 0.0 };
    let room = (STRETCH * (high - low)).max(narrowest);
    let hold = |v: f64| back(scale(v).clamp(low - room, high + room));
    points.flat_map(|p| [Some(p.y), p.low.map(hold), p.high.map(hold)].into_iter().flatten()).collect()
}

/// Pixels by which each series is set aside, so that bars at the same x stand beside each other.
fn shifts(plot: &Plot) -> Vec<f64> {
    let barred: Vec<bool> =
        plot.series.iter().map(|s| s.points.len() < BAND && s.points.iter().any(has_interval)).collect();
    let count = barred.iter().filter(|b| **b).count();
    let apart = if count > 1 { APART.min(APART_ALL / (count - 1) as f64) } else { 0.0 };
    let mut next = 0;
    let place = |barred: bool| {
        let shift = (next as f64 - (count.max(1) - 1) as f64 / 2.0) * apart;
        next += usize::from(barred);
        if barred { shift } else { 0.0 }
    };
    barred.into_iter().map(place).collect()
}

fn has_interval(point: &Point) -> bool {
    point.low.zip(point.high).is_some_and(|(low, high)| low.is_finite() && high.is_finite())
}

fn draw_series(svg: &mut String, series: &Series, look: Look, x: &Axis, y: &Axis, shift: f64) {
    let many = series.points.len() >= BAND;
    let at = |p: &Point| Some((x.pixel(p.x)? + shift, y.pixel(p.y)?));
    let mut pieces: Vec<Vec<&Point>> = vec![Vec::new()];
    for point in &series.points {
        match at(point) {
            Some(_) => pieces.last_mut().expect("starts with one").push(point),
            None => pieces.push(Vec::new()),
        }
    }
    for piece in pieces.iter().filter(|p| !p.is_empty()) {
        let bounds = |p: &&&Point| Some((at(p)?.0, y.pixel(p.low?)?, y.pixel(p.high?)?));
        let barred: Vec<&&Point> = piece.iter().filter(|p| has_interval(p)).collect();
        if many && series.line && barred.len() > 1 {
            let intervals: Vec<(f64, f64, f64)> = barred.iter().filter_map(bounds).collect();
            let there = intervals.iter().map(|&(x, low, _)| (x, low));
            let back = intervals.iter().rev().map(|&(x, _, high)| (x, high));
            let edge = path(there.chain(back));
            let _ =
                writeln!(svg, "<path class=\"band\" d=\"{edge}Z\" fill=\"{}\" fill-opacity=\"0.16\"/>", look.colour);
        } else {
            for point in &barred {
                let Some((x, low, high)) = bounds(point) else { continue };
                let mut d = format!("M{x:.1} {low:.1}L{x:.1} {high:.1}");
                // An interval that goes on beyond the axis has no cap there.
                for (value, end) in [(point.low, low), (point.high, high)] {
                    if value.is_some_and(|v| y.shows(v)) {
                        let _ = write!(d, "M{:.1} {end:.1}L{:.1} {end:.1}", x - 2.5, x + 2.5);
                    }
                }
                let colour = look.colour;
                let _ = writeln!(
                    svg,
                    "<path class=\"bar\" d=\"{d}\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-opacity=\"0.75\"/>"
                );
            }
        }
        let places: Vec<(f64, f64)> = piece.iter().filter_map(|p| at(p)).collect();
        if series.line {
            line(svg, &places, look, "line");
        }
        if !many || !series.line {
            places.iter().for_each(|&(x, y)| draw_marker(svg, look, x, y));
        }
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let step = |(index, (x, y)): (usize, (f64, f64))| format!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    points.enumerate().map(step).collect()
}

fn line(svg: &mut String, points: &[(f64, f64)], look: Look, class: &str) {
    let dash = if look.dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", look.dash) };
    let (d, colour) = (path(points.iter().copied()), look.colour);
    let _ = writeln!(
        svg,
        "<path class=\"{class}\" d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"{dash}/>"
    );
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, more: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(svg, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" {more}/>");
}

fn label(svg: &mut String, at: (f64, f64), anchor: &str, (colour, more): (&str, &str), text: &str) {
    let ((x, y), text) = (at, escape(text));
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" {more}>{text}</text>"
    );
}

/// Text that cannot end an element or an attribute; control characters, which XML refuses, become spaces.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
