//! Weights that stand or fall together, and the way from numbers per weight to numbers per group and back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sentei_graph::Mask;

use crate::layers::{Layer, LayerKind};
use crate::masks::MaskError;

/// The groups of one layer: weights of `rows` neighbouring output channels and `columns` neighbouring input channels at the same
/// kernel position.
///
/// Groups are numbered as the first weight of each stands in the tensor, so "lowest index first" means the same for
/// groups and for weights. Where `rows` or `columns` does not divide the number of channels, the last groups are smaller. Each
/// filter of a depthwise convolution reads an input channel of its own; its weights are groups of one. Convolutions in a
/// few groups are not looked at closer: a block may reach over two of them.
///
/// A group's score is the mean over its members, as far as they are not removed yet: what is lost per weight that is
/// saved. For magnitudes that is the sum of absolute values which Mao et al. 2017, "Exploring the Regularity of Sparse
/// Structure in Convolutional Neural Networks" (arXiv:1705.08922), section 3, rank by; the mean makes smaller groups at
/// the edge comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    weights: usize,
    /// Input channels of an output channel.
    inputs: usize,
    /// Weights of an output and an input channel.
    taps: usize,
    rows: usize,
    columns: usize,
}

impl Grouping {
    /// Each of `weights` weights by itself.
    pub fn single(weights: usize) -> Self {
        Grouping { weights, inputs: 1, taps: 1, rows: 1, columns: 1 }
    }

    /// Blocks of `rows` output and `columns` input channels, at least 1 each.
    pub fn blocks(layer: &Layer, rows: usize, columns: usize) -> Self {
        if layer.kind == LayerKind::Depthwise || layer.is_empty() {
            return Grouping::single(layer.len());
        }
        let inputs = layer.shape.get(1).copied().unwrap_or(1);
        Grouping { weights: layer.len(), inputs, taps: layer.shape.iter().skip(2).product(), rows, columns }
    }

    fn is_single(&self) -> bool {
        self.rows * self.columns == 1
    }

    /// Weights of an output channel.
    fn inner(&self) -> usize {
        self.inputs * self.taps
    }

    /// Groups of as many output channels as one has.
    fn across(&self) -> usize {
        self.inputs.div_ceil(self.columns) * self.taps
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        (self.weights / self.inner()).div_ceil(self.rows) * self.across()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Group of the weight with flat index `weight`.
    pub fn of(&self, weight: usize) -> usize {
        let (output, input, tap) = (weight / self.inner(), weight / self.taps % self.inputs, weight % self.taps);
        output / self.rows * self.across() + input / self.columns * self.taps + tap
    }

    /// Flat indices of the weights of `group`, ascending.
    pub fn members(&self, group: usize) -> impl Iterator<Item = usize> {
        let (rows, across, tap) = (group / self.across(), group % self.across(), group % self.taps);
        let (inner, taps) = (self.inner(), self.taps);
        let first = across / taps * self.columns;
        let inputs = first..(first + self.columns).min(self.inputs);
        let outputs = rows * self.rows..((rows + 1) * self.rows).min(self.weights / inner);
        outputs.flat_map(move |output| inputs.clone().map(move |input| output * inner + input * taps + tap))
    }

    /// Groups that have a weight left in `mask`.
    pub fn live<'a>(&self, mask: &'a Mask) -> Cow<'a, Mask> {
        if self.is_single() {
            return Cow::Borrowed(mask);
        }
        let live = |group: usize| self.members(group).any(|i| mask.bits()[i]);
        Cow::Owned(Mask::from_bits((0..self.len()).map(live).collect()))
    }

    /// Mean of `values` over the members of each group that `mask` keeps; 0 for a group without any.
    ///
    /// * `name`: the initializer, for errors.
    /// * `values`: one per weight, flat.
    ///
    /// # Errors
    /// [`MaskError::NotFinite`] when the value of a kept weight is NaN or infinite.
    pub fn means<'a>(&self, name: &str, values: &'a [f32], mask: &Mask) -> Result<Cow<'a, [f32]>, MaskError> {
        if let Some(index) = (0..values.len()).find(|i| mask.bits()[*i] && !values[*i].is_finite()) {
            return Err(MaskError::NotFinite { name: name.into(), index });
        }
        if self.is_single() {
            return Ok(Cow::Borrowed(values));
        }
        let mean = |group: usize| {
            let kept = self.members(group).filter(|i| mask.bits()[*i]);
            let (sum, n) = kept.fold((0.0, 0.0), |(sum, n), i| (sum + f64::from(values[i]), n + 1.0));
            if n == 0.0 { 0.0 } else { (sum / n) as f32 }
        };
        Ok(Cow::Owned((0..self.len()).map(mean).collect()))
    }

    /// The weights of the groups that `kept` keeps, as far as `mask` keeps them.
    pub fn weights(&self, kept: Mask, mask: &Mask) -> Mask {
        if self.is_single() {
            return kept.and(mask);
        }
        let bit = |(i, live): (usize, &bool)| *live && kept.bits()[self.of(i)];
        Mask::from_bits(mask.bits().iter().enumerate().map(bit).collect())
    }

    /// All groups, in one set for full groups and others for those at the edges.
    pub(crate) fn of_equal_size(&self) -> Vec<Vec<usize>> {
        let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for group in 0..self.len() {
            sets.entry(self.members(group).count()).or_default().push(group);
        }
        sets.into_values().rev().collect()
    }
}
