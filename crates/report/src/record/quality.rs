//! How well a model sorts samples: confusion counts and what follows from them.

use serde::{Deserialize, Serialize};

use super::false_alarm::{DefectScores, FalseAlarmPoint, recall_at_false_alarm};
use crate::error::ReportError;
use crate::stats::Proportion;

/// False-alarm rates every report states.
pub const FALSE_ALARM_RATES: [f64; 2] = [0.01, 0.05];

/// What a model said about each sample of a split. Input to [`Quality::of`] and [`flipped`]; reports keep only those.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Name of each sample, for example its file; used to find its picture.
    pub samples: Vec<String>,
    /// True class of each sample.
    pub labels: Vec<usize>,
    /// Score of each class for each sample, `[samples][classes]`; higher means more likely.
    /// Probabilities where recall at a false-alarm rate is wanted.
    pub scores: Vec<Vec<f32>>,
}

impl Predictions {
    /// The class with the highest score per sample; ties go to the lower class.
    pub fn predicted(&self) -> Vec<usize> {
        let best = |row: &Vec<f32>| {
            let mut best = 0;
            for (class, score) in row.iter().enumerate() {
                if *score > row[best] {
                    best = class;
                }
            }
            best
        };
        self.scores.iter().map(best).collect()
    }

    /// The evidence against `ok` per sample: the sum of the other scores, which is `1 - p(ok)` without its rounding.
    pub fn defect_scores(&self, ok: usize) -> DefectScores {
        let score = |row: &Vec<f32>| {
            let others = row.iter().enumerate().filter(|&(class, _)| class != ok);
            others.map(|(_, &score)| f64::from(score)).sum()
        };
        DefectScores { ok, labels: self.labels.clone(), scores: self.scores.iter().map(score).collect() }
    }

    fn check(&self, classes: usize) -> Result<(), ReportError> {
        let (samples, labels, scores) = (self.samples.len(), self.labels.len(), self.scores.len());
        if samples != labels || samples != scores {
            return Err(ReportError::Lengths { samples, labels, scores });
        }
        if let Some((sample, &label)) = self.samples.iter().zip(&self.labels).find(|&(_, &label)| label >= classes) {
            return Err(ReportError::Label { sample: sample.clone(), label, classes });
        }
        for (sample, row) in self.samples.iter().zip(&self.scores) {
            if row.len() != classes {
                return Err(ReportError::Scores { sample: sample.clone(), scores: row.len(), classes });
            }
            if row.iter().any(|score| !score.is_finite()) {
                return Err(ReportError::NotFinite { sample: sample.clone() });
            }
        }
        Ok(())
    }
}

/// Counts on one split; every rate is derived from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Class names.
    pub classes: Vec<String>,
    /// The class without defect, if the task is an inspection.
    pub ok_class: Option<usize>,
    /// Number of samples per true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
    /// Recall at each rate of [`FALSE_ALARM_RATES`], for inspections.
    pub false_alarms: Vec<FalseAlarmPoint>,
}

impl Quality {
    /// Counts what `test` says.
    ///
    /// * `classes`: one name per class;
    /// * `ok_class`: index of the class without defect, if any;
    /// * `validation`: predictions of the same model that set the thresholds for recall at a false-alarm rate; without
    ///   them the thresholds come from `test` itself, which is optimistic, and the points say so.
    ///
    /// # Errors
    /// [`ReportError`] when lengths disagree, a label or the ok class is out of range, or a score is not finite.
    pub fn of(
        test: &Predictions,
        classes: &[String],
        ok_class: Option<usize>,
        validation: Option<&Predictions>,
    ) -> Result<Self, ReportError> {
        test.check(classes.len())?;
        validation.map_or(Ok(()), |v| v.check(classes.len()))?;
        if let Some(ok) = ok_class.filter(|&ok| ok >= classes.len()) {
            return Err(ReportError::OkClass { ok, classes: classes.len() });
        }
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for (&label, predicted) in test.labels.iter().zip(test.predicted()) {
            confusion[label][predicted] += 1;
        }
        let points = |ok| {
            let scores = test.defect_scores(ok);
            let choose = validation.map(|v| v.defect_scores(ok));
            FALSE_ALARM_RATES.into_iter().filter_map(move |rate| recall_at_false_alarm(choose.as_ref(), &scores, rate))
        };
        let false_alarms = ok_class.into_iter().flat_map(points).collect();
        Ok(Self { classes: classes.to_vec(), ok_class, confusion, false_alarms })
    }

