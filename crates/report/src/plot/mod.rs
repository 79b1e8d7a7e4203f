//! One plot as a standalone SVG file: series of points with intervals, axes, a legend, and vertical marks.
//!
//! Made for many series at once: each has a colour, a marker and, after the colours are used up, a dash of its own, and
//! series that share their x are set a few pixels apart so that their intervals do not hide each other.

mod axis;
mod draw;
mod looks;

use serde::{Deserialize, Serialize};

use crate::error::ReportError;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Line above the plot.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// Whether x is a fraction that is shown as percent.
    pub x_percent: bool,
    /// Whether y is a fraction that is shown as percent.
    pub y_percent: bool,
    /// Whether y is drawn logarithmically; points at or below 0 are left out then.
    pub log_y: bool,
    /// Curves or clouds, in the order of the legend.
    pub series: Vec<Series>,
    /// Vertical lines with a word each.
    pub marks: Vec<Mark>,
}

/// Points that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points; a point that is not finite is left out and breaks the line.
    pub points: Vec<Point>,
    /// Whether the points are joined by a line.
    pub line: bool,
}

/// One value with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Position.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Lower bound of the interval, if there is one. Where it leaves the plot its bar has no cap.
    pub low: Option<f64>,
    /// Upper bound of the interval, if there is one.
    pub high: Option<f64>,
}

/// A vertical line, for example at the sparsity that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Position.
    pub x: f64,
    /// What is there.
    pub label: String,
}

impl Point {
    /// A value without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Point { x, y, low: None, high: None }
    }
}

impl Plot {
    /// The plot as a whole SVG file on a white background. Equal plots give equal bytes.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when no point is finite (with `log_y`: finite and above 0).
    pub fn svg(&self) -> Result<String, ReportError> {
        draw::svg(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(series: usize, points: usize) -> Plot {
        let point = |s: usize, i: usize| {
            let (x, y) = (0.5 + 0.49 * i as f64 / points as f64, 0.9 - 0.01 * s as f64 - 0.002 * (i * i) as f64);
            Point { x, y, low: Some(y - 0.01), high: Some(y + 0.01) }
        };
        let one =
            |s| Series { name: format!("method {s}"), points: (0..points).map(|i| point(s, i)).collect(), line: true };
        Plot {
            title: "Accuracy against sparsity".into(),
            x_label: "weights removed".into(),
            y_label: "validation accuracy".into(),
            x_percent: true,
            y_percent: true,
            series: (0..series).map(one).collect(),
            marks: vec![Mark { x: 0.8, label: "chosen".into() }],
            ..Plot::default()
        }
    }

    #[test]
    fn twelve_series_look_different_from_each_other() {
        let svg = plot(12, 5).svg().unwrap();
        for s in 0..12 {
            assert!(svg.contains(&format!(">method {s}</text>")), "{s}");
        }
        let looks: std::collections::BTreeSet<_> = (0..40).map(|i| format!("{:?}", looks::look(i))).collect();
        assert_eq!(looks.len(), 40, "colour, marker and dash together are unique");
        assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("fill=\"#ffffff\"") && svg.contains(">chosen</text>") && svg.contains("90 %"), "{svg}");
    }

    #[test]
    fn intervals_are_bars_for_few_points_and_a_band_for_many() {
        let (few, many) = (plot(1, 5).svg().unwrap(), plot(1, 60).svg().unwrap());
        assert_eq!((few.matches("class=\"bar\"").count(), few.matches("class=\"band\"").count()), (5, 0));
        assert_eq!((many.matches("class=\"bar\"").count(), many.matches("class=\"band\"").count()), (0, 1));
    }

    #[test]
    fn an_interval_far_wider_than_the_differences_loses_its_cap_and_does_not_flatten_them() {
        let caps = |svg: &str| {
            let bars = svg.lines().filter(|l| l.contains("class=\"bar\""));
            bars.map(|l| l.matches('M').count() - 1).collect::<Vec<_>>()
        };
        let mut plot = plot(2, 3);
        assert_eq!(caps(&plot.svg().unwrap()), [2; 6]);
        (plot.series[0].points[1].low, plot.series[0].points[1].high) = (Some(-5.0), Some(5.0));
        let svg = plot.svg().unwrap();
        assert_eq!(caps(&svg), [2, 0, 2, 2, 2, 2]);
        assert!(svg.contains(">90 %<") && !svg.contains(">200 %<"), "{svg}");
        // Equal values: the interval is all there is to see.
        plot.series = vec![Series {
            name: "a".into(),
            points: vec![Point { x: 0.5, y: 0.5, low: Some(0.4), high: Some(0.6) }],
            line: true,
        }];
        assert_eq!(caps(&plot.svg().unwrap()), [2]);
    }

    #[test]
    fn names_are_escaped() {
        let mut plot = plot(1, 2);
        plot.series[0].name = "<script>&\"".into();
        let svg = plot.svg().unwrap();
        assert!(svg.contains("&lt;script&gt;&amp;&quot;") && !svg.contains("<script>"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_an_error_that_names_the_plot() {
        let error = plot(0, 0).svg().unwrap_err().to_string();
        assert!(error.contains("Accuracy against sparsity"), "{error}");
        let mut none = plot(1, 1);
        none.log_y = true;
        none.series[0].points[0].y = 0.0;
        assert!(none.svg().is_err());
    }

    #[test]
    fn a_point_that_is_not_finite_breaks_the_line_and_nothing_else() {
        let mut plot = plot(1, 5);
        plot.series[0].points[2].y = f64::NAN;
        plot.series[0].points[4].high = Some(f64::INFINITY);
        let svg = plot.svg().unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("class=\"line\"").count(), 2, "two pieces");
        assert_eq!(svg.matches("class=\"bar\"").count(), 3);
    }

    #[test]
    fn one_point_and_equal_values_still_have_axes() {
        let mut plot = plot(1, 1);
        (plot.x_percent, plot.y_percent) = (false, false);
        plot.series[0].points = vec![Point::new(3.0, 0.0), Point::new(3.0, 0.0)];
        plot.marks.clear();
        assert!(plot.svg().unwrap().matches("class=\"tick\"").count() >= 4);
    }

    #[test]
    fn a_logarithmic_axis_has_its_ticks_at_powers_of_ten() {
        let mut plot = plot(1, 3);
        (plot.y_percent, plot.log_y) = (false, true);
        plot.series[0].points = [1e-2, 1.0, 1e4_f64].map(|y| Point::new(y.log10(), y)).to_vec();
        let svg = plot.svg().unwrap();
        for label in [">0.01<", ">1<", ">1e4<"] {
            assert!(svg.contains(label), "{label} in {svg}");
        }
    }
}
