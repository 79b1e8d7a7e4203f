//! Small plain nets for surface inspection: strided 3x3 convolutions, global pooling, one linear layer.

use sentei_graph::ops::{Flatten, GlobalAveragePool};
use sentei_graph::{Graph, GraphError};

use crate::{Builder, Spec};

/// Output channels and stride of each convolution after the stem.
const LAYERS: [(usize, usize); 4] = [(32, 2), (64, 1), (96, 2), (128, 1)];

pub(crate) fn inspect(spec: &Spec) -> Result<Graph, GraphError> {
    plain(spec, 1)
}

pub(crate) fn inspect_wide(spec: &Spec) -> Result<Graph, GraphError> {
    plain(spec, 2)
}

fn plain(spec: &Spec, widen: usize) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    net.conv_bn_relu("stem", 16 * widen, 5, 2, 1)?;
    for (i, (out, stride)) in LAYERS.into_iter().enumerate() {
        net.conv_bn_relu(&format!("conv{}", i + 1), out * widen, 3, stride, 1)?;
    }
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    let features = net.channels();
    net.linear("logits", features, spec.classes)?;
    Ok(net.finish())
}
