//! Seeded splits: per class without groups, by whole groups with them.

use crate::dataset::Split;
use crate::draws::{Draws, derive_seed};
use crate::error::DataError;
use std::collections::BTreeMap;

/// Fractions of the samples held back; the rest is trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitRatios {
    /// Fraction for validation, in `[0, 1)`.
    pub val: f64,
    /// Fraction for the test, in `[0, 1)`; `val + test` must be below 1.
    pub test: f64,
}

impl Default for SplitRatios {
    fn default() -> Self {
        SplitRatios { val: 0.15, test: 0.15 }
    }
}

impl SplitRatios {
    pub(crate) fn check(self) -> Result<(), DataError> {
        let fraction = |v: f64| (0.0..1.0).contains(&v);
        if fraction(self.val) && fraction(self.test) && self.val + self.test < 1.0 {
            return Ok(());
        }
        Err(DataError::Option(format!(
            "split ratios val {} and test {} must each be in [0, 1) and sum to less than 1",
            self.val, self.test
        )))
    }
}

/// One sample to be split: its class and, where known, its group and its split.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub label: u32,
    pub group: Option<String>,
    pub given: Option<Split>,
}

/// Fills in the splits that are not given.
///
/// Validation and test samples are drawn from the rows that are free (nothing given, or `Train`), and only for a split
/// that no row was given. Of `n` free samples of a class, `round(n * test)` go to the test and `round(n * val)` to
/// validation (halves up; at least 1 each when the ratio is above 0 and `n >= 3`), the rest to training.
/// With groups, whole groups go where the most of those quotas is still open, so the counts are met only about.
pub(crate) fn complete(rows: &[Row], ratios: SplitRatios, seed: u64) -> Vec<Split> {
    let given = |split| rows.iter().any(|row| row.given == Some(split));
    let val = if given(Split::Val) { 0.0 } else { ratios.val };
    let test = if given(Split::Test) { 0.0 } else { ratios.test };
    let mut splits: Vec<Split> = rows.iter().map(|row| row.given.unwrap_or(Split::Train)).collect();
    let free: Vec<usize> = (0..rows.len()).filter(|&i| splits[i] == Split::Train).collect();

    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &index in &free {
        classes.entry(rows[index].label).or_default().push(index);
    }
    if free.iter().any(|&i| rows[i].group.is_some()) {
        let quotas = classes.iter().map(|(&class, of)| (class, quota(of.len(), val, test))).collect();
        by_groups(rows, &free, quotas, seed, &mut splits);
        return splits;
    }
    for (class, mut indices) in classes {
        let (val_count, test_count) = quota(indices.len(), val, test);
        Draws::new(derive_seed(seed, "split", &class.to_string()), 0).shuffle(&mut indices);
        for (position, index) in indices.into_iter().enumerate() {
            splits[index] = match position {
                p if p < test_count => Split::Test,
                p if p < test_count + val_count => Split::Val,
                _ => Split::Train,
            };
        }
    }
    splits
}

/// Validation and test samples to take from `count`; at least one sample is left for training.
fn quota(count: usize, val: f64, test: f64) -> (usize, usize) {
    let take = |ratio: f64| {
        let rounded = (count as f64 * ratio).round() as usize;
        if ratio > 0.0 && count >= 3 { rounded.max(1) } else { rounded }
    };
    let test_count = take(test).min(count.saturating_sub(1));
    (take(val).min(count.saturating_sub(1 + test_count)), test_count)
}

