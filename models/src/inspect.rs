//! Small plain nets for surface inspection: strided 3x3 convolutions, global pooling, one linear layer.

use sentei_graph::ops::{Concat, Flatten, GlobalAveragePool, MaxPool};
use sentei_graph::{Graph, GraphError};

use crate::{Builder, Spec};

/// Output channels and stride of each convolution after the stem.
const LAYERS: [(usize, usize); 4] = [(32, 2), (64, 1), (96, 2), (128, 1)];

pub(crate) fn inspect(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = convolutions(spec, 1)?;
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    classifier(net, 1, spec)
}

pub(crate) fn inspect_wide(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = convolutions(spec, 2)?;
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    classifier(net, 1, spec)
}

/// A defect of a few pixels vanishes in the mean over the image; the maximum keeps it.
pub(crate) fn inspect_spots(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = convolutions(spec, 1)?;
    let (map, channels) = (net.at, net.channels());
    let [_, _, height, width] = net.shape()?[..] else { unreachable!("convolutions give images") };
    net.node("mean", GlobalAveragePool, &[])?;
    let mean = net.at;
    net.branch_from(map, channels);
    net.node("peak", MaxPool { kernel: [height, width], stride: [1, 1], pads: [0; 4] }, &[])?;
    net.node("pool", Concat { axis: 1 }, &[mean])?.node("features", Flatten { axis: 1 }, &[])?;
    classifier(net, 2, spec)
}

fn convolutions(spec: &Spec, widen: usize) -> Result<Builder, GraphError> {
    let mut net = Builder::new(spec)?;
    net.conv_bn_relu("stem", 16 * widen, 5, 2, 1)?;
    for (i, (out, stride)) in LAYERS.into_iter().enumerate() {
        net.conv_bn_relu(&format!("conv{}", i + 1), out * widen, 3, stride, 1)?;
    }
    Ok(net)
}

/// The linear layer over `per_channel` features per channel.
fn classifier(mut net: Builder, per_channel: usize, spec: &Spec) -> Result<Graph, GraphError> {
    let features = net.channels() * per_channel;
    net.linear("logits", features, spec.classes)?;
    Ok(net.finish())
}
