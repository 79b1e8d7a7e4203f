//! The masks of one network, and exact selection of the weights to keep.

use sentei_graph::{Graph, Mask, Tensor};

use crate::layers::Layer;

/// Why weights cannot be selected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// A density is not a fraction.
    #[error("density {0} is outside (0, 1]")]
    Density(f64),
    /// A score is NaN or infinite.
    #[error("score {index} of initializer `{name}` is not finite")]
    NotFinite {
        /// Initializer.
        name: String,
        /// Flat index.
        index: usize,
    },
    /// A layer would be left with no weight, so that no path leads through it.
    #[error(
        "layer collapse: `{layer}` would keep none of its {weights} weights; lower --sparsity, or set a floor: distribution = {{ global = {{ floor = 0.01 }} }}, or collapse = \"allow\" to see what happens"
    )]
    LayerCollapse {
        /// Initializer of the layer.
        layer: String,
        /// How many weights it has.
        weights: usize,
    },
    /// The floors of the layers together exceed what may be kept.
    #[error(
        "density {density:.3e} keeps {keep} weights (or blocks) in all, and the floors under the layers already {floors}; keep more, or lower the floor: --floor, or distribution = {{ global = {{ floor = 0 }} }}"
    )]
    Floor {
        /// Density asked for.
        density: f64,
        /// Weights it keeps.
        keep: usize,
        /// Weights that the floors keep.
        floors: usize,
    },
    /// What the first and the last layer keep exceeds what may be kept in all.
    #[error(
        "density {density:.3e} keeps {keep} weights (or blocks) but uniform_plus gives {floors} to the first and the last layer alone; raise it or use distribution = \"uniform\""
    )]
    Ends {
        /// Density asked for.
        density: f64,
        /// Weights it keeps.
        keep: usize,
        /// Weights that the two layers keep.
        floors: usize,
    },
    /// A table names a layer that is not prunable here.
    #[error("the layer table names `{name}`, which is not among the prunable layers: {known}")]
    UnknownLayer {
        /// Name in the table.
        name: String,
        /// Prunable layers.
        known: String,
    },
}

/// One [`Mask`] per prunable layer, in graph order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    entries: Vec<(String, Mask)>,
}

impl Masks {
    /// Keeps every weight of `layers`.
    pub fn dense(layers: &[Layer]) -> Self {
        layers.iter().map(|l| (l.name.clone(), Mask::dense(l.len()))).collect()
    }

    /// The zero pattern of `layers` in `graph`; a layer that the graph lacks is left out.
    pub fn of_zeros(graph: &Graph, layers: &[Layer]) -> Self {
        let tensor = |l: &Layer| -> Option<&Tensor> { graph.initializer(graph.value(&l.name)?) };
        layers.iter().filter_map(|l| Some((l.name.clone(), Mask::of_zeros(tensor(l)?)))).collect()
    }

    /// Layer names and masks, in graph order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Mask)> {
        self.entries.iter().map(|(name, mask)| (name.as_str(), mask))
    }

    /// The mask of one layer.
    pub fn get(&self, name: &str) -> Option<&Mask> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, mask)| mask)
    }

    /// Number of kept weights.
    pub fn kept(&self) -> usize {
        self.entries.iter().map(|(_, mask)| mask.kept()).sum()
    }

    /// Number of prunable weights.
    pub fn prunable(&self) -> usize {
        self.entries.iter().map(|(_, mask)| mask.len()).sum()
    }

    /// Kept fraction of the prunable weights, in `[0, 1]`; 1 when nothing is prunable.
    pub fn density(&self) -> f64 {
        if self.prunable() == 0 { 1.0 } else { self.kept() as f64 / self.prunable() as f64 }
    }

    /// Layers that keep no weight at all, so that no path leads through them.
    pub fn collapsed(&self) -> Vec<&str> {
        self.iter().filter(|(_, mask)| !mask.is_empty() && mask.kept() == 0).map(|(name, _)| name).collect()
    }

    /// Whether every weight kept here is kept by `other` too, layer by layer.
    pub fn is_subset_of(&self, other: &Masks) -> bool {
        self.entries.iter().all(|(name, mask)| other.get(name).is_some_and(|o| mask.is_subset_of(o)))
    }
}

impl FromIterator<(String, Mask)> for Masks {
    fn from_iter<I: IntoIterator<Item = (String, Mask)>>(entries: I) -> Self {
        Masks { entries: entries.into_iter().collect() }
    }
}

/// Keeps the `keep` highest-scoring weights among the live ones of a layer.
///
/// * `scores`: one saliency per weight, flat in row-major order; higher means "keep".
/// * `live`: weights that are not pruned yet; the result is a subset of it.
/// * `keep`: exactly `keep.min(live.kept())` bits of the result are set.
///
/// Among equal scores the lowest flat index is removed first.
///
/// # Errors
/// [`MaskError::NotFinite`] when the score of a live weight is NaN or infinite.
pub fn top_k(name: &str, scores: &[f32], live: &Mask, keep: usize) -> Result<Mask, MaskError> {
    let mut ranked = ranks(name, scores, live)?;
    let mut bits = vec![false; scores.len()];
    for (_, index) in highest(&mut ranked, keep) {
        bits[*index] = true;
    }
    Ok(Mask::from_bits(bits))
}

/// `(rank, flat index)` of every live weight; greater pairs are kept first.
pub(crate) fn ranks(name: &str, scores: &[f32], live: &Mask) -> Result<Vec<(u32, usize)>, MaskError> {
    let mut ranked = Vec::with_capacity(scores.len());
    for (index, (score, alive)) in scores.iter().zip(live.bits()).enumerate() {
        if !alive {
            continue;
        }
        if !score.is_finite() {
            return Err(MaskError::NotFinite { name: name.into(), index });
        }
        ranked.push((ordered(*score), index));
    }
    Ok(ranked)
}

