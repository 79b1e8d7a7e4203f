//! The layers that are timed: those that decide how fast the benchmark networks are.

use sentei_kernels::conv::ConvGeometry;

/// Zeros in per cent of layers that networks are pruned in.
const PRUNED: &[u32] = &[95, 90, 80, 0];
/// First layers and depthwise ones stay dense, and some layers have no weights at all.
const DENSE: &[u32] = &[0];

/// A layer of a network.
pub struct Case {
    pub network: &'static str,
    pub shape: Shape,
    pub zeros: &'static [u32],
}

pub enum Shape {
    Conv(ConvGeometry),
    Linear {
        inputs: usize,
        outputs: usize,
    },
    MaxPool(ConvGeometry),
    /// Mean of every plane.
    Mean {
        channels: usize,
        size: usize,
    },
    /// Sum of two maps.
    Add {
        channels: usize,
        size: usize,
    },
}

pub fn cases() -> Vec<Case> {
    let conv = |inputs: usize, size: usize, outputs: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2])
    };
    let own = |channels: usize, size: usize, kernel: usize, stride: usize| ConvGeometry {
        groups: channels,
        ..conv(channels, size, channels, kernel, stride)
    };
    let mut all = Vec::new();
    let mut add = |network, zeros, shape| all.push(Case { network, shape, zeros });
    for (inputs, size, outputs, kernel, stride) in [
        (64, 56, 64, 3, 1),
        (64, 56, 256, 1, 1),
        (256, 56, 64, 1, 1),
        (128, 56, 128, 3, 2),
        (128, 28, 128, 3, 1),
        (512, 28, 128, 1, 1),
        (256, 14, 256, 3, 1),
        (1024, 14, 256, 1, 1),
        (512, 7, 512, 3, 1),
        (2048, 7, 512, 1, 1),
    ] {
        add("resnet50", PRUNED, Shape::Conv(conv(inputs, size, outputs, kernel, stride)));
    }
    for size in [4, 2] {
        add("vgg16", PRUNED, Shape::Conv(conv(512, size, 512, 3, 1)));
    }
    for (channels, size) in [(16, 32), (32, 16), (64, 8)] {
        add("resnet56", PRUNED, Shape::Conv(conv(channels, size, channels, 3, 1)));
    }
    for (inputs, size, outputs) in [(64, 56, 128), (512, 14, 512), (1024, 7, 1024)] {
        add("mobilenetv1", PRUNED, Shape::Conv(conv(inputs, size, outputs, 1, 1)));
    }
    for (inputs, size, outputs) in [(24, 56, 144), (960, 7, 320)] {
        add("mobilenetv2", PRUNED, Shape::Conv(conv(inputs, size, outputs, 1, 1)));
    }
    for (inputs, outputs) in [(784, 300), (300, 100), (100, 10)] {
        add("lenet300", PRUNED, Shape::Linear { inputs, outputs });
    }
    add("resnet50", DENSE, Shape::Conv(conv(3, 224, 64, 7, 2)));
    add("resnet56", DENSE, Shape::Conv(conv(3, 32, 16, 3, 1)));
    add("mobilenetv2", DENSE, Shape::Conv(conv(3, 224, 32, 3, 2)));
    for (channels, size, stride) in [(32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (512, 14, 1), (1024, 7, 1)]
    {
        add("mobilenetv1", DENSE, Shape::Conv(own(channels, size, 3, stride)));
    }
    add("resnet50", DENSE, Shape::Linear { inputs: 2048, outputs: 1000 });
    add("resnet50", DENSE, Shape::MaxPool(own(64, 112, 3, 2)));
    add("resnet50", DENSE, Shape::Mean { channels: 2048, size: 7 });
    add("resnet50", DENSE, Shape::Add { channels: 256, size: 56 });
    add("resnet56", DENSE, Shape::Add { channels: 16, size: 32 });
    all
}

impl Shape {
    /// Weights of the dense layer.
    pub fn weights(&self) -> usize {
        match self {
            Shape::Conv(geometry) => geometry.weights().expect("small layers"),
            Shape::Linear { inputs, outputs } => inputs * outputs,
            Shape::MaxPool(_) | Shape::Mean { .. } | Shape::Add { .. } => 0,
        }
    }

    /// As in the table, for example `64x56x56 -> 64 k3 s1`.
    pub fn name(&self) -> String {
        let window = |g: &ConvGeometry, kind: &str| {
            let (input, output) = (format!("{}x{}x{}", g.in_channels, g.in_height, g.in_width), g.out_channels);
            format!("{input} -> {output} {kind}{} s{}", g.kernel[0], g.stride[0])
        };
        match self {
            Shape::Conv(g) => window(g, if g.groups > 1 { "dw" } else { "k" }),
            Shape::Linear { inputs, outputs } => format!("{inputs} -> {outputs} fc"),
            Shape::MaxPool(g) => window(g, "max"),
            Shape::Mean { channels, size } => format!("{channels}x{size}x{size} mean"),
            Shape::Add { channels, size } => format!("{channels}x{size}x{size} add"),
        }
    }
}
