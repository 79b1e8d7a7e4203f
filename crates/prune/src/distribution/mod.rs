//! Distribution: how many weights each layer keeps.
//!
//! Every choice answers the same question, [`Distribution::counts`]; the weights themselves are then taken by
//! [`crate::masks::top_k`] layer by layer. A layer is never emptied unless [`Collapse::Allow`] asks for it.

mod erk;
mod global;
mod per_layer;
mod std_threshold;
mod uniform;
mod uniform_plus;

use std::borrow::Cow;
use std::collections::BTreeMap;

use sentei_graph::Mask;
use serde::{Deserialize, Serialize};

use crate::granularity::Grouping;
use crate::layers::Layer;
use crate::masks::MaskError;

/// What a distribution may look at, for one layer. It counts groups of weights, which are single weights unless the
/// granularity says otherwise.
#[derive(Clone, Debug)]
pub struct LayerView<'a> {
    /// Name, shape and kind.
    pub layer: &'a Layer,
    /// Current weights, flat.
    pub weights: &'a [f32],
    /// Weights that are not pruned yet.
    pub mask: &'a Mask,
    /// What is kept or removed as one.
    pub groups: Grouping,
    /// Saliency per group; higher means "keep".
    pub scores: Cow<'a, [f32]>,
    /// Grouping that are not pruned yet.
    pub live: Cow<'a, Mask>,
}

impl LayerView<'_> {
    /// Number of groups, kept and removed.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which weights the standard deviation of [`Distribution::StdThreshold`] is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdOver {
    /// Weights that are not pruned yet; the threshold does not shrink from round to round.
    #[default]
    Survivors,
    /// All weights of the tensor, pruned zeros included.
    All,
}

/// What happens when a layer would keep no weight, so that no path leads through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collapse {
    /// It is an error that names the layer.
    #[default]
    Refuse,
    /// The layer is emptied; [`crate::Masks::collapsed`] reports it.
    Allow,
}

/// How much each layer keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// One ranking over all layers, after each layer was granted its floor.
    Global {
        /// Least density of a layer, in `[0, 1]`; 0.01 to 0.02 prevents layer collapse.
        #[serde(default = "default_floor")]
        floor: f64,
    },
    /// The same density in every layer.
    Uniform,
    /// The same density in every layer, but the first convolution stays dense and the last linear layer keeps at least 0.2.
    UniformPlus,
    /// Erdős-Rényi-kernel: density proportional to the sum of the weight's dimensions over their product, at most 1.
    Erk,
    /// A given final density per layer; reached through powers of it when the schedule has rounds.
    PerLayer {
        /// Density per initializer name, in `(0, 1]`.
        densities: BTreeMap<String, f64>,
        /// Density of the layers that the table does not name, in `(0, 1]`.
        #[serde(default = "one")]
        others: f64,
    },
    /// Keep `|w| > quality * std(W)` in each layer; the density follows from the weights.
    StdThreshold {
        /// Multiple of the standard deviation, at least 0; for Gaussian weights the density is `erfc(quality / sqrt(2))`.
        #[serde(default = "one")]
        quality: f64,
        /// Other qualities for some layers, by initializer name.
        #[serde(default)]
        layers: BTreeMap<String, f64>,
        /// What the standard deviation is taken over.
        #[serde(default)]
        std_over: StdOver,
    },
}

fn default_floor() -> f64 {
    0.01
}

fn one() -> f64 {
    1.0
}

impl Default for Distribution {
    fn default() -> Self {
        Distribution::Global { floor: default_floor() }
    }
}

impl Distribution {
    /// Number of groups (of weights, when each is by itself) that each layer keeps, at least 1 and never more than are live.
    ///
    /// * `density`: kept fraction of all groups of `views`, in `(0, 1]`; `StdThreshold` takes no notice of it.
    ///
    /// `Global`, `Erk` and `UniformPlus` keep exactly `round(density * total)` in all (unless fewer are live), `Uniform` exactly
    /// `round(density * len)` in each layer, `PerLayer` exactly `round(d * len)` once `density` is down to what the table implies.
    ///
    /// # Errors
    /// [`MaskError`] when the density is no fraction, a score is not finite, a table names a stranger, floors
    /// exceed the density, or a layer would be emptied.
    pub fn counts(&self, views: &[LayerView], density: f64) -> Result<Vec<usize>, MaskError> {
        let counts = self.counts_with_collapse(views, density)?;
        match counts.iter().zip(views).find(|(count, view)| **count == 0 && !view.is_empty()) {
            None => Ok(counts),
            Some((_, view)) => {
                Err(MaskError::LayerCollapse { layer: view.layer.name.clone(), weights: view.layer.len() })
            }
        }
    }

