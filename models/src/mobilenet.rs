//! MobileNetV1: depthwise 3x3 and pointwise 1x1 in turn (Howard et al. 2017, table 1), at a quarter of the width.

use sentei_graph::ops::{Flatten, GlobalAveragePool};
use sentei_graph::{Graph, GraphError};

use crate::{Builder, Spec};

/// Full-width output channels and stride of each depthwise-separable pair.
const PAIRS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

pub(crate) fn mobilenet_quarter(spec: &Spec) -> Result<Graph, GraphError> {
    let width = |full: usize| full / 4;
    let mut net = Builder::new(spec)?;
    net.conv_bn_relu("stem", width(32), 3, 2, 1)?;
    for (i, (full, stride)) in PAIRS.into_iter().enumerate() {
        let channels = net.channels();
        net.conv_bn_relu(&format!("dw{}", i + 1), channels, 3, stride, channels)?;
        net.conv_bn_relu(&format!("pw{}", i + 1), width(full), 1, 1, 1)?;
    }
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    net.linear("logits", width(1024), spec.classes)?;
    Ok(net.finish())
}
