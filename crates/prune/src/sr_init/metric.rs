//! What a block is worth is counted in.

use sentei_report::record::{DefectScores, recall_at_false_alarm};
use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::train::TrainError;

/// A number in `[0, 1)` that a worse network has less of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction classified correctly.
    Accuracy,
    /// Mean recall of the classes.
    Balanced,
    /// Defects found when so many good parts may be rejected.
    Recall {
        /// Class without defect.
        ok: usize,
        /// Allowed false-alarm rate, in `[0, 1)`.
        false_alarms: f64,
    },
}

impl Metric {
    /// The metric in words.
    pub fn name(&self) -> String {
        match self {
            Metric::Accuracy => "accuracy".into(),
            Metric::Balanced => "balanced accuracy".into(),
            Metric::Recall { false_alarms, .. } => format!("recall at {} % false alarms", false_alarms * 100.0),
        }
    }

    /// The metric of `found`, in `[0, 1]`, with the threshold of recall set on the same images: for comparing networks on
    /// the images that may decide.
    ///
    /// # Errors
    /// [`TrainError::NoDefects`] when recall is asked for and good parts or defects are missing.
    pub fn of(&self, found: &Evaluation) -> Result<f64, TrainError> {
        self.judged(found, None)
    }

    /// The metric of `found`, in `[0, 1]`.
    ///
    /// * `choose`: what the same network says about the images that set the threshold of recall; `None` sets it on the
    ///   images that are judged, which flatters.
    ///
    /// # Errors
    /// As [`Metric::of`].
    pub fn judged(&self, found: &Evaluation, choose: Option<&Evaluation>) -> Result<f64, TrainError> {
        match *self {
            Metric::Accuracy => Ok(found.accuracy()),
            Metric::Balanced => Ok(found.balanced_accuracy()),
            Metric::Recall { ok, false_alarms } => {
                let choose = choose.map(|found| defects(found, ok));
                let point = recall_at_false_alarm(choose.as_ref(), &defects(found, ok), false_alarms);
                point.and_then(|p| p.recall.value()).ok_or(TrainError::NoDefects)
            }
        }
    }
}

/// How much each image looks like any defect.
fn defects(found: &Evaluation, ok: usize) -> DefectScores {
    // The sum of the others is 1 - p(ok) without its rounding.
    let other = |row: &[f32]| {
        let others = row.iter().enumerate().filter(|(class, _)| *class != ok);
        others.map(|(_, p)| f64::from(*p)).sum()
    };
    let labels = found.labels.iter().map(|l| *l as usize).collect();
    let scores = found.probabilities.chunks_exact(found.classes.max(1)).map(other).collect();
    DefectScores { ok, labels, scores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_collapses_where_accuracy_hides_it() {
        // Nine good parts and one defect; a network that calls everything good.
        let mut labels = vec![0; 9];
        labels.push(1);
        let blind = |last: [f32; 2]| {
            let probabilities = [0.9, 0.1].repeat(9).into_iter().chain(last).collect();
            Evaluation { probabilities, labels: labels.clone(), classes: 2, loss: 0.0 }
        };
        let recall = Metric::Recall { ok: 0, false_alarms: 0.05 };
        assert_eq!(Metric::Accuracy.of(&blind([0.95, 0.05])).unwrap(), 0.9);
        assert_eq!(Metric::Balanced.of(&blind([0.95, 0.05])).unwrap(), 0.5);
        assert_eq!(recall.of(&blind([0.95, 0.05])).unwrap(), 0.0);
        assert_eq!(recall.of(&blind([0.6, 0.4])).unwrap(), 1.0, "the threshold follows the scores");
    }

    #[test]
    fn the_threshold_comes_from_the_images_that_choose() {
        let of = |good: f32, defect: f32| Evaluation {
            probabilities: vec![1.0 - good, good, 1.0 - defect, defect],
            labels: vec![0, 1],
            classes: 2,
            loss: 0.0,
        };
        let recall = Metric::Recall { ok: 0, false_alarms: 0.05 };
        let (test, validation) = (of(0.1, 0.3), of(0.5, 0.9));
        assert_eq!(recall.of(&test).unwrap(), 1.0, "flattered");
        assert_eq!(recall.judged(&test, Some(&validation)).unwrap(), 0.0, "0.3 is not above the good part's 0.5");
        assert_eq!(Metric::Accuracy.judged(&test, Some(&validation)).unwrap(), 0.5, "nothing to choose");
    }

    #[test]
    fn recall_without_defects_is_an_error() {
        let good = Evaluation { probabilities: vec![0.9, 0.1], labels: vec![0], classes: 2, loss: 0.0 };
        assert!(matches!(Metric::Recall { ok: 0, false_alarms: 0.05 }.of(&good), Err(TrainError::NoDefects)));
    }
}