/// The `keep` greatest items, in no particular order. Expected linear time.
pub(crate) fn highest<T: Ord>(ranked: &mut [T], keep: usize) -> &[T] {
    let cut = ranked.len().saturating_sub(keep);
    if cut > 0 && cut < ranked.len() {
        ranked.select_nth_unstable(cut);
    }
    &ranked[cut..]
}

/// Maps finite floats to integers of the same order; `-0.0` equals `+0.0`.
fn ordered(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::distribution::tests::Fixture;
    use proptest::prelude::*;

    /// Weights of two to four layers, with heavy ties.
    fn tied() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let weight = (0usize..4).prop_map(|i| [0.0f32, 0.5, -0.5, 1.0][i]);
        prop::collection::vec(prop::collection::vec(weight, 1..60), 2..5)
    }

    /// Layers of these weights; the magnitudes are the scores.
    fn fixture(layers: &[Vec<f32>]) -> Fixture {
        Fixture::new(layers.iter().map(|l| (vec![1, l.len()], l.iter().map(|w| w.abs()).collect())).collect())
    }

    fn select(fixture: &Fixture, scope: &Distribution, density: f64) -> Vec<Mask> {
        let views = fixture.views();
        let counts = scope.counts_with_collapse(&views, density).unwrap();
        views.iter().zip(counts).map(|(v, keep)| top_k(&v.layer.name, &v.scores, &v.live, keep).unwrap()).collect()
    }

    #[test]
    fn ties_remove_the_lower_index_first() {
        let mask = top_k("w", &[1.0, 0.0, -0.0, 0.0, 2.0], &Mask::dense(5), 3).unwrap();
        assert_eq!(mask.bits(), [true, false, false, true, true]);
    }

    #[test]
    fn a_score_that_is_not_finite_is_named() {
        let error = top_k("w", &[1.0, f32::NAN], &Mask::dense(2), 1).unwrap_err();
        assert_eq!(error, MaskError::NotFinite { name: "w".into(), index: 1 });
        let live = Mask::from_bits(vec![true, false]);
        assert_eq!(top_k("w", &[1.0, f32::NAN], &live, 1).unwrap().bits(), [true, false]);
    }

    proptest! {
        #[test]
        fn one_layer_keeps_exactly_as_many_as_asked_for_in_order_under_heavy_ties(
            picks in prop::collection::vec((0usize..4, prop::bool::ANY), 1..200), keep in 0usize..220,
        ) {
            let scores: Vec<f32> = picks.iter().map(|(i, _)| [0.0f32, 0.5, -0.5, 1.0][*i].abs()).collect();
            let live = Mask::from_bits(picks.iter().map(|(_, b)| *b).collect());
            let mask = top_k("w", &scores, &live, keep).unwrap();
            prop_assert_eq!(mask.kept(), keep.min(live.kept()));
            prop_assert!(mask.is_subset_of(&live));
            let of = |kept: bool| (0..scores.len()).filter(move |i| live.bits()[*i] && mask.bits()[*i] == kept)
                .map(|i| (scores[i], i)).collect::<Vec<_>>();
            for kept in of.clone()(true) {
                for removed in of.clone()(false) {
                    prop_assert!(kept.0 > removed.0 || (kept.0 == removed.0 && kept.1 > removed.1));
                }
            }
        }

        #[test]
        fn magnitude_oracle_1_the_count_is_exact_under_heavy_ties_whatever_the_number_of_threads(
            layers in tied(), density in 0.05f64..1.0,
        ) {
            let fixture = fixture(&layers);
            let total: usize = layers.iter().map(Vec::len).sum();
            for scope in [Distribution::Global { floor: 0.0 }, Distribution::Uniform, Distribution::Erk] {
                let on = |threads: usize| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| select(&fixture, &scope, density))
                };
                let found = on(1);
                prop_assert_eq!(&found, &on(3));
                let kept = found.iter().map(Mask::kept);
                match scope {
                    Distribution::Uniform => {
                        let asked = layers.iter().map(|l| (density * l.len() as f64).round() as usize);
                        prop_assert!(kept.eq(asked));
                    }
                    _ => prop_assert_eq!(kept.sum::<usize>(), (density * total as f64).round() as usize),
                }
            }
        }

        #[test]
        fn magnitude_oracle_2_nothing_removed_is_larger_than_anything_kept_in_its_scope(
            layers in tied(), density in 0.05f64..1.0,
        ) {
            let fixture = fixture(&layers);
            let ends = |masks: &[Mask], of: std::ops::Range<usize>| {
                let all = of.flat_map(|l| layers[l].iter().zip(masks[l].bits()));
                all.fold((f32::INFINITY, f32::NEG_INFINITY), |(kept, removed), (w, keep)| match keep {
                    true => (kept.min(w.abs()), removed),
                    false => (kept, removed.max(w.abs())),
                })
            };
            let (kept, removed) = ends(&select(&fixture, &Distribution::Global { floor: 0.0 }, density), 0..layers.len());
            prop_assert!(kept >= removed);
            let masks = select(&fixture, &Distribution::Uniform, density);
            for l in 0..layers.len() {
                let (kept, removed) = ends(&masks, l..l + 1);
                prop_assert!(kept >= removed, "layer {}", l);
            }
        }

        #[test]
        fn the_integer_order_is_the_float_order(a in -1e30f32..1e30, b in -1e30f32..1e30) {
            prop_assert_eq!(a.partial_cmp(&b).unwrap(), ordered(a).cmp(&ordered(b)));
        }
    }
}
