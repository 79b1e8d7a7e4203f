//! One axis: from numbers to pixels, and where the ticks stand.

/// A range of numbers laid over a range of pixels.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Bounds, as logarithms to base ten when `log`.
    low: f64,
    high: f64,
    /// Pixels of `low` and `high`.
    from: f64,
    to: f64,
    log: bool,
    percent: bool,
}

/// Share of the range that is left free at both ends.
const AIR: f64 = 0.04;

impl Axis {
    /// An axis over all finite `values` (above 0 when `log`) with some air; `None` when there is none.
    pub(super) fn over(
        values: impl Iterator<Item = f64>,
        pixels: (f64, f64),
        log: bool,
        percent: bool,
    ) -> Option<Self> {
        let shown = values.filter(|v| v.is_finite() && (!log || *v > 0.0)).map(|v| if log { v.log10() } else { v });
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        let span = if high > low { high - low } else { high.abs().max(1.0) * 0.1 };
        let (low, high) = (low - span * AIR, high + span * AIR);
        Some(Axis { low, high, from: pixels.0, to: pixels.1, log, percent })
    }

    /// Pixel of `value`; `None` when it cannot be drawn. Values outside the range are drawn at its end.
    pub(super) fn pixel(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        let value = if self.log { value.log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        Some(self.from + share * (self.to - self.from))
    }

    /// Whether `value` lies inside the range.
    pub(super) fn shows(&self, value: f64) -> bool {
        let value = if self.log { value.log10() } else { value };
        (self.low..=self.high).contains(&value)
    }

    /// Pixel and label of about `wanted` ticks.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let values = if self.log { self.decades(wanted) } else { Vec::new() };
        // Less than a decade has too few powers of ten to read values from.
        if values.len() >= 2 {
            return values.into_iter().filter_map(|v| Some((self.pixel(v)?, plain(v)))).collect();
        }
        let (low, high) = if self.log { (10f64.powf(self.low), 10f64.powf(self.high)) } else { (self.low, self.high) };
        let step = nice_step((high - low) / wanted as f64);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        (first..=last).filter_map(|i| Some((self.pixel(i as f64 * step)?, self.label(i, step)))).collect()
    }

    fn decades(&self, wanted: usize) -> Vec<f64> {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        let every = ((last - first).max(0) as usize / wanted.max(1) + 1) as i32;
        let tens = (first..=last).filter(|e| e.rem_euclid(every) == 0);
        tens.map(|e| if e < 0 { 1.0 / 10f64.powi(-e) } else { 10f64.powi(e) }).collect()
    }

    /// `index * step` with just the decimals that `step` needs.
    fn label(&self, index: i64, step: f64) -> String {
        let (value, step) =
            if self.percent { (index as f64 * step * 100.0, step * 100.0) } else { (index as f64 * step, step) };
        if value != 0.0 && (value.abs() >= 1e6 || step < 1e-5) {
            return format!("{value:.2e}");
        }
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        format!("{value:.decimals$}{}", if self.percent { " %" } else { "" })
    }
}

/// The next of 1, 2, 5 times a power of ten at or above `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

fn plain(value: f64) -> String {
    if (1e-3..1e4).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: [f64; 2], log: bool, percent: bool) -> Vec<String> {
        let axis = Axis::over(values.into_iter(), (0.0, 100.0), log, percent).unwrap();
        axis.ticks(5).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers_with_the_decimals_they_need() {
        assert_eq!(labels([0.0, 1.0], false, false), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels([0.8, 0.98], false, true), ["80 %", "85 %", "90 %", "95 %"]);
        assert_eq!(labels([-3.0, 12.0], false, false), ["0", "5", "10"]);
        assert_eq!(labels([0.9912, 0.9918], false, true), ["99.12 %", "99.14 %", "99.16 %", "99.18 %"]);
        assert_eq!(labels([2.0, 3.0], true, false), ["2.0", "2.5", "3.0"]);
    }

    #[test]
    fn ends_lie_inside_and_outside_values_are_held_at_the_edge() {
        let axis = Axis::over([1.0, 2.0].into_iter(), (100.0, 0.0), false, false).unwrap();
        let (low, high) = (axis.pixel(1.0).unwrap(), axis.pixel(2.0).unwrap());
        assert!(low < 100.0 && low > 90.0 && high > 0.0 && high < 10.0, "{low} {high}");
        assert_eq!(axis.pixel(9.0), Some(0.0));
        assert_eq!(axis.pixel(f64::NAN), None);
    }
}
