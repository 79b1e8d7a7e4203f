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
    /// Defects found when so many good parts may be rejected; the threshold is set on the same images.
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

    /// The metric of `found`, in `[0, 1]`.
    ///
    /// # Errors
    /// [`TrainError::NoDefects`] when recall is asked for and good parts or defects are missing.
    pub fn of(&self, found: &Evaluation) -> Result<f64, TrainError> {
        match *self {
            Metric::Accuracy => Ok(found.accuracy()),
            Metric::Balanced => Ok(found.balanced_accuracy()),
            Metric::Recall { ok, false_alarms } => {
                let rows = found.probabilities.chunks_exact(found.classes.max(1));
                // The sum of the others is 1 - p(ok) without its rounding.
                let other = |row: &[f32]| {
                    let others = row.iter().enumerate().filter(|(class, _)| *class != ok);
                    others.map(|(_, p)| f64::from(*p)).sum()
                };
                let labels = found.labels.iter().map(|l| *l as usize).collect();
                let scores = DefectScores { ok, labels, scores: rows.map(other).collect() };
                let point = recall_at_false_alarm(None, &scores, false_alarms);
                point.and_then(|p| p.recall.value()).ok_or(TrainError::NoDefects)
            }
        }
    }
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
    fn recall_without_defects_is_an_error() {
        let good = Evaluation { probabilities: vec![0.9, 0.1], labels: vec![0], classes: 2, loss: 0.0 };
        assert!(matches!(Metric::Recall { ok: 0, false_alarms: 0.05 }.of(&good), Err(TrainError::NoDefects)));
    }
}
