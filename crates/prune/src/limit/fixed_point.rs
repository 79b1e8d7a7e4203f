//! The crossing of removed share and low-loss width: the sparsity at which global magnitude order must leave the noise level.
//!
//! Source: Zhang et al. 2024, "How Sparse Can We Prune A Deep Network: A Fundamental Limit Perspective" (arXiv:2306.05857).

use rayon::slice::ParallelSliceMut;
use serde::{Deserialize, Serialize};

use super::lanczos::{Probe, Real};
use super::tridiagonal::Node;

/// Squared norms of what is removed when the `k` smallest magnitudes go: entry `k` for `k` in `0..=weights`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemovedNorms(Vec<f64>);

impl RemovedNorms {
    /// Sorts the magnitudes of all weights together and adds their squares up in `f64`.
    pub fn of<'a, T: Real>(weights: impl IntoIterator<Item = &'a [T]>) -> RemovedNorms {
        let mut magnitudes: Vec<f64> = weights.into_iter().flatten().map(|w| w.wide().abs()).collect();
        magnitudes.par_sort_unstable_by(f64::total_cmp);
        let mut sums = Vec::with_capacity(magnitudes.len() + 1);
        let mut sum = 0.0;
        sums.push(sum);
        for magnitude in magnitudes {
            sum += magnitude * magnitude;
            sums.push(sum);
        }
        RemovedNorms(sums)
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.0.len() - 1
    }

    /// Squared norm of the `removed` smallest weights.
    pub fn squared(&self, removed: usize) -> f64 {
        self.0[removed.min(self.weights())]
    }
}

/// The share of dimensions that the low-loss ellipsoid fills, seen from a distance: `F` of the paper, in `[0, 1]`.
///
/// * `nodes`: spectral density of the Hessian, weights summing to 1; magnitudes of eigenvalues are taken.
/// * `epsilon`: loss that counts as noise, at least 0.
/// * `squared`: squared distance `R^2`, at least 0.
/// * `flat`: share of weights known to have no curvature, in `[0, 1]`.
///
/// `flat + (1 - flat) * sum_j weight_j * 2 epsilon / (|value_j| R^2 + 2 epsilon)`.
pub fn width(nodes: &[Node], epsilon: f64, squared: f64, flat: f64) -> f64 {
    let one = |node: &Node| {
        let bend = node.value.abs() * squared;
        // An eigenvalue or a distance of 0 leaves the dimension free, also when nothing counts as noise.
        if bend == 0.0 || epsilon.is_infinite() {
            node.weight
        } else {
            node.weight * 2.0 * epsilon / (bend + 2.0 * epsilon)
        }
    };
    flat + (1.0 - flat) * nodes.iter().map(one).sum::<f64>()
}

/// The most weights that can be removed before their share exceeds `width`: the greatest `k` with `k / D <= F(R(k))`.
///
/// * `width`: `F` as a function of the squared removed norm; must not increase with it.
pub fn crossing(norms: &RemovedNorms, width: impl Fn(f64) -> f64) -> usize {
    let all = norms.weights();
    // Weights of the nodes sum to 1 up to rounding, and `k = D` must be reachable when nothing is curved.
    let fits = |removed: usize| removed as f64 <= width(norms.squared(removed)) * all as f64 * (1.0 + 1e-12);
    let (mut low, mut high) = (0, all);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// A predicted limit with its spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Removed share at the crossing, with the density averaged over all probes.
    pub sparsity: f64,
    /// The lowest limit of any probe at the lower end of epsilon.
    pub low: f64,
    /// The highest limit of any probe at the upper end of epsilon.
    pub high: f64,
    /// Limit by each probe alone.
    pub per_probe: Vec<f64>,
    /// Norm of the removed part at the crossing.
    pub removed_norm: f64,
}