    /// Samples on the diagonal out of all; its value is the accuracy.
    pub fn accuracy(&self) -> Proportion {
        let hits = (0..self.classes.len()).map(|class| self.count(class, class)).sum();
        Proportion { hits, total: self.confusion.iter().flatten().sum() }
    }

    /// Mean recall over the classes that have samples.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let recalls: Vec<f64> = (0..self.classes.len()).filter_map(|class| self.recall(class).value()).collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }

    /// Samples of `class` that were called so, out of those that are.
    pub fn recall(&self, class: usize) -> Proportion {
        let total = self.confusion.get(class).map_or(0, |row| row.iter().sum());
        Proportion { hits: self.count(class, class), total }
    }

    /// Samples of `class` that were called so, out of those that were called so.
    pub fn precision(&self, class: usize) -> Proportion {
        let total = (0..self.confusion.len()).map(|label| self.count(label, class)).sum();
        Proportion { hits: self.count(class, class), total }
    }

    /// Classes that are defects: all but the ok class, so all of them when there is none.
    pub fn defects(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.classes.len()).filter(|&class| Some(class) != self.ok_class)
    }

    /// Defects that were called ok, out of all defects; `None` without an ok class.
    pub fn missed_defects(&self) -> Option<Proportion> {
        let ok = self.ok_class?;
        let hits = self.defects().map(|class| self.count(class, ok)).sum();
        Some(Proportion { hits, total: self.defects().map(|class| self.recall(class).total).sum() })
    }

    /// Good samples that were called a defect, out of all good ones; `None` without an ok class.
    pub fn false_alarms(&self) -> Option<Proportion> {
        let good = self.recall(self.ok_class?);
        Some(Proportion { hits: good.total.saturating_sub(good.hits), total: good.total })
    }

    /// The lowest recall of a defect class that has samples, and its class.
    pub fn worst_defect(&self) -> Option<(usize, Proportion)> {
        let recalls = self.defects().map(|class| (class, self.recall(class)));
        let valued = recalls.filter_map(|(class, recall)| Some((class, recall, recall.value()?)));
        valued.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(class, recall, _)| (class, recall))
    }

    fn count(&self, label: usize, predicted: usize) -> u64 {
        self.confusion.get(label).and_then(|row| row.get(predicted)).copied().unwrap_or(0)
    }
}

/// A sample about which two models disagree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// Name of the sample, for example its file.
    pub sample: String,
    /// True class.
    pub label: usize,
    /// Class the first model gave.
    pub before: usize,
    /// Class the second model gave.
    pub after: usize,
    /// Score of the first model for its class.
    pub before_score: f32,
    /// Score of the second model for its class.
    pub after_score: f32,
}

