//! CIFAR ResNets (He et al. 2016, section 4.2) with parameter-free option-A shortcuts:
//! every second pixel, missing channels filled with zeros. And ResNet-18 and ResNet-50 of the same paper's table 1, with projections
//! (option B).

use sentei_graph::ops::{Add, Flatten, GlobalAveragePool, MaxPool, Pad, Relu, Slice};
use sentei_graph::{Graph, GraphError, ValueId};

use crate::{Builder, Spec};

pub(crate) fn resnet8(spec: &Spec) -> Result<Graph, GraphError> {
    resnet(spec, 1)
}

pub(crate) fn resnet20(spec: &Spec) -> Result<Graph, GraphError> {
    resnet(spec, 3)
}

pub(crate) fn resnet56(spec: &Spec) -> Result<Graph, GraphError> {
    resnet(spec, 9)
}

pub(crate) fn resnet110(spec: &Spec) -> Result<Graph, GraphError> {
    resnet(spec, 18)
}

/// Two 3x3 convolutions per block; a projection where the shape changes.
pub(crate) fn resnet18(spec: &Spec) -> Result<Graph, GraphError> {
    imagenet(spec, [2, 2, 2, 2], 1, basic)
}

/// The stride of a stage stands in the 3x3 convolution of its first block, as torchvision has it.
pub(crate) fn resnet50(spec: &Spec) -> Result<Graph, GraphError> {
    imagenet(spec, [3, 4, 6, 3], 4, bottleneck)
}

type Block = fn(&mut Builder, &str, usize, usize) -> Result<(), GraphError>;

/// The stem of an ImageNet ResNet, four stages of blocks, the mean, the classifier; a block gives `expansion` times its width.
fn imagenet(spec: &Spec, blocks: [usize; 4], expansion: usize, block: Block) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    net.conv_bn_relu("stem", 64, 7, 2, 1)?;
    let pool = MaxPool { kernel: [3, 3], stride: [2, 2], pads: [1; 4] };
    net.node("stem.pool", pool, &[])?;
    for (stage, (width, blocks)) in [64, 128, 256, 512].into_iter().zip(blocks).enumerate() {
        for number in 0..blocks {
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            block(&mut net, &format!("s{}b{}", stage + 1, number + 1), width, stride)?;
        }
    }
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    net.linear("logits", 512 * expansion, spec.classes)?;
    Ok(net.finish())
}

fn basic(net: &mut Builder, name: &str, width: usize, stride: usize) -> Result<(), GraphError> {
    let start = (net.at, net.channels());
    net.conv_bn_relu(&format!("{name}.conv1"), width, 3, stride, 1)?;
    net.conv(&format!("{name}.conv2"), width, 3, 1, 1)?.batch_norm(&format!("{name}.conv2.bn"))?;
    join(net, name, start, width, stride)
}

fn bottleneck(net: &mut Builder, name: &str, width: usize, stride: usize) -> Result<(), GraphError> {
    let start = (net.at, net.channels());
    net.conv_bn_relu(&format!("{name}.conv1"), width, 1, 1, 1)?;
    net.conv_bn_relu(&format!("{name}.conv2"), width, 3, stride, 1)?;
    net.conv(&format!("{name}.conv3"), 4 * width, 1, 1, 1)?.batch_norm(&format!("{name}.conv3.bn"))?;
    join(net, name, start, 4 * width, stride)
}

/// Adds the block's input `start` (value, channels), projected where its shape is another, to the current value of `width` channels.
fn join(net: &mut Builder, name: &str, start: (ValueId, usize), width: usize, stride: usize) -> Result<(), GraphError> {
    let branch = net.at;
    net.branch_from(start.0, start.1);
    if start.1 != width {
        net.conv(&format!("{name}.project"), width, 1, stride, 1)?.batch_norm(&format!("{name}.project.bn"))?;
    }
    let shortcut = net.at;
    net.branch_from(branch, width);
    net.node(&format!("{name}.add"), Add, &[shortcut])?.node(&format!("{name}.relu"), Relu, &[])?;
    Ok(())
}

fn resnet(spec: &Spec, blocks: usize) -> Result<Graph, GraphError> {
    let mut net = Builder::new(spec)?;
    net.conv_bn_relu("stem", 16, 3, 1, 1)?;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            residual(&mut net, &format!("s{}b{}", stage + 1, block + 1), width, stride)?;
        }
    }
    net.node("pool", GlobalAveragePool, &[])?.node("features", Flatten { axis: 1 }, &[])?;
    net.linear("logits", 64, spec.classes)?;
    Ok(net.finish())
}

fn residual(net: &mut Builder, name: &str, width: usize, stride: usize) -> Result<(), GraphError> {
    let (start, channels) = (net.at, net.channels());
    net.conv_bn_relu(&format!("{name}.conv1"), width, 3, stride, 1)?;
    net.conv(&format!("{name}.conv2"), width, 3, 1, 1)?.batch_norm(&format!("{name}.conv2.bn"))?;
    let branch = net.at;
    net.branch_from(start, channels);
    if stride > 1 || channels != width {
        let every = Slice { starts: vec![0; 4], ends: vec![usize::MAX; 4], steps: vec![1, 1, stride, stride] };
        let missing = width - channels;
        let fill = Pad { amounts: vec![(0, 0), (missing / 2, missing - missing / 2), (0, 0), (0, 0)], value: 0.0 };
        net.node(&format!("{name}.every"), every, &[])?.node(&format!("{name}.fill"), fill, &[])?;
    }
    let shortcut = net.at;
    net.branch_from(branch, width);
    net.node(&format!("{name}.add"), Add, &[shortcut])?.node(&format!("{name}.relu"), Relu, &[])?;
    Ok(())
}
