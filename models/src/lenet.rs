//! The two nets of Han et al. 2015, table 1, and the fully connected one of the fundamental-limit paper.

use sentei_graph::ops::{Flatten, MaxPool, Relu};
use sentei_graph::{Graph, GraphError};

use crate::{Builder, Spec};

/// LeNet-300-100: two hidden layers on the flattened image.
pub(crate) fn lenet300(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    net.node("pixels", Flatten { axis: 1 }, &[])?;
    net.linear("fc1", spec.channels * spec.height * spec.width, 300)?.node("fc1.relu", Relu, &[])?;
    net.linear("fc2", 300, 100)?.node("fc2.relu", Relu, &[])?;
    net.linear("logits", 100, spec.classes)?;
    Ok(net.finish())
}

/// FC5 of Zhang et al. 2024 (arXiv:2306.05857): four hidden layers on the flattened image, 3072-1000-600-300-100-10 on CIFAR-10.
pub(crate) fn fc5(spec: &Spec) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    net.node("pixels", Flatten { axis: 1 }, &[])?;
    let mut inputs = spec.channels * spec.height * spec.width;
    for (layer, units) in [1000, 600, 300, 100].into_iter().enumerate() {
        let name = format!("fc{}", layer + 1);
        net.linear(&name, inputs, units)?.node(&format!("{name}.relu"), Relu, &[])?;
        inputs = units;
    }
    net.linear("logits", inputs, spec.classes)?;
    Ok(net.finish())
}

/// LeNet-5 as Caffe trains it: 20 and 50 unpadded 5x5 filters, 500 hidden units, no ReLU between convolution and pooling.
pub(crate) fn lenet5(spec: &Spec) -> Result<Graph, GraphError> {
    let pool = || MaxPool { kernel: [2, 2], stride: [2, 2], pads: [0; 4] };
    let mut net = Builder::new(spec)?;
    net.conv_valid("conv1", 20, 5)?.node("pool1", pool(), &[])?;
    net.conv_valid("conv2", 50, 5)?.node("pool2", pool(), &[])?;
    net.node("features", Flatten { axis: 1 }, &[])?;
    let features = net.shape()?[1];
    net.linear("fc1", features, 500)?.node("fc1.relu", Relu, &[])?;
    net.linear("logits", 500, spec.classes)?;
    Ok(net.finish())
}