    /// As [`Distribution::counts`], but a layer may be left with no weight at all.
    ///
    /// # Errors
    /// As [`Distribution::counts`], but for the emptied layer.
    pub fn counts_with_collapse(&self, views: &[LayerView], density: f64) -> Result<Vec<usize>, MaskError> {
        if !(density > 0.0 && density <= 1.0) {
            return Err(MaskError::Density(density));
        }
        let mut counts = match self {
            Distribution::Global { floor } => global::counts(views, density, *floor)?,
            Distribution::Uniform => uniform::counts(views, density),
            Distribution::UniformPlus => uniform_plus::counts(views, density)?,
            Distribution::Erk => erk::counts(views, density),
            Distribution::PerLayer { densities, others } => per_layer::counts(views, density, densities, *others)?,
            Distribution::StdThreshold { quality, layers, std_over } => {
                std_threshold::counts(views, *quality, layers, *std_over)?
            }
        };
        for (count, view) in counts.iter_mut().zip(views) {
            *count = (*count).min(view.live.kept());
        }
        Ok(counts)
    }

    /// Whether `density` leaves room for the floors of `Global`, which can be told before anything is scored.
    ///
    /// * `groups`: number of groups of each layer.
    ///
    /// # Errors
    /// [`MaskError::Floor`] when it does not.
    pub fn check_floors(&self, groups: &[usize], density: f64) -> Result<(), MaskError> {
        let Distribution::Global { floor } = self else { return Ok(()) };
        let keep = global::kept(groups.iter().sum(), density);
        let floors = groups.iter().map(|len| global::granted(*len, *floor)).sum();
        if floors > keep { Err(MaskError::Floor { density, keep, floors }) } else { Ok(()) }
    }

    /// Whether the density is chosen from outside; otherwise a table or the weights imply it.
    pub fn takes_a_target(&self) -> bool {
        !matches!(self, Distribution::PerLayer { .. } | Distribution::StdThreshold { .. })
    }

    /// The density that pruning ends at, or `None` when only the weights can tell.
    ///
    /// * `asked`: the density of the configuration.
    ///
    /// # Errors
    /// [`MaskError`] when a layer table names a stranger or holds something that is no fraction.
    pub fn final_density(&self, layers: &[Layer], asked: f64) -> Result<Option<f64>, MaskError> {
        match self {
            Distribution::PerLayer { densities, others } => {
                per_layer::table(layers, densities, *others).map(|table| Some(per_layer::overall(layers, &table, 1.0)))
            }
            Distribution::StdThreshold { .. } => Ok(None),
            _ => Ok(Some(asked)),
        }
    }
}

/// Refuses table entries that match no layer.
fn check_names(layers: &[&Layer], table: &BTreeMap<String, f64>) -> Result<(), MaskError> {
    match table.keys().find(|name| layers.iter().all(|l| l.name != **name)) {
        None => Ok(()),
        Some(name) => {
            let known = layers.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
            Err(MaskError::UnknownLayer { name: name.clone(), known })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layers::LayerKind;

    /// Layers of the given shapes whose weights are also their scores.
    pub(crate) struct Fixture {
        pub layers: Vec<Layer>,
        pub weights: Vec<Vec<f32>>,
        pub live: Vec<Mask>,
    }

    impl Fixture {
        pub(crate) fn new(weights: Vec<(Vec<usize>, Vec<f32>)>) -> Self {
            let layer = |(i, shape): (usize, Vec<usize>)| Layer {
                name: format!("w{i}"),
                shape,
                kind: LayerKind::Linear,
                bias: None,
                node: format!("y{i}"),
            };
            let (shapes, weights): (Vec<_>, Vec<Vec<f32>>) = weights.into_iter().unzip();
            let layers = shapes.into_iter().enumerate().map(layer).collect();
            let live = weights.iter().map(|w| Mask::dense(w.len())).collect();
            Fixture { layers, weights, live }
        }

        pub(crate) fn views<'a>(&'a self) -> Vec<LayerView<'a>> {
            let zipped = self.layers.iter().zip(&self.weights).zip(&self.live);
            let view = |((layer, w), mask): ((_, &'a Vec<f32>), &'a Mask)| LayerView {
                layer,
                weights: w,
                mask,
                groups: Grouping::single(w.len()),
                scores: Cow::Borrowed(w),
                live: Cow::Borrowed(mask),
            };
            zipped.map(view).collect()
        }
    }

    fn two() -> Fixture {
        Fixture::new(vec![
            (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]),
            (vec![2, 4], (0..8).map(|i| 10.0 + i as f32).collect()),
        ])
    }

    #[test]
    fn a_density_that_is_no_fraction_is_refused() {
        for bad in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(matches!(Distribution::Uniform.counts(&two().views(), bad), Err(MaskError::Density(_))), "{bad}");
        }
    }

    #[test]
    fn an_emptied_layer_is_named() {
        let error = Distribution::Uniform.counts(&two().views(), 0.1).unwrap_err();
        assert_eq!(error, MaskError::LayerCollapse { layer: "w0".into(), weights: 4 });
        let error = Distribution::Global { floor: 0.0 }.counts(&two().views(), 0.5).unwrap_err();
        assert_eq!(error, MaskError::LayerCollapse { layer: "w0".into(), weights: 4 });
    }
}
