//! VGG-16 with batch norm as used on CIFAR: thirteen 3x3 convolutions, one linear layer
//! (Simonyan & Zisserman 2015, configuration D; classifier shortened).

use sentei_graph::ops::{Flatten, GlobalAveragePool, MaxPool};
use sentei_graph::{Graph, GraphError};

use crate::{Builder, Spec};

pub(crate) fn vgg16(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    for (stage, (width, convs)) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)].into_iter().enumerate() {
        for conv in 0..convs {
            net.conv_bn_relu(&format!("conv{}_{}", stage + 1, conv + 1), width, 3, 1, 1)?;
        }
        net.node(&format!("pool{}", stage + 1), MaxPool { kernel: [2, 2], stride: [2, 2], pads: [0; 4] }, &[])?;
    }
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    net.linear("logits", 512, spec.classes)?;
    Ok(net.finish())
}
