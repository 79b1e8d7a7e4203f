//! What tells one series from another: colour, marker, dash.

use std::fmt::Write;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Colour of lines and markers.
    pub(super) colour: &'static str,
    /// Which shape marks a point.
    pub(super) marker: Marker,
    /// SVG dash pattern; empty = solid.
    pub(super) dash: &'static str,
}

/// Shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Disc,
    Square,
    Triangle,
    Diamond,
    Down,
    Cross,
    Ring,
}

/// Dark enough on white and apart for colour-blind eyes at the front of the list.
const COLOURS: [&str; 10] =
    ["#0072b2", "#d55e00", "#009e73", "#c23b8f", "#8a6d00", "#3a3a3a", "#56a4e0", "#7a4fb5", "#a3261b", "#6a9a1f"];

const MARKERS: [Marker; 7] =
    [Marker::Disc, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Down, Marker::Cross, Marker::Ring];

const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];

/// The look of series `index`; the first 280 differ (10 colours, 7 markers, 4 dashes).
pub(super) fn look(index: usize) -> Look {
    Look {
        colour: COLOURS[index % COLOURS.len()],
        marker: MARKERS[index % MARKERS.len()],
        dash: DASHES[index / COLOURS.len() % DASHES.len()],
    }
}

/// Adds a marker at pixel `(x, y)` to `svg`.
pub(super) fn draw_marker(svg: &mut String, look: Look, x: f64, y: f64) {
    let colour = look.colour;
    let polygon = |points: &[(f64, f64)]| {
        let points: Vec<String> = points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
        format!("<polygon points=\"{}\" fill=\"{colour}\"/>", points.join(" "))
    };
    let shape = match look.marker {
        Marker::Disc => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\" fill=\"{colour}\"/>"),
        Marker::Ring => {
            format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.4\" fill=\"#ffffff\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
            )
        }
        Marker::Square => polygon(&[(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)]),
        Marker::Triangle => polygon(&[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)]),
        Marker::Down => polygon(&[(0.0, 4.4), (4.2, -3.2), (-4.2, -3.2)]),
        Marker::Diamond => polygon(&[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)]),
        Marker::Cross => {
            let (l, r, t, b) = (x - 3.6, x + 3.6, y - 3.6, y + 3.6);
            format!(
                "<path d=\"M{l:.1} {t:.1}L{r:.1} {b:.1}M{l:.1} {b:.1}L{r:.1} {t:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            )
        }
    };
    let _ = writeln!(svg, "{shape}");
}
