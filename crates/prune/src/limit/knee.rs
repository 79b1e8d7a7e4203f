//! Where a measured curve leaves the level of the dense network.

use serde::{Deserialize, Serialize};

/// What a network does with the `removed` smallest weights at zero and nothing else changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Weights at zero.
    pub removed: usize,
    /// Their share.
    pub sparsity: f64,
    /// Fraction of validation samples classified correctly.
    pub accuracy: f64,
    /// Mean cross-entropy of the validation samples.
    pub val_loss: f64,
    /// Mean training loss over a subset, label smoothing included.
    pub train_loss: f64,
}

/// Measured limits of one curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// Largest sparsity up to which the accuracy never was more than the allowed points below the dense one.
    pub accuracy: f64,
    /// Largest sparsity up to which the training loss never was more than epsilon above the dense one.
    pub loss: f64,
    /// The paper's: largest sparsity whose accuracy is above the dense one, wherever it fell before; absent when there is none.
    pub above_dense: Option<f64>,
}

/// Position of the last point up to which `fine` holds without a gap; 0 when it does not hold at the first one either.
pub fn last_fine(points: &[CurvePoint], fine: impl Fn(&CurvePoint) -> bool) -> usize {
    points.iter().take_while(|p| fine(p)).count().saturating_sub(1)
}

/// The limits of a curve whose points ascend in sparsity and start at the dense network.
///
/// * `drop_points`: loss of accuracy that is allowed, in percentage points.
/// * `epsilon`: rise of the training loss that is allowed.
///
/// `None` without points.
pub fn knee(points: &[CurvePoint], drop_points: f64, epsilon: f64) -> Option<Knee> {
    let dense = points.first()?;
    let above = points.iter().rev().find(|p| p.accuracy > dense.accuracy);
    Some(Knee {
        accuracy: points[last_fine(points, |p| keeps_accuracy(p, dense, drop_points))].sparsity,
        loss: points[last_fine(points, |p| keeps_loss(p, dense, epsilon))].sparsity,
        above_dense: above.map(|p| p.sparsity),
    })
}

/// Whether a point is at most `drop_points` percentage points below `dense`.
pub fn keeps_accuracy(point: &CurvePoint, dense: &CurvePoint, drop_points: f64) -> bool {
    (dense.accuracy - point.accuracy) * 100.0 <= drop_points + 1e-9
}

/// Whether the training loss of a point is at most `epsilon` above that of `dense`; a loss that is not finite never is.
pub fn keeps_loss(point: &CurvePoint, dense: &CurvePoint, epsilon: f64) -> bool {
    point.train_loss - dense.train_loss <= epsilon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(rows: &[(f64, f64, f64)]) -> Vec<CurvePoint> {
        let point = |&(sparsity, accuracy, train_loss): &(f64, f64, f64)| CurvePoint {
            removed: (sparsity * 1000.0) as usize,
            sparsity,
            accuracy,
            val_loss: 0.0,
            train_loss,
        };
        rows.iter().map(point).collect()
    }

    #[test]
    fn the_knee_stops_at_the_first_fall_and_the_papers_does_not() {
        let points = curve(&[
            (0.0, 0.900, 0.10),
            (0.5, 0.895, 0.11),
            (0.7, 0.894, 0.20),
            (0.8, 0.901, 0.12),
            (0.9, 0.500, f64::NAN),
        ]);
        let found = knee(&points, 0.5, 0.03).unwrap();
        assert_eq!((found.accuracy, found.loss, found.above_dense), (0.5, 0.5, Some(0.8)));
        let wide = knee(&points, 1.0, 0.2).unwrap();
        assert_eq!((wide.accuracy, wide.loss), (0.8, 0.8));
    }

    #[test]
    fn nothing_above_the_dense_network_and_no_points_are_said() {
        let points = curve(&[(0.0, 0.9, 0.1), (0.5, 0.9, 0.1)]);
        assert_eq!(knee(&points, 0.5, 0.0).unwrap().above_dense, None);
        assert_eq!(knee(&[], 0.5, 0.0), None);
    }
}
