//! How the weights that a mask keeps are distributed, layer by layer.
//!
//! Source: Singh & Liu 2021 (arXiv:2107.01808) compare these distributions before and after a randomisation.

use sentei_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::masks::Masks;

/// Bins of [`Survivors::histogram`].
pub const BINS: usize = 100;

/// Most values in [`Survivors::sketch`].
pub const SKETCH: usize = 400;

/// The kept weights of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survivors {
    /// Name of the weight.
    pub layer: String,
    /// Weights of the layer.
    pub weights: u64,
    /// Weights that are kept.
    pub kept: u64,
    /// Their mean; absent when none is kept.
    pub mean: Option<f64>,
    /// Their standard deviation (divided by the count).
    pub std: Option<f64>,
    /// Fourth central moment over the squared variance: 3 for a normal distribution; absent when all are equal.
    pub kurtosis: Option<f64>,
    /// Half of the histogram's range is three of these.
    pub sigma: f64,
    /// Kept weights in [`BINS`] equal bins over `[-3 sigma, 3 sigma)`.
    pub histogram: Vec<u64>,
    /// Kept weights outside of the histogram.
    pub outside: u64,
    /// At most [`SKETCH`] values at evenly spaced ranks, ascending: [`ks_distance`] of two sketches is that of the
    /// samples to within `1 / SKETCH`; exact when no more weights are kept.
    pub sketch: Vec<f32>,
}

/// The kept weights of every masked layer, in the order of `masks`.
///
/// * `sigma_of`: the graph whose weights, all of them, set the range of the histograms; give the same one to compare two
///   graphs bin by bin.
///
/// A layer that the graph lacks is left out.
pub fn survivors(graph: &Graph, masks: &Masks, sigma_of: &Graph) -> Vec<Survivors> {
    let data = |graph: &'_ Graph, name: &str| -> Option<Vec<f32>> {
        Some(graph.initializer(graph.value(name)?)?.data.clone())
    };
    let one = |name: &str, mask: &sentei_graph::Mask| {
        let weights = data(graph, name)?;
        let sigma = moments(&data(sigma_of, name)?).map_or(0.0, |m| m.std);
        let kept = weights.iter().zip(mask.bits()).filter(|(_, keep)| **keep).map(|(w, _)| *w).collect();
        Some(summary(name, weights.len() as u64, kept, sigma))
    };
    masks.iter().filter_map(|(name, mask)| one(name, mask)).collect()
}

fn summary(layer: &str, weights: u64, mut kept: Vec<f32>, sigma: f64) -> Survivors {
    kept.sort_unstable_by(f32::total_cmp);
    let moments = moments(&kept);
    let mut histogram = vec![0; BINS];
    let mut outside = 0;
    for value in &kept {
        let position = ((f64::from(*value) + 3.0 * sigma) / (6.0 * sigma) * BINS as f64).floor();
        // Not finite when sigma is 0: then nothing lies inside.
        if (0.0..BINS as f64).contains(&position) {
            histogram[position as usize] += 1;
        } else {
            outside += 1;
        }
    }
    let points = kept.len().min(SKETCH);
    let at = |i: usize| kept[((i as f64 + 0.5) / points as f64 * kept.len() as f64) as usize];
    Survivors {
        layer: layer.into(),
        weights,
        kept: kept.len() as u64,
        mean: moments.map(|m| m.mean),
        std: moments.map(|m| m.std),
        kurtosis: moments.and_then(|m| m.kurtosis),
        sigma,
        histogram,
        outside,
        sketch: (0..points).map(at).collect(),
    }
}

#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    std: f64,
    kurtosis: Option<f64>,
}

fn moments(values: &[f32]) -> Option<Moments> {
    let share = 1.0 / values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() * share;
    let power = |p: i32| values.iter().map(|v| (f64::from(*v) - mean).powi(p)).sum::<f64>() * share;
    let variance = power(2);
    let kurtosis = (variance > 0.0).then(|| power(4) / (variance * variance));
    (!values.is_empty()).then(|| Moments { mean, std: variance.sqrt(), kurtosis })
}