/// The limit that `probes` predict for weights of these norms.
///
/// * `epsilon`: loss that counts as noise, and the relative uncertainty of it, at least 0.
/// * `flat`: share of weights known to have no curvature; 0 without the row-norm correction.
///
/// Without weights or probes nothing is curved, and the limit is 1.
pub fn predict(norms: &RemovedNorms, probes: &[Probe], epsilon: (f64, f64), flat: f64) -> Prediction {
    let (epsilon, uncertainty) = epsilon;
    let share = |removed: usize| if norms.weights() == 0 { 1.0 } else { removed as f64 / norms.weights() as f64 };
    let limit = |nodes: &[Node], epsilon: f64| crossing(norms, |squared| width(nodes, epsilon, squared, flat));
    let mut mean: Vec<Node> = probes.iter().flat_map(|p| p.nodes.iter().copied()).collect();
    mean.iter_mut().for_each(|node| node.weight /= probes.len() as f64);
    if mean.is_empty() {
        mean.push(Node { value: 0.0, weight: 1.0 });
    }
    let removed = limit(&mean, epsilon);
    let of_probes = |epsilon: f64| probes.iter().map(move |p| share(limit(&p.nodes, epsilon)));
    let centre = share(removed);
    Prediction {
        sparsity: centre,
        low: of_probes(epsilon * (1.0 - uncertainty).max(0.0)).fold(centre, f64::min),
        high: of_probes(epsilon * (1.0 + uncertainty)).fold(centre, f64::max),
        per_probe: of_probes(epsilon).collect(),
        removed_norm: norms.squared(removed).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Quadratic, TEST_SPECTRUM_EPSILON, laplace, test_spectrum};
    use super::*;
    use proptest::prelude::*;

    fn even(values: &[f64]) -> Vec<Node> {
        values.iter().map(|v| Node { value: *v, weight: 1.0 / values.len() as f64 }).collect()
    }

    fn limit(weights: &[f32], values: &[f64], epsilon: f64) -> f64 {
        let norms = RemovedNorms::of([weights]);
        let nodes = even(values);
        crossing(&norms, |squared| width(&nodes, epsilon, squared, 0.0)) as f64 / weights.len() as f64
    }

    #[test]
    fn equal_curvature_has_a_closed_form_and_the_flat_share_is_added() {
        let nodes = even(&[3.0, -3.0]);
        assert!((width(&nodes, 0.5, 2.0, 0.0) - 1.0 / 7.0).abs() < 1e-15);
        assert!((width(&nodes, 0.5, 2.0, 0.25) - (0.25 + 0.75 / 7.0)).abs() < 1e-15);
        assert!((width(&nodes, 0.5, 0.0, 0.0) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn limit_oracle_5_noise_without_end_or_no_curvature_removes_all_and_no_noise_nothing() {
        let weights = laplace(50, 0.3, 8);
        let definite: Vec<f64> = (1..=50).map(|i| i as f64).collect();
        assert_eq!(limit(&weights, &definite, f64::INFINITY), 1.0);
        assert_eq!(limit(&weights, &definite, 1e15), 1.0);
        assert_eq!(limit(&weights, &definite, 0.0), 0.0);
        assert_eq!(limit(&weights, &definite, 1e-12), 0.0);
        assert_eq!(limit(&weights, &[0.0; 50], 0.05), 1.0);
        assert_eq!(limit(&weights, &[0.0; 50], 0.0), 1.0);
        let none = predict(&RemovedNorms::of::<f32>([]), &[], (0.1, 0.0), 0.0);
        assert_eq!((none.sparsity, none.low, none.high), (1.0, 1.0, 1.0));
    }

    #[test]
    fn limit_oracle_4_the_rows_and_the_crossing_of_the_golden_net() {
        let golden = crate::testing::Golden::read();
        let weights: Vec<Vec<f64>> = golden.weights.iter().map(|rows| rows.concat()).collect();
        let norms = RemovedNorms::of(weights.iter().map(Vec::as_slice));
        let nodes = even(&golden.hessian_eigenvalues_ascending);
        let f = |squared| width(&nodes, golden.limit.epsilon, squared, 0.0);
        assert_eq!((norms.weights(), golden.limit.rows.len()), (52, 52));
        for (k, [share, squared, known]) in golden.limit.rows.iter().enumerate() {
            let found = [(k + 1) as f64 / 52.0, norms.squared(k + 1), f(norms.squared(k + 1))];
            for (found, known) in found.into_iter().zip([share, squared, known]) {
                assert!((found / known - 1.0).abs() < 1e-10, "row {k}: {found} is not {known}");
            }
        }
        let removed = crossing(&norms, f);
        assert_eq!(removed, 27);
        let found = [removed as f64 / 52.0, norms.squared(removed), f(norms.squared(removed))];
        for (found, known) in found.into_iter().zip(golden.limit.crossing) {
            assert!((found / known - 1.0).abs() < 1e-10, "{found} is not {known}");
        }
    }

    #[test]
    fn the_band_holds_every_probe_and_the_centre() {
        let norms = RemovedNorms::of([&laplace(400, 0.1, 2)[..]]);
        let probe = |scale: f64| Probe { nodes: even(&[0.01, scale]), steps: 2 };
        let found = predict(&norms, &[probe(5.0), probe(20.0)], (0.05, 0.1), 0.0);
        assert_eq!(found.per_probe.len(), 2);
        assert!(found.per_probe[1] < found.sparsity && found.sparsity < found.per_probe[0], "{found:?}");
        assert!(found.low < found.per_probe[1] && found.high > found.per_probe[0], "{found:?}");
    }

    /// Draws of weights per row of the table.
    const DRAWS: u64 = 8;

    #[test]
    fn limit_oracle_8_quadratics_agree_with_the_best_survivors() {
        let evenly = |i: usize| i as f64 / 399.0;
        let log_uniform: Vec<f64> = (0..400).map(|i| 1e-4 * (30.0f64 / 1e-4).powf(evenly(i))).collect();
        let spectra = [test_spectrum(), log_uniform, vec![1.0; 400]];
        // rho*, best survivors and plain zeroing of the card, for weights of scale 0.02, 0.1 and 0.5.
        let known = [
            [[0.890, 0.983, 0.902], [0.772, 0.823, 0.393], [0.630, 0.693, 0.133]],
            [[0.748, 0.833, 0.672], [0.568, 0.593, 0.292], [0.415, 0.412, 0.102]],
            [[0.710, 0.863, 0.863], [0.435, 0.403, 0.403], [0.215, 0.152, 0.152]],
        ];
        for (s, spectrum) in spectra.iter().enumerate() {
            let quadratic = Quadratic::new(spectrum, 11);
            for (c, scale) in [0.02, 0.1, 0.5].into_iter().enumerate() {
                let mut means = [0.0; 3];
                for seed in 0..DRAWS {
                    let weights = laplace(400, scale, seed);
                    let predicted = limit(&weights, spectrum, TEST_SPECTRUM_EPSILON);
                    let best = quadratic.best_survivors(&weights, TEST_SPECTRUM_EPSILON);
                    let plain = quadratic.plain_zeroing(&weights, TEST_SPECTRUM_EPSILON);
                    let row = format!("spectrum {s}, scale {scale}, seed {seed}: {predicted} {best} {plain}");
                    assert!(plain <= best, "{row}");
                    assert!(scale < 0.1 || (predicted - best).abs() <= 0.10, "{row}");
                    means.iter_mut().zip([predicted, best, plain]).for_each(|(m, v)| *m += v / DRAWS as f64);
                }
                // The card shows one draw; these are others, so near the table and not equal to it.
                for (found, known) in means.into_iter().zip(known[s][c]) {
                    assert!((found - known).abs() <= 0.08, "spectrum {s}, scale {scale}: {means:?}, known {known}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn limit_oracle_6_monotone_and_free_of_scale(
            weights in prop::collection::vec(-1.0f32..1.0, 2..120), values in prop::collection::vec(-2.0f64..50.0, 1..20),
            epsilon in 1e-4f64..1.0, factor in 1.01f64..20.0, bound in 0.0f32..1.0,
        ) {
            let base = limit(&weights, &values, epsilon);
            prop_assert!(limit(&weights, &values, epsilon * factor) >= base);
            let shrunk: Vec<f32> = weights.iter().map(|w| if w.abs() < bound { w / factor as f32 } else { *w }).collect();
            prop_assert!(limit(&shrunk, &values, epsilon) >= base);
            // Powers of two scale without rounding, so that "changes nothing" is exact.
            let curved: Vec<f64> = values.iter().map(|v| v * 8.0).collect();
            prop_assert_eq!(limit(&weights, &curved, epsilon * 8.0), base);
            let longer: Vec<f32> = weights.iter().map(|w| w * 4.0).collect();
            let flatter: Vec<f64> = values.iter().map(|v| v / 16.0).collect();
            prop_assert_eq!(limit(&longer, &flatter, epsilon), base);
        }

        #[test]
        fn limit_oracle_7_the_crossing_is_unique_and_bisection_finds_it(
            weights in prop::collection::vec(-1.0f32..1.0, 1..120), values in prop::collection::vec(-2.0f64..50.0, 1..20),
            epsilon in 1e-5f64..10.0, flat in 0.0f64..1.0,
        ) {
            let (norms, nodes) = (RemovedNorms::of([&weights[..]]), even(&values));
            let f = |squared| width(&nodes, epsilon, squared, flat);
            let g = |k: usize| k as f64 / weights.len() as f64 - f(norms.squared(k));
            let by_search = (0..=weights.len()).take_while(|k| g(*k) <= 1e-12).last().unwrap();
            for k in 1..=weights.len() {
                prop_assert!(g(k) > g(k - 1), "g increases");
            }
            prop_assert_eq!(crossing(&norms, f), by_search);
        }
    }
}
