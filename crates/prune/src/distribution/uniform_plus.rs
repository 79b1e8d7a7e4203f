//! Uniform but for the two ends: the first convolution stays dense, the classifier keeps at least a fifth.
//!
//! Source: Gale, Elsen, Hooker 2019, "The State of Sparsity in Deep Neural Networks" (arXiv:1902.09574), section 5.

use super::{LayerView, erk::apportion};
use crate::layers::LayerKind;
use crate::masks::MaskError;

/// Least density of the last linear layer.
const CLASSIFIER: f64 = 0.2;

/// The layers between the ends share what is left, each at the same density unless it has less than that left.
pub(super) fn counts(views: &[LayerView], density: f64) -> Result<Vec<usize>, MaskError> {
    let len = |i: usize| views[i].len() as f64;
    let total: f64 = (0..views.len()).map(len).sum();
    let keep = (density * total).round();
    let left = |i: usize| views[i].live.kept() as f64;
    let mut fixed: Vec<Option<f64>> = vec![None; views.len()];
    if views.first().is_some_and(|v| v.layer.kind == LayerKind::Conv) {
        fixed[0] = Some(left(0));
    }
    let rest_density = |fixed: &[Option<f64>]| {
        let taken: f64 = fixed.iter().flatten().sum();
        let rest: f64 = (0..views.len()).filter(|i| fixed[*i].is_none()).map(len).sum();
        if rest > 0.0 { (keep - taken) / rest } else { 0.0 }
    };
    let last = views.len().wrapping_sub(1);
    let is_classifier = views.last().is_some_and(|v| v.layer.kind == LayerKind::Linear);
    if is_classifier && fixed[last].is_none() && rest_density(&fixed) < CLASSIFIER {
        fixed[last] = Some((CLASSIFIER * len(last)).ceil().min(left(last)));
    }
    let mut rest = rest_density(&fixed);
    while let Some(short) = (0..views.len()).find(|i| fixed[*i].is_none() && rest * len(*i) > left(*i)) {
        fixed[short] = Some(left(short));
        rest = rest_density(&fixed);
    }
    if rest < 0.0 {
        let floors = fixed.iter().flatten().sum::<f64>() as usize;
        return Err(MaskError::Ends { density, keep: keep as usize, floors });
    }
    let shares: Vec<f64> = (0..views.len()).map(|i| fixed[i].unwrap_or(rest * len(i))).collect();
    Ok(apportion(&shares, keep as usize, views))
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;
    use super::*;

    fn fixture() -> Fixture {
        let shapes: [&[usize]; 4] = [&[8, 1, 3, 3], &[16, 8, 3, 3], &[32, 16, 3, 3], &[10, 32]];
        let mut fixture = Fixture::new(shapes.iter().map(|s| (s.to_vec(), vec![0.0; s.iter().product()])).collect());
        fixture.layers[..3].iter_mut().for_each(|l| l.kind = LayerKind::Conv);
        fixture
    }

    #[test]
    fn the_ends_keep_their_share_and_the_sum_is_exact() {
        let fixture = fixture();
        let total: usize = fixture.layers.iter().map(|l| l.len()).sum();
        for density in [0.1, 0.15, 0.5, 1.0] {
            let counts = Distribution::UniformPlus.counts(&fixture.views(), density).unwrap();
            assert_eq!(counts.iter().sum::<usize>(), (density * total as f64).round() as usize);
            assert_eq!(counts[0], 72, "the first convolution is dense");
            assert!(counts[3] >= 64, "the classifier keeps a fifth: {counts:?}");
            let densities = [counts[1] as f64 / 1152.0, counts[2] as f64 / 4608.0];
            assert!((densities[0] - densities[1]).abs() < 1e-3, "{densities:?}");
        }
    }

    #[test]
    fn a_density_below_the_ends_is_refused() {
        let error = Distribution::UniformPlus.counts(&fixture().views(), 0.01).unwrap_err();
        assert_eq!(error, MaskError::Ends { density: 0.01, keep: 62, floors: 136 });
    }
}
