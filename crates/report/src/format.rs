//! Numbers as people read them. `n/a` stands for what is not known.

use crate::stats::{Interval, Proportion, Ratio};

/// Text for a value that is not known.
pub const UNKNOWN: &str = "n/a";

/// `f` of the value, or [`UNKNOWN`].
pub fn or_unknown<T>(value: Option<T>, f: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.into(), f)
}

/// Bytes in B, KiB, MiB or GiB with three significant digits.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        // 1023.5 would print as "1024" of the smaller unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{} {unit}", significant(value))
}

/// Milliseconds with three significant digits.
pub fn milliseconds(ms: f64) -> String {
    if ms > 0.0 && ms < 0.1 {
        return format!("{} µs", significant(ms * 1000.0));
    }
    format!("{} ms", significant(ms))
}

/// Seconds, or minutes and seconds from two minutes on.
pub fn seconds(seconds: f64) -> String {
    if seconds >= 120.0 {
        return format!("{} min {:02} s", (seconds / 60.0).floor(), (seconds % 60.0).floor());
    }
    format!("{seconds:.1} s")
}

/// A whole number with a comma between thousands.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in thousands, millions or billions with three significant digits.
pub fn large(count: u64) -> String {
    let value = count as f64;
    match count {
        0..10_000 => self::count(count),
        10_000..1_000_000 => format!("{} k", significant(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} M", significant(value / 1e6)),
        _ => format!("{} G", significant(value / 1e9)),
    }
}

/// A fraction as percent with one decimal.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// A removed fraction as percent, with as many decimals as it has, at least one: 99.99 % is not 100.0 %.
pub fn sparsity(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let exact = |decimals: &usize| {
        let scale = 10f64.powi(*decimals as i32);
        ((percent * scale).round() / scale - percent).abs() < 1e-9
    };
    format!("{percent:.0$} %", (1..9).find(exact).unwrap_or(9))
}

/// A signed change in percentage points, with a true minus sign.
pub fn points(points: f64) -> String {
    let text = format!("{:.1}", points.abs());
    match text.as_str() {
        "0.0" => "±0.0 points".into(),
        _ => format!("{}{text} points", if points < 0.0 { "−" } else { "+" }),
    }
}

/// A factor, for example `8.1×`.
pub fn times(ratio: f64) -> String {
    format!("{}×", if ratio < 10.0 { format!("{ratio:.2}") } else { significant(ratio) })
}

/// A ratio with its interval, for example `1.84× (1.80 to 1.89)`.
pub fn ratio(ratio: &Ratio) -> String {
    format!("{:.2}× ({:.2} to {:.2})", ratio.ratio, ratio.low, ratio.high)
}

/// A proportion as percent.
pub fn share(proportion: Proportion) -> String {
    or_unknown(proportion.value(), percent)
}

/// An interval of fractions as percent, for example `90.1 to 98.4 %`.
pub fn interval(interval: Interval) -> String {
    format!("{:.1} to {:.1} %", interval.low * 100.0, interval.high * 100.0)
}

/// A number of threads.
pub fn threads(threads: usize) -> String {
    if threads == 1 { "1 thread".into() } else { format!("{threads} threads") }
}

/// A number of images.
pub fn images(images: u64) -> String {
    if images == 1 { "1 image".into() } else { format!("{} images", count(images)) }
}

/// A shape, for example `16×3×3×3`.
pub fn shape(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn significant(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits() {
        let texts = [0, 1023, 1024, 10_240, 1_048_000, 1_048_576, 5_000_000_000].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.00 KiB", "10.0 KiB", "1023 KiB", "1.00 MiB", "4.66 GiB"]);
        assert_eq!(bytes(1_048_575), "1.00 MiB");
    }

    #[test]
    fn counts_group_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([9_999, 12_345, 4_200_000].map(large), ["9,999", "12.3 k", "4.20 M"]);
    }

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!([0.31, -0.31, 0.04].map(points), ["+0.3 points", "−0.3 points", "±0.0 points"]);
        assert_eq!([0.5, 8.134, 31.6].map(times), ["0.50×", "8.13×", "31.6×"]);
    }

    #[test]
    fn sparsities_that_differ_look_different() {
        let texts = [0.0, 0.9, 0.98, 0.975, 0.9995, 0.9999, 2.0 / 3.0].map(sparsity);
        assert_eq!(texts, ["0.0 %", "90.0 %", "98.0 %", "97.5 %", "99.95 %", "99.99 %", "66.666666667 %"]);
    }

    #[test]
    fn times_pick_their_unit() {
        assert_eq!([0.0421, 0.5, 12.345].map(milliseconds), ["42.1 µs", "0.50 ms", "12.3 ms"]);
        assert_eq!([9.25, 185.0].map(seconds), ["9.2 s", "3 min 05 s"]);
    }
}
