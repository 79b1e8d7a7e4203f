//! Erdős-Rényi-kernel densities.
//!
//! Source: Evci et al. 2020, "Rigging the Lottery" (arXiv:1911.11134), section 3.

use super::LayerView;

/// Layers whose share would exceed what they have left keep all of that; the factor is then found again for the others.
pub(super) fn counts(views: &[LayerView], density: f64) -> Vec<usize> {
    let len = |v: &LayerView| v.len() as f64;
    let total: f64 = views.iter().map(len).sum();
    let keep = (density * total).round();
    let raw: Vec<f64> =
        views.iter().map(|v| v.layer.shape.iter().sum::<usize>() as f64 / (v.layer.len() as f64).max(1.0)).collect();
    let left: Vec<f64> = views.iter().map(|v| v.live.kept() as f64).collect();
    let mut full = vec![false; views.len()];
    let shares: Vec<f64> = loop {
        let taken: f64 = left.iter().zip(&full).filter(|(_, full)| **full).map(|(left, _)| left).sum();
        let weight: f64 = (0..views.len()).filter(|i| !full[*i]).map(|i| raw[i] * len(&views[i])).sum();
        let factor = if weight > 0.0 { (keep - taken) / weight } else { 0.0 };
        let share = |i: usize| factor * raw[i] * len(&views[i]);
        let over = (0..views.len()).filter(|i| !full[*i] && share(*i) > left[*i]).collect::<Vec<_>>();
        if over.is_empty() {
            break (0..views.len()).map(|i| if full[i] { left[i] } else { share(i) }).collect();
        }
        over.into_iter().for_each(|i| full[i] = true);
    };
    apportion(&shares, keep as usize, views)
}

/// Whole numbers near `shares` that add up to `keep`, unless fewer are live: largest remainder first, lower index among
/// equals. No layer gets more than it has left.
pub(super) fn apportion(shares: &[f64], keep: usize, views: &[LayerView]) -> Vec<usize> {
    let most: Vec<usize> = views.iter().map(|v| v.live.kept()).collect();
    let mut counts: Vec<usize> = shares.iter().zip(&most).map(|(s, most)| (s.floor() as usize).min(*most)).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| (shares[*b].fract()).total_cmp(&shares[*a].fract()).then(a.cmp(b)));
    let mut missing = keep.min(most.iter().sum()).saturating_sub(counts.iter().sum());
    while missing > 0 {
        for &i in &order {
            if missing > 0 && counts[i] < most[i] {
                counts[i] += 1;
                missing -= 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::Distribution;
    use super::super::tests::Fixture;
    use sentei_graph::Mask;

    #[test]
    fn pai_oracle_10_equal_shapes_share_equally_and_small_kernels_stay_denser() {
        let shapes: [&[usize]; 5] = [&[32, 32, 3, 3], &[32, 32, 1, 1], &[32, 32, 3, 3], &[64, 32, 3, 3], &[10, 64]];
        let zeros = |s: &&[usize]| (s.to_vec(), vec![0.0; s.iter().product()]);
        let fixture = Fixture::new(shapes.iter().map(zeros).collect());
        let total: usize = fixture.layers.iter().map(|l| l.len()).sum();
        for density in [0.02, 0.05, 0.1, 0.2, 0.5] {
            let counts = Distribution::Erk.counts(&fixture.views(), density).unwrap();
            assert_eq!(counts.iter().sum::<usize>(), (density * total as f64).round() as usize);
            let of = |i: usize| counts[i] as f64 / fixture.layers[i].len() as f64;
            assert!((0..5).all(|i| of(i) <= 1.0), "{counts:?}");
            assert!(counts[0].abs_diff(counts[2]) <= 1, "equal shapes, found {counts:?}");
            assert!(of(1) > of(0), "a 1x1 kernel is denser than a 3x3 one of equal channels");
            // eps * (sum of dims) / (product of dims), with one eps for every layer that is not dense.
            let eps = |i: usize| of(i) * fixture.layers[i].len() as f64 / shapes[i].iter().sum::<usize>() as f64;
            if of(3) < 1.0 && of(0) < 1.0 {
                assert!((eps(3) / eps(0) - 1.0).abs() < 0.02, "{} {}", eps(3), eps(0));
            }
        }
    }

    #[test]
    fn what_a_pruned_layer_cannot_give_the_others_do() {
        let zeros = |s: [usize; 2]| (s.to_vec(), vec![0.0; s.iter().product()]);
        let mut fixture = Fixture::new([[20, 20], [20, 20], [40, 20]].map(zeros).to_vec());
        fixture.live[0] = Mask::from_bits((0..400).map(|i| i < 10).collect());
        for scope in [Distribution::Erk, Distribution::UniformPlus] {
            let counts = scope.counts(&fixture.views(), 0.4).unwrap();
            assert_eq!((counts[0], counts.iter().sum::<usize>()), (10, 640), "{scope:?}");
            let all = scope.counts(&fixture.views(), 1.0).unwrap();
            assert_eq!(all, [10, 400, 800], "{scope:?} keeps all that is left");
        }
    }

    #[test]
    fn the_sum_is_exact_and_no_layer_is_more_than_dense() {
        let shapes: [&[usize]; 4] = [&[8, 1, 3, 3], &[16, 8, 3, 3], &[16, 8, 1, 1], &[10, 16]];
        let zeros = |s: &&[usize]| (s.to_vec(), vec![0.0; s.iter().product()]);
        let fixture = Fixture::new(shapes.iter().map(zeros).collect());
        let total: usize = fixture.layers.iter().map(|l| l.len()).sum();
        for density in [0.05, 0.1, 0.37, 0.9, 1.0] {
            let counts = Distribution::Erk.counts(&fixture.views(), density).unwrap();
            assert_eq!(counts.iter().sum::<usize>(), (density * total as f64).round() as usize, "{density}");
            let densities: Vec<f64> =
                counts.iter().zip(&fixture.layers).map(|(c, l)| *c as f64 / l.len() as f64).collect();
            assert!(densities.iter().all(|d| *d <= 1.0));
            assert!(densities[2] >= densities[1], "a 1x1 layer is at least as dense as a 3x3 layer");
        }
    }
}