/// The two-sample Kolmogorov-Smirnov distance: the largest gap between the two empirical distribution functions, in
/// `[0, 1]`. `None` when a sample is empty.
///
/// The samples need not be sorted; equal values, within and across samples, step together.
pub fn ks_distance(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let sorted = |values: &[f32]| {
        // Adding +0 makes one zero of two.
        let mut values: Vec<f32> = values.iter().map(|v| v + 0.0).collect();
        values.sort_unstable_by(f32::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j, mut widest) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        // A total order, so that NaN ends the loop too.
        let step = if a[i].total_cmp(&b[j]).is_le() { a[i] } else { b[j] };
        while i < a.len() && a[i].total_cmp(&step).is_le() {
            i += 1;
        }
        while j < b.len() && b[j].total_cmp(&step).is_le() {
            j += 1;
        }
        widest = widest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    Some(widest)
}

#[cfg(test)]
mod tests {
    use sentei_graph::Mask;

    use super::*;
    use crate::ablation::{reinitialise, shuffle};
    use crate::granularity::Granularity;
    use crate::testing;

    #[test]
    fn the_distance_matches_hand_counts() {
        assert_eq!(ks_distance(&[1.0, 2.0], &[2.0, 3.0]), Some(0.5));
        assert_eq!(ks_distance(&[3.0, 1.0, 2.0], &[1.0, 2.0, 3.0]), Some(0.0));
        assert_eq!(ks_distance(&[0.0, 0.0, 1.0], &[0.0, 1.0, 1.0, 1.0]), Some(2.0 / 3.0 - 0.25));
        assert_eq!(ks_distance(&[1.0], &[2.0, 3.0]), Some(1.0));
        assert_eq!(ks_distance(&[], &[2.0]), None);
        assert_eq!(ks_distance(&[-0.0, 1.0], &[0.0, 1.0]), Some(0.0));
        assert_eq!(ks_distance(&[1.0, f32::NAN], &[1.0, f32::NAN]), Some(0.0), "and it ends");
    }

    #[test]
    fn the_summary_counts_every_survivor_once() {
        let found = summary("w", 8, vec![-2.0, 0.0, 0.0, 2.0, 400.0], 1.0);
        assert_eq!((found.weights, found.kept, found.outside), (8, 5, 1));
        assert_eq!(found.histogram.iter().sum::<u64>(), 4);
        assert_eq!(found.histogram[50], 2, "0 begins the upper half");
        let found = summary("w", 4, vec![-1.0, -1.0, 1.0, 1.0], 1.0);
        assert_eq!((found.mean, found.std, found.kurtosis), (Some(0.0), Some(1.0), Some(1.0)));
        let none = summary("w", 4, vec![], 1.0);
        assert_eq!((none.mean, none.kurtosis, none.sketch.len()), (None, None, 0));
    }

    #[test]
    fn magnitude_survivors_at_init_are_two_tails_and_a_shuffle_makes_them_normal_again() {
        // A layer of 51,200 normal weights; the large tenth against a random tenth, and against fresh weights.
        let graph = reinitialise(&testing::mlp(&[256, 200, 3], None), 5);
        let weights = &graph.initializer(graph.value("fc0.w").unwrap()).unwrap().data;
        let scores: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
        let mask = crate::top_k("fc0.w", &scores, &Mask::dense(weights.len()), weights.len() / 10).unwrap();
        let masks: Masks = [("fc0.w".to_string(), mask)].into_iter().collect();
        let tails = survivors(&graph, &masks, &graph).remove(0);
        let shuffled = survivors(&graph, &shuffle(&masks, &[], Granularity::Unstructured, 1).masks, &graph).remove(0);
        let fresh = survivors(&reinitialise(&graph, 6), &masks, &graph).remove(0);
        for other in [&shuffled, &fresh] {
            let distance = ks_distance(&tails.sketch, &other.sketch).unwrap();
            assert!((distance - 0.45).abs() < 0.03, "(1 - density) / 2, found {distance}");
            assert!((other.kurtosis.unwrap() - 3.0).abs() < 0.3);
        }
        assert!(tails.kurtosis.unwrap() < 1.5, "two tails are bimodal");
        assert_eq!(tails.histogram[30..70].iter().sum::<u64>(), 0, "nothing within 1.2 deviations");
        assert!(ks_distance(&shuffled.sketch, &fresh.sketch).unwrap() < 0.05);
    }
}