/// The samples whose verdict changed, new mistakes first, then in the order of the split.
///
/// # Errors
/// [`ReportError::DifferentSamples`] when the predictions are not about the same samples in the same order.
pub fn flipped(baseline: &Predictions, pruned: &Predictions) -> Result<Vec<Flip>, ReportError> {
    if baseline.samples != pruned.samples || baseline.labels != pruned.labels {
        return Err(ReportError::DifferentSamples);
    }
    let mut flips = Vec::new();
    for (index, (before, after)) in baseline.predicted().into_iter().zip(pruned.predicted()).enumerate() {
        if before != after {
            flips.push(Flip {
                sample: baseline.samples[index].clone(),
                label: baseline.labels[index],
                before,
                after,
                before_score: baseline.scores[index][before],
                after_score: pruned.scores[index][after],
            });
        }
    }
    flips.sort_by_key(|flip| flip.before != flip.label);
    Ok(flips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(rows: &[(usize, [f32; 3])]) -> Predictions {
        Predictions {
            samples: (0..rows.len()).map(|i| format!("{i}.png")).collect(),
            labels: rows.iter().map(|row| row.0).collect(),
            scores: rows.iter().map(|row| row.1.to_vec()).collect(),
        }
    }

    fn names() -> Vec<String> {
        ["ok", "pit", "crack"].map(String::from).to_vec()
    }

    /// ok: 3 of 4 right; pit: 1 of 2 right, 1 missed; crack: 1 of 1 right.
    fn seven() -> Predictions {
        predictions(&[
            (0, [0.9, 0.1, 0.0]),
            (0, [0.8, 0.1, 0.1]),
            (0, [0.6, 0.4, 0.0]),
            (0, [0.3, 0.7, 0.0]),
            (1, [0.2, 0.8, 0.0]),
            (1, [0.7, 0.3, 0.0]),
            (2, [0.1, 0.0, 0.9]),
        ])
    }

    #[test]
    fn rates_follow_from_the_confusion_counts() {
        let quality = Quality::of(&seven(), &names(), Some(0), None).unwrap();
        assert_eq!(quality.confusion, [[3, 1, 0], [1, 1, 0], [0, 0, 1]]);
        assert_eq!(quality.accuracy(), Proportion { hits: 5, total: 7 });
        assert_eq!(quality.balanced_accuracy(), Some(0.75));
        assert_eq!(quality.precision(1), Proportion { hits: 1, total: 2 });
        assert_eq!(quality.missed_defects(), Some(Proportion { hits: 1, total: 3 }));
        assert_eq!(quality.false_alarms(), Some(Proportion { hits: 1, total: 4 }));
        assert_eq!(quality.worst_defect(), Some((1, Proportion { hits: 1, total: 2 })));
    }

    #[test]
    fn new_mistakes_come_before_repaired_ones() {
        let mut pruned = seven();
        pruned.scores[3] = vec![0.9, 0.1, 0.0];
        pruned.scores[4] = vec![0.9, 0.1, 0.0];
        let flips = flipped(&seven(), &pruned).unwrap();
        let seen: Vec<_> = flips.iter().map(|f| (f.sample.as_str(), f.label, f.before, f.after)).collect();
        assert_eq!(seen, [("4.png", 1, 1, 0), ("3.png", 0, 1, 0)]);
        assert_eq!(flipped(&seven(), &seven()).unwrap(), []);
    }

    #[test]
    fn bad_predictions_are_named() {
        let error = |change: fn(&mut Predictions)| {
            let mut p = seven();
            change(&mut p);
            Quality::of(&p, &names(), None, None).unwrap_err().to_string()
        };
        assert_eq!(error(|p| p.labels[2] = 3), "sample `2.png` has label 3, but there are 3 classes");
        assert_eq!(error(|p| p.scores[1][0] = f32::NAN), "sample `1.png` has a score that is not finite");
        assert_eq!(error(|p| p.scores[1].truncate(2)), "sample `1.png` has 2 scores for 3 classes");
        assert_eq!(error(|p| p.labels.truncate(1)), "7 samples have 1 labels and 7 rows of scores");
    }

    #[test]
    fn no_samples_give_undefined_rates() {
        let quality = Quality::of(&Predictions::default(), &names(), Some(0), None).unwrap();
        assert_eq!(quality.accuracy().value(), None);
        assert_eq!(quality.balanced_accuracy(), None);
        assert!(quality.false_alarms.is_empty());
    }
}
