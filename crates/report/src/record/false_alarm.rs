//! Defects found when only so many good parts may be rejected: the number an inspection line is run by.

use serde::{Deserialize, Serialize};

use crate::stats::Proportion;

/// How much each sample looks like any defect at all.
#[derive(Clone, Debug, PartialEq)]
pub struct DefectScores {
    /// Index of the class without defect.
    pub ok: usize,
    /// True class of each sample.
    pub labels: Vec<usize>,
    /// `1 - p(ok)` of each sample.
    pub scores: Vec<f64>,
}

impl DefectScores {
    fn of_good(&self) -> Vec<f64> {
        let good = self.labels.iter().zip(&self.scores).filter(|&(&label, _)| label == self.ok);
        good.map(|(_, &score)| score).collect()
    }
}

/// Recall of "any defect" with the threshold set so that few good samples are rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FalseAlarmPoint {
    /// False-alarm rate that was allowed, in `[0, 1)`.
    pub rate: f64,
    /// A sample counts as a defect when its score is above this.
    pub threshold: f64,
    /// Whether the threshold was set on validation samples; otherwise on the samples it is judged on, which flatters.
    pub from_validation: bool,
    /// Good samples that set the threshold.
    pub chosen_on: u64,
    /// Good samples rejected out of all good samples judged.
    pub false_alarms: Proportion,
    /// Defects found out of all defects judged.
    pub recall: Proportion,
    /// Defects found per true class; the ok class is 0 of 0.
    pub by_class: Vec<Proportion>,
}

/// Recall on `test` at the lowest threshold that rejects at most `rate` of the good samples of `choose`.
///
/// * `choose`: validation scores that set the threshold; `None` sets it on `test` itself, which is optimistic;
/// * `rate`: allowed false-alarm rate, in `[0, 1)`.
///
/// Equal scores fall on the same side, so ties reject fewer good samples, never more.
/// `None` when there is no good sample to set the threshold on, no defect to find, or `rate` is out of range.
pub fn recall_at_false_alarm(choose: Option<&DefectScores>, test: &DefectScores, rate: f64) -> Option<FalseAlarmPoint> {
    if !(0.0..1.0).contains(&rate) {
        return None;
    }
    let mut good = choose.unwrap_or(test).of_good();
    good.sort_unstable_by(|a, b| b.total_cmp(a));
    // 0.05 * 100 must allow five in spite of binary fractions.
    let allowed = (rate * good.len() as f64 + 1e-9).floor() as usize;
    let threshold = *good.get(allowed)?;
    let classes = test.labels.iter().max().map_or(0, |&last| last + 1).max(test.ok + 1);
    let mut by_class = vec![Proportion::default(); classes];
    for (&label, &score) in test.labels.iter().zip(&test.scores) {
        by_class[label].total += 1;
        by_class[label].hits += u64::from(score > threshold);
    }
    let false_alarms = std::mem::take(&mut by_class[test.ok]);
    let recall = Proportion {
        hits: by_class.iter().map(|class| class.hits).sum(),
        total: by_class.iter().map(|class| class.total).sum(),
    };
    (recall.total > 0).then(|| FalseAlarmPoint {
        rate,
        threshold,
        from_validation: choose.is_some(),
        chosen_on: good.len() as u64,
        false_alarms,
        recall,
        by_class,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty good samples scoring 0.00, 0.05 .. 0.95, and defects as given.
    fn scores(defects: &[(usize, f64)]) -> DefectScores {
        let good = (0..20).map(|i| (0, f64::from(i) / 20.0));
        let (labels, scores) = good.chain(defects.iter().copied()).unzip();
        DefectScores { ok: 0, labels, scores }
    }

    #[test]
    fn one_of_twenty_may_be_rejected_at_five_percent() {
        let test = scores(&[(1, 0.99), (1, 0.90), (2, 0.91), (2, 0.2)]);
        let point = recall_at_false_alarm(None, &test, 0.05).unwrap();
        assert_eq!(point.threshold, 0.90);
        assert_eq!(point.false_alarms, Proportion { hits: 1, total: 20 });
        assert_eq!(point.recall, Proportion { hits: 2, total: 4 });
        assert_eq!(point.by_class[1], Proportion { hits: 1, total: 2 });
        assert_eq!(point.by_class[2], Proportion { hits: 1, total: 2 });
        assert!(!point.from_validation);
    }

    #[test]
    fn twenty_good_samples_allow_no_alarm_at_one_percent() {
        let point = recall_at_false_alarm(None, &scores(&[(1, 0.99), (1, 0.94)]), 0.01).unwrap();
        assert_eq!(point.threshold, 0.95);
        assert_eq!(point.false_alarms.hits, 0);
        assert_eq!(point.recall, Proportion { hits: 1, total: 2 });
    }

    #[test]
    fn the_validation_split_sets_the_threshold_when_given() {
        let validation = DefectScores { ok: 0, labels: vec![0, 0], scores: vec![0.1, 0.5] };
        let point = recall_at_false_alarm(Some(&validation), &scores(&[(1, 0.6)]), 0.05).unwrap();
        assert_eq!((point.threshold, point.from_validation, point.chosen_on), (0.5, true, 2));
        assert_eq!(point.false_alarms, Proportion { hits: 9, total: 20 });
        assert_eq!(point.recall, Proportion { hits: 1, total: 1 });
    }

    #[test]
    fn ties_never_exceed_the_rate() {
        let tied = DefectScores { ok: 0, labels: vec![0, 0, 0, 0, 1], scores: vec![0.5, 0.5, 0.5, 0.1, 0.5] };
        let point = recall_at_false_alarm(None, &tied, 0.25).unwrap();
        assert_eq!(point.false_alarms.hits, 0);
        assert_eq!(point.recall.hits, 0);
    }

    #[test]
    fn undefined_points_are_none() {
        let only_good = scores(&[]);
        assert_eq!(recall_at_false_alarm(None, &only_good, 0.05), None);
        let only_bad = DefectScores { ok: 0, labels: vec![1], scores: vec![0.5] };
        assert_eq!(recall_at_false_alarm(None, &only_bad, 0.05), None);
        assert_eq!(recall_at_false_alarm(None, &scores(&[(1, 0.5)]), 1.0), None);
    }
}
