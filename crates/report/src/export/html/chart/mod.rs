//! Charts as inline SVG. Colours are fixed in the SVG and re-mapped by the page's style sheet, so that one drawing
//! serves light, dark and paper.

mod curves;
mod latency;
mod recall;
mod size;
mod sparsity;

pub(super) use curves::curves;
pub(super) use latency::latency;
pub(super) use recall::recall;
pub(super) use size::size;
pub(super) use sparsity::sparsity;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use crate::error::ReportError;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A colour of the drawing and the style-sheet variable that replaces it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    rgb: RGBColor,
    variable: &'static str,
}

const INK: Paint = Paint { rgb: RGBColor(0x1c, 0x25, 0x2e), variable: "--ink" };
const MUTED: Paint = Paint { rgb: RGBColor(0x5f, 0x6c, 0x78), variable: "--muted" };
const GRID: Paint = Paint { rgb: RGBColor(0xdd, 0xe2, 0xe6), variable: "--line" };
const BEFORE: Paint = Paint { rgb: RGBColor(0x8a, 0x97, 0xa3), variable: "--before" };
const AFTER: Paint = Paint { rgb: RGBColor(0x0b, 0x6e, 0x75), variable: "--after" };
const PARTS: [Paint; 6] = [
    AFTER,
    Paint { rgb: RGBColor(0xd9, 0x8e, 0x2b), variable: "--part-1" },
    Paint { rgb: RGBColor(0x4b, 0x74, 0xb0), variable: "--part-2" },
    Paint { rgb: RGBColor(0x9a, 0x6c, 0xa6), variable: "--part-3" },
    Paint { rgb: RGBColor(0x6f, 0x9a, 0x4e), variable: "--part-4" },
    BEFORE,
];

/// One finished chart.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    /// Inline SVG; all text in it is escaped.
    svg: String,
    legend: Vec<Legend>,
    caption: String,
}

/// One entry of a legend.
#[derive(Debug, Serialize)]
struct Legend {
    variable: &'static str,
    label: String,
}

impl Legend {
    fn new(paint: Paint, label: &str) -> Self {
        Self { variable: paint.variable, label: label.into() }
    }
}

/// The style rules that replace each fixed colour by its variable.
pub(super) fn colour_rules() -> String {
    let mut paints = vec![INK, MUTED, GRID];
    paints.extend(PARTS);
    let rule = |paint: Paint| {
        let RGBColor(r, g, b) = paint.rgb;
        let (hex, variable) = (format!("#{r:02X}{g:02X}{b:02X}"), paint.variable);
        format!("svg [fill=\"{hex}\"]{{fill:var({variable})}}svg [stroke=\"{hex}\"]{{stroke:var({variable})}}\n")
    };
    paints.into_iter().map(rule).collect()
}

/// Runs `paint` on an empty drawing of `size` pixels.
fn draw(chart: &'static str, size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = paint(&area).and_then(|()| area.present());
        drawn.map_err(|error| ReportError::Chart { chart, reason: error.to_string() })?;
    }
    // Inline SVG needs no namespace, and the page promises to name no address at all.
    Ok(svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", " role=\"img\" aria-hidden=\"true\"", 1))
}

/// Text that is `pixels` high on the page; the backend writes 1/1.24 of the size it is asked for.
fn text(paint: Paint, pixels: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels) * 1.24).into_font().color(&paint.rgb).pos(Pos::new(horizontal, vertical))
}

/// Pixels a text of `pixels` height takes at most, close enough to decide whether it fits.
fn text_width(text: &str, pixels: u32) -> f64 {
    text.chars().count() as f64 * f64::from(pixels) * 0.6
}

/// A range around `values` with some air; `None` when no value is finite.
fn padded(values: impl Iterator<Item = f64>, air: f64) -> Option<(f64, f64)> {
    let (low, high) = values.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return None;
    }
    let span = (high - low).max(high.abs() * 0.02).max(1e-6);
    Some((low - span * air, high + span * air))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_is_escaped_in_svg() {
        let svg = draw("test", (100, 20), |area| {
            area.draw(&Text::new("<script>&\"x", (1, 1), text(INK, 12, HPos::Left, VPos::Top)))
        })
        .unwrap();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&amp;"), "{svg}");
        assert!(!svg.contains("http"), "{svg}");
        assert!(svg.contains("#1C252E"), "colours must be written as the style rules expect: {svg}");
    }

    #[test]
    fn a_range_of_nothing_is_none() {
        assert_eq!(padded([f64::NAN].into_iter(), 0.1), None);
        let (low, high) = padded([1.0, 2.0].into_iter(), 0.1).unwrap();
        assert!((low - 0.9).abs() < 1e-12 && (high - 2.1).abs() < 1e-12);
    }
}
