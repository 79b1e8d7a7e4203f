//! `scale * y + shift` per output channel, folded into the Conv or Gemm that computes `y`.

use super::Patch;
use crate::ops::{Op, aligned_axis};
use crate::{Graph, NodeId, Tensor, ValueId};

/// What happens to each output channel.
pub(super) struct Affine {
    /// Factor per channel; `None` leaves the weight untouched.
    pub scale: Option<Vec<f64>>,
    /// Addend per channel.
    pub shift: Option<Vec<f64>>,
}

/// A Conv or Gemm with constant weight and bias whose output only one node reads.
pub(super) struct Layer<'a> {
    graph: &'a Graph,
    node: NodeId,
    weight: (ValueId, &'a Tensor),
    bias: Option<(ValueId, &'a Tensor)>,
}

impl<'a> Layer<'a> {
    /// The layer behind `value`, if it can take a scale and a shift.
    pub fn behind(graph: &'a Graph, value: ValueId) -> Option<Self> {
        let node = graph.producer(value)?;
        let (Op::Conv(_) | Op::Gemm(_)) = graph.op(node) else { return None };
        if graph.uses(value) != 1 {
            return None;
        }
        let mut constants = graph.node(node).inputs[1..].iter().map(|id| Some((*id, graph.initializer(*id)?)));
        let weight = constants.next()??;
        let bias = match constants.next() {
            Some(constant) => Some(constant?),
            None => None,
        };
        Some(Layer { graph, node, weight, bias })
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.weight.1.shape[0]
    }

    /// Number of axes of the output.
    pub fn rank(&self) -> usize {
        self.weight.1.shape.len()
    }

    /// The patch that gives a layer without a bias the constant `bias` as it is, if its shape is that of a bias.
    pub fn take_bias(&self, last: NodeId, bias: ValueId) -> Option<Patch> {
        let fits = self.graph.initializer(bias)?.shape == [self.channels()];
        if !fits || self.bias.is_some() {
            return None;
        }
        let layer = self.graph.node(self.node);
        let mut patch = Patch::new(self.graph);
        patch.replace(last, layer.op.clone(), &[&layer.inputs[..], &[bias]].concat());
        Some(patch)
    }

    /// The patch that lets `last`, the only reader, compute this layer with `affine` in it.
    pub fn absorb(&self, last: NodeId, affine: &Affine) -> Patch {
        let mut patch = Patch::new(self.graph);
        let layer = self.graph.node(self.node);
        let mut inputs = layer.inputs[..1].to_vec();
        inputs.push(match &affine.scale {
            Some(scale) => patch.constant(self.graph.name(self.weight.0), scaled_rows(self.weight.1, scale)),
            None => self.weight.0,
        });
        let factor = |o: usize| affine.scale.as_ref().map_or(1.0, |s| s[o]);
        let addend = |o: usize| affine.shift.as_ref().map_or(0.0, |s| s[o]);
        if self.bias.is_some() || affine.shift.is_some() {
            let old = |o: usize| self.bias.map_or(0.0, |(_, b)| f64::from(b.data[o]));
            let data = (0..self.channels()).map(|o| (old(o) * factor(o) + addend(o)) as f32).collect();
            let own_name = format!("{}.bias", self.graph.name(self.graph.node(last).output));
            let name = self.bias.map_or(own_name, |(id, _)| self.graph.name(id).to_string());
            inputs.push(patch.constant(&name, Tensor::new([self.channels()], data)));
        }
        patch.replace(last, layer.op.clone(), &inputs);
        patch
    }
}

/// Each row of `weight` times its factor; zeros stay `+0`, because the zero pattern is the pruning mask.
fn scaled_rows(weight: &Tensor, scale: &[f64]) -> Tensor {
    let row = (weight.len() / scale.len().max(1)).max(1);
    let scaled = |(i, w): (usize, &f32)| if *w == 0.0 { 0.0 } else { (f64::from(*w) * scale[i / row]) as f32 };
    Tensor { shape: weight.shape.clone(), data: weight.data.iter().enumerate().map(scaled).collect() }
}

/// The constant as one number per channel of a value of that rank, if broadcasting makes it that.
pub(super) fn per_channel(constant: &Tensor, rank: usize, channels: usize) -> Option<Vec<f64>> {
    if constant.shape.len() > rank {
        return None;
    }
    let own = constant.shape.len();
    let channel_axis = aligned_axis(own, rank, 1);
    let others_are_one = (0..own).all(|axis| Some(axis) == channel_axis || constant.shape[axis] == 1);
    match constant.data[..] {
        _ if !others_are_one => None,
        [value] => Some(vec![f64::from(value); channels]),
        ref values => (values.len() == channels).then(|| values.iter().map(|v| f64::from(*v)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_constants_that_vary_along_channels_count() {
        let with = |shape: &[usize]| per_channel(&Tensor::full(shape, 2.0), 4, 3);
        for shape in [&[3, 1, 1][..], &[1, 3, 1, 1], &[], &[1], &[1, 1, 1, 1]] {
            assert_eq!(with(shape), Some(vec![2.0; 3]), "{shape:?}");
        }
        for shape in [&[3][..], &[3, 1], &[1, 3, 1, 3], &[2, 1, 1, 1], &[1, 1, 3, 1, 1], &[0]] {
            assert_eq!(with(shape), None, "{shape:?}");
        }
        assert_eq!(per_channel(&Tensor::full([3], 2.0), 2, 3), Some(vec![2.0; 3]));
    }

    #[test]
    fn scaling_keeps_pruned_weights_positive_zero() {
        let weight = Tensor::new([2, 2], vec![0.0, 1.0, 2.0, -0.0]);
        let scaled = scaled_rows(&weight, &[-1.0, 0.5]);
        let bits: Vec<u32> = scaled.data.iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [0.0, -1.0, 1.0, 0.0].map(f32::to_bits));
    }
}
