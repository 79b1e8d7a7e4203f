//! Keep `|w| > quality * std(W)`, layer by layer; of a group, its mean `|w|` must be greater.
//!
//! Source: Han et al. 2015, "Learning both Weights and Connections" (arXiv:1506.02626), section 3.

use std::collections::BTreeMap;

use super::{LayerView, StdOver, check_names};
use crate::masks::MaskError;

pub(super) fn counts(
    views: &[LayerView],
    quality: f64,
    layers: &BTreeMap<String, f64>,
    std_over: StdOver,
) -> Result<Vec<usize>, MaskError> {
    check_names(&views.iter().map(|v| v.layer).collect::<Vec<_>>(), layers)?;
    let count = |view: &LayerView| {
        let quality = layers.get(&view.layer.name).copied().unwrap_or(quality);
        let threshold = quality * population_std(view, std_over);
        let magnitudes: Vec<f32> = view.weights.iter().map(|w| w.abs()).collect();
        let means = view.groups.means(&view.layer.name, &magnitudes, view.mask)?;
        let live = means.iter().zip(view.live.bits()).filter(|(_, live)| **live);
        Ok(live.filter(|(mean, _)| f64::from(**mean) > threshold).count())
    };
    views.iter().map(count).collect()
}

fn population_std(view: &LayerView, over: StdOver) -> f64 {
    let counted = |live: &bool| *live || over == StdOver::All;
    let values = || view.weights.iter().zip(view.mask.bits()).filter(|(_, l)| counted(l)).map(|(w, _)| f64::from(*w));
    let n = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / n;
    (values().map(|w| (w - mean) * (w - mean)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use sentei_graph::Mask;

    #[test]
    fn magnitude_oracle_4_a_gaussian_layer_keeps_what_erfc_says_at_any_scale() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut unit = || rng.random_range(f64::EPSILON..1.0);
        let normal: Vec<f32> = (0..1_000_000)
            .map(|_| ((-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()) as f32)
            .collect();
        for scale in [1e-3, 1.0, 40.0] {
            let fixture = Fixture::new(vec![(vec![1_000_000], normal.iter().map(|w| w * scale).collect())]);
            let density = |quality| {
                let views = fixture.views();
                counts(&views, quality, &BTreeMap::new(), StdOver::Survivors).unwrap()[0] as f64 / 1e6
            };
            for (quality, expected) in [(0.5, 0.617), (1.0, 0.3173), (1.5, 0.134), (2.0, 0.0455)] {
                assert!((density(quality) - expected).abs() < 0.0015, "{scale} {quality} {}", density(quality));
            }
        }
    }

    #[test]
    fn pruned_zeros_lower_the_threshold_only_when_they_count() {
        let mut fixture = Fixture::new(vec![(vec![6], vec![0.0, 0.0, 0.0, 1.0, -1.2, 1.4])]);
        fixture.live[0] = Mask::from_bits(vec![false, false, false, true, true, true]);
        let kept = |std_over| {
            let rule = Distribution::StdThreshold { quality: 1.0, layers: BTreeMap::new(), std_over };
            rule.counts(&fixture.views(), 1.0).unwrap()[0]
        };
        assert_eq!(kept(StdOver::All), 3);
        assert_eq!(kept(StdOver::Survivors), 2);
    }
}
