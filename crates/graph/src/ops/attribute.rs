//! One attribute of an op, open for reading and writing: the only place that knows how attributes look as text.

/// A borrowed attribute. Lists are written with commas: `pad=1,0,1,0`.
///
/// A fixed-length list accepts a shorter one that divides its length and is then repeated: `stride=2` is `2,2`,
/// `pad=1,2` is `1,2,1,2`.
#[derive(Debug, PartialEq)]
pub enum Attribute<'a> {
    /// One count or axis.
    Count(&'a mut usize),
    /// One real number.
    Real(&'a mut f32),
    /// `true` or `false`.
    Flag(&'a mut bool),
    /// A list of fixed length.
    Fixed(&'a mut [usize]),
    /// A list of any length; `end` stands for "to the end".
    Counts(&'a mut Vec<usize>),
    /// A list of signed numbers.
    Signed(&'a mut Vec<i64>),
    /// Pairs `before:after`.
    Pairs(&'a mut Vec<(usize, usize)>),
}

/// Text that is no value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct AttributeError {
    /// What would fit.
    pub expected: &'static str,
    /// The text found.
    pub found: String,
}

const TO_THE_END: &str = "end";

impl Attribute<'_> {
    /// Writes the value that `text` stands for.
    ///
    /// # Errors
    /// [`AttributeError`] when it stands for none.
    pub fn read(&mut self, text: &str) -> Result<(), AttributeError> {
        let wrong = |expected| AttributeError { expected, found: text.to_string() };
        match self {
            Attribute::Count(v) => **v = text.parse().map_err(|_| wrong("a count"))?,
            Attribute::Real(v) => **v = text.parse().map_err(|_| wrong("a number"))?,
            Attribute::Flag(v) => **v = text.parse().map_err(|_| wrong("true or false"))?,
            Attribute::Fixed(v) => {
                let given: Vec<usize> = list(text, |t| t.parse().ok()).ok_or_else(|| wrong("counts"))?;
                if given.is_empty() || v.len() % given.len() != 0 {
                    return Err(wrong(if v.len() == 2 { "1 or 2 counts" } else { "1, 2 or 4 counts" }));
                }
                for (slot, value) in v.iter_mut().zip(given.iter().cycle()) {
                    *slot = *value;
                }
            }
            Attribute::Counts(v) => **v = list(text, count_or_end).ok_or_else(|| wrong("counts"))?,
            Attribute::Signed(v) => **v = list(text, |t| t.parse().ok()).ok_or_else(|| wrong("whole numbers"))?,
            Attribute::Pairs(v) => **v = list(text, pair).ok_or_else(|| wrong("pairs before:after"))?,
        }
        Ok(())
    }

    /// The value as text; [`Attribute::read`] takes it back.
    pub fn text(&self) -> String {
        match self {
            Attribute::Count(v) => v.to_string(),
            Attribute::Real(v) => real(**v),
            Attribute::Flag(v) => v.to_string(),
            Attribute::Fixed(v) => {
                let all_equal = v.iter().all(|x| *x == v[0]);
                let halves_equal = v.len() == 4 && v[..2] == v[2..];
                let shown = if all_equal {
                    1.min(v.len())
                } else if halves_equal {
                    2
                } else {
                    v.len()
                };
                joined(&v[..shown], usize::to_string)
            }
            Attribute::Counts(v) => {
                joined(v, |n| if *n == usize::MAX { TO_THE_END.to_string() } else { n.to_string() })
            }
            Attribute::Signed(v) => joined(v, i64::to_string),
            Attribute::Pairs(v) => joined(v, |(before, after)| format!("{before}:{after}")),
        }
    }
}

fn list<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if text.is_empty() { Some(vec![]) } else { text.split(',').map(item).collect() }
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(",")
}

fn count_or_end(text: &str) -> Option<usize> {
    if text == TO_THE_END { Some(usize::MAX) } else { text.parse().ok() }
}

fn pair(text: &str) -> Option<(usize, usize)> {
    let (before, after) = text.split_once(':')?;
    Some((before.parse().ok()?, after.parse().ok()?))
}

/// Shortest text that reads back as the same number; small and large ones with an exponent.
fn real(value: f32) -> String {
    let plain = value == 0.0 || !value.is_finite() || (1e-3..1e7).contains(&value.abs());
    if plain { format!("{value}") } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_list_fills_a_longer_one_and_is_printed_short_again() {
        let mut pads = [9; 4];
        for (text, value) in [("1", [1, 1, 1, 1]), ("1,2", [1, 2, 1, 2]), ("0,1,2,3", [0, 1, 2, 3])] {
            Attribute::Fixed(&mut pads).read(text).unwrap();
            assert_eq!(pads, value);
            assert_eq!(Attribute::Fixed(&mut pads).text(), text);
        }
    }

    #[test]
    fn every_kind_reads_back_what_it_prints() {
        let (mut count, mut number, mut flag) = (7, 1e-5, true);
        let (mut counts, mut signed, mut pairs) = (vec![1, usize::MAX], vec![0, -1], vec![(0, 1), (2, 3)]);
        let cases = [
            (Attribute::Count(&mut count), "7"),
            (Attribute::Real(&mut number), "1e-5"),
            (Attribute::Flag(&mut flag), "true"),
            (Attribute::Counts(&mut counts), "1,end"),
            (Attribute::Signed(&mut signed), "0,-1"),
            (Attribute::Pairs(&mut pairs), "0:1,2:3"),
        ];
        for (mut attribute, text) in cases {
            assert_eq!(attribute.text(), text);
            attribute.read(text).unwrap();
            assert_eq!(attribute.text(), text);
        }
    }

    #[test]
    fn infinite_bounds_survive_text() {
        let mut bound = f32::NEG_INFINITY;
        let text = Attribute::Real(&mut bound).text();
        let mut other = 0.0;
        Attribute::Real(&mut other).read(&text).unwrap();
        assert_eq!(other, f32::NEG_INFINITY);
    }

    #[test]
    fn text_that_is_no_value_is_refused() {
        let mut pads = [0; 4];
        for text in ["", "1,2,3", "-1", "x", "1,,2"] {
            assert!(Attribute::Fixed(&mut pads).read(text).is_err(), "{text}");
        }
        assert!(Attribute::Flag(&mut false).read("1").is_err());
        assert!(Attribute::Pairs(&mut vec![]).read("1-2").is_err());
    }
}