/// Places groups in seeded order, big ones first, each whole into test, validation or training.
///
/// A group is held back only when it does not overshoot the open quota of any class by more than it fills.
fn by_groups(rows: &[Row], free: &[usize], mut quotas: BTreeMap<u32, (usize, usize)>, seed: u64, splits: &mut [Split]) {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for &index in free {
        // A row without a group is a group of its own; the prefix keeps it apart from real names.
        let key = match &rows[index].group {
            Some(group) => format!("g{group}"),
            None => format!("i{index}"),
        };
        groups.entry(key).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    Draws::new(derive_seed(seed, "split", "groups"), 0).shuffle(&mut groups);
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    for group in groups {
        let mut of_class: BTreeMap<u32, usize> = BTreeMap::new();
        for &index in &group {
            *of_class.entry(rows[index].label).or_default() += 1;
        }
        let fits = |open: fn(&(usize, usize)) -> usize| {
            let filled: usize = of_class.iter().map(|(class, &n)| n.min(open(&quotas[class]))).sum();
            (2 * filled > group.len()).then_some(filled)
        };
        let (val, test) = (fits(|q| q.0), fits(|q| q.1));
        let target = match (val, test) {
            (None, None) => continue,
            (Some(v), t) if v > t.unwrap_or(0) => Split::Val,
            (_, None) => Split::Val,
            _ => Split::Test,
        };
        for (class, count) in of_class {
            let quota = quotas.get_mut(&class).expect("every class of a free row has a quota");
            let open = if target == Split::Val { &mut quota.0 } else { &mut quota.1 };
            *open = open.saturating_sub(count);
        }
        for index in group {
            splits[index] = target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(labels: &[u32]) -> Vec<Row> {
        labels.iter().map(|&label| Row { label, ..Row::default() }).collect()
    }

    fn count(splits: &[Split], rows: &[Row], label: u32, split: Split) -> usize {
        splits.iter().zip(rows).filter(|(s, r)| **s == split && r.label == label).count()
    }

    #[test]
    fn each_class_is_split_by_the_stated_rounding() {
        let labels: Vec<u32> = std::iter::repeat_n(0, 50).chain(std::iter::repeat_n(1, 7)).collect();
        let rows = rows(&labels);
        let splits = complete(&rows, SplitRatios { val: 0.1, test: 0.25 }, 1);
        let of = |label| [Split::Train, Split::Val, Split::Test].map(|s| count(&splits, &rows, label, s));
        assert_eq!(of(0), [32, 5, 13]); // 12.5 rounds up
        assert_eq!(of(1), [4, 1, 2]); // 0.7 and 1.75
    }

    #[test]
    fn the_seed_alone_decides() {
        let rows = rows(&[0, 1].repeat(40));
        let ratios = SplitRatios::default();
        assert_eq!(complete(&rows, ratios, 5), complete(&rows, ratios, 5));
        assert_ne!(complete(&rows, ratios, 5), complete(&rows, ratios, 6));
    }

    #[test]
    fn given_test_rows_stay_and_validation_comes_out_of_training() {
        let mut rows = rows(&[0, 1].repeat(20));
        for (i, row) in rows.iter_mut().enumerate() {
            row.given = Some(if i < 30 { Split::Train } else { Split::Test });
        }
        let splits = complete(&rows, SplitRatios { val: 0.2, test: 0.5 }, 1);
        assert!(splits[30..].iter().all(|&s| s == Split::Test));
        assert_eq!(splits[..30].iter().filter(|&&s| s == Split::Val).count(), 6);
        assert_eq!(splits[..30].iter().filter(|&&s| s == Split::Test).count(), 0);
    }

    #[test]
    fn a_class_with_one_sample_is_trained_on() {
        let splits = complete(&rows(&[0, 1, 1, 1, 1]), SplitRatios { val: 0.3, test: 0.6 }, 1);
        assert_eq!(splits[0], Split::Train);
        assert!(splits.contains(&Split::Train));
    }

    #[test]
    fn ratios_that_leave_nothing_are_refused() {
        for (val, test) in [(0.5, 0.5), (-0.1, 0.2), (f64::NAN, 0.1), (0.0, 1.0)] {
            assert!(SplitRatios { val, test }.check().is_err(), "{val} {test}");
        }
        assert!(SplitRatios { val: 0.0, test: 0.0 }.check().is_ok());
    }

    proptest! {
        #[test]
        fn groups_are_never_torn_apart(
            samples in proptest::collection::vec((0u32..3, 0u32..12), 10..120), seed in 0u64..50,
        ) {
            let rows: Vec<Row> = samples
                .iter()
                .map(|&(label, group)| Row { label, group: Some(group.to_string()), given: None })
                .collect();
            let splits = complete(&rows, SplitRatios { val: 0.2, test: 0.2 }, seed);
            for (a, b) in (0..rows.len()).zip(1..rows.len()) {
                if rows[a].group == rows[b].group {
                    prop_assert_eq!(splits[a], splits[b]);
                }
            }
        }
    }

    #[test]
    fn many_small_groups_come_close_to_the_quota() {
        let rows: Vec<Row> =
            (0..400).map(|i| Row { label: (i / 4) % 2, group: Some((i / 4).to_string()), given: None }).collect();
        let splits = complete(&rows, SplitRatios { val: 0.1, test: 0.2 }, 1);
        for label in 0..2 {
            assert_eq!(count(&splits, &rows, label, Split::Val), 20);
            assert_eq!(count(&splits, &rows, label, Split::Test), 40);
        }
    }
}
