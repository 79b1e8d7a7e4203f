//! One ranking over all layers, with a floor under each.

use super::LayerView;
use crate::masks::{MaskError, highest, ranks};

pub(super) fn counts(views: &[LayerView], density: f64, floor: f64) -> Result<Vec<usize>, MaskError> {
    if !(0.0..=1.0).contains(&floor) {
        return Err(MaskError::Density(floor));
    }
    let total: usize = views.iter().map(LayerView::len).sum();
    let keep = kept(total, density);

    // Each layer's best weights fill its floor; what is left competes across layers. The rank is
    // (score, layer, index), so equal scores go to the later tensor and then to the higher index.
    let mut counts = Vec::with_capacity(views.len());
    let mut rest = Vec::new();
    for (layer, view) in views.iter().enumerate() {
        let mut ranked = ranks(&view.layer.name, &view.scores, &view.live)?;
        let granted = granted(view.len(), floor).min(ranked.len());
        let cut = ranked.len() - granted;
        highest(&mut ranked, granted);
        rest.extend(ranked[..cut].iter().map(|(score, index)| (*score, layer, *index)));
        counts.push(granted);
    }
    let floors: usize = counts.iter().sum();
    if floors > keep {
        return Err(MaskError::Floor { density, keep, floors });
    }
    for (_, layer, _) in highest(&mut rest, keep - floors) {
        counts[*layer] += 1;
    }
    Ok(counts)
}

/// Groups that are kept of `total` in all.
pub(super) fn kept(total: usize, density: f64) -> usize {
    (density * total as f64).round() as usize
}

/// Groups that the floor grants a layer of `len` groups.
pub(super) fn granted(len: usize, floor: f64) -> usize {
    (floor * len as f64).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;
    use super::*;

    #[test]
    fn the_total_is_exact_with_and_without_a_floor() {
        let small: Vec<f32> = (0..10).map(|i| i as f32 * 0.01).collect();
        let large: Vec<f32> = (0..30).map(|i| 1.0 + i as f32).collect();
        let fixture = Fixture::new(vec![(vec![10], small), (vec![30], large)]);
        let floor = |floor| Distribution::Global { floor }.counts(&fixture.views(), 0.5);
        assert_eq!(floor(0.2).unwrap(), [2, 18]);
        assert_eq!(floor(0.01).unwrap(), [1, 19]);
        assert_eq!(Distribution::Global { floor: 0.0 }.counts(&fixture.views(), 0.8).unwrap(), [2, 30]);
    }

    #[test]
    fn floors_above_the_density_are_refused() {
        let fixture = Fixture::new(vec![(vec![10], vec![1.0; 10])]);
        let error = Distribution::Global { floor: 0.5 }.counts(&fixture.views(), 0.2).unwrap_err();
        assert_eq!(error, MaskError::Floor { density: 0.2, keep: 2, floors: 5 });
        let global = Distribution::Global { floor: 0.5 };
        assert_eq!(global.check_floors(&[10], 0.2), Err(error), "known before anything is scored");
        assert_eq!(global.check_floors(&[10], 0.5), Ok(()));
        assert_eq!(Distribution::Global { floor: 0.01 }.check_floors(&[99, 1], 0.01).unwrap_err(), {
            MaskError::Floor { density: 0.01, keep: 1, floors: 2 }
        });
        assert_eq!(Distribution::Uniform.check_floors(&[10], 0.01), Ok(()));
    }

    #[test]
    fn equal_scores_stay_in_the_later_layer() {
        let fixture = Fixture::new(vec![(vec![4], vec![1.0; 4]), (vec![4], vec![1.0; 4])]);
        assert_eq!(Distribution::Global { floor: 0.25 }.counts(&fixture.views(), 0.5).unwrap(), [1, 3]);
    }
}
