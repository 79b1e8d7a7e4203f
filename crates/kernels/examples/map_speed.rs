//! Depthwise convolution, pooling and element-wise layers per instruction set that runs here: best of many short runs.
//!
//! `cargo run --release -p sentei-kernels --example map_speed [words every line must contain ...]`

use std::time::{Duration, Instant};

use sentei_kernels::conv::ConvGeometry;
use sentei_kernels::depthwise::DepthwiseConv;
use sentei_kernels::elementwise::{Elementwise, Shortcut};
use sentei_kernels::pool::{GlobalAverage, Pool, PoolKind};
use sentei_kernels::{Activation, Isa, Layer, Map};

fn main() {
    let geometry = |channels: usize, size: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        groups: channels,
        ..ConvGeometry::new(channels, [size; 2], channels, [kernel; 2])
    };
    let out = |g: &ConvGeometry| Map::aligned(g.out_channels, g.out_height(), g.out_width());
    for (channels, size, kernel, stride) in [
        (8, 112, 3, 1),
        (32, 112, 3, 1),
        (8, 112, 3, 2),
        (64, 112, 3, 2),
        (32, 56, 3, 1),
        (128, 56, 3, 1),
        (32, 56, 3, 2),
        (128, 28, 3, 1),
        (128, 28, 3, 2),
        (512, 14, 3, 1),
        (512, 14, 3, 2),
        (1024, 7, 3, 1),
        (8, 48, 3, 1),
        (64, 12, 3, 1),
        (128, 6, 3, 1),
        (256, 3, 3, 1),
        (128, 28, 5, 1),
        (256, 14, 5, 1),
        (128, 28, 5, 2),
    ] {
        compare(&format!("depthwise {channels}x{size}x{size} k{kernel} s{stride}"), |isa| {
            let g = geometry(channels, size, kernel, stride);
            let weights = vec![0.5; channels * kernel * kernel];
            let input = Map::aligned(channels, size, size);
            Box::new(DepthwiseConv::prepare(isa, &g, input, out(&g), &weights, None, Activation::Relu).expect("valid"))
        });
    }
    for (channels, size, kernel, stride) in [(64, 112, 3, 2), (64, 32, 2, 2), (64, 28, 3, 1)] {
        let g = geometry(channels, size, kernel, stride);
        let g = if kernel == 2 { ConvGeometry { pads: [0; 4], ..g } } else { g };
        let input = Map::aligned(channels, size, size);
        for (name, kind) in [("max", PoolKind::Max), ("average", PoolKind::Average { counted_pads: [0; 4] })] {
            compare(&format!("{name} {channels}x{size}x{size} k{kernel} s{stride}"), |isa| {
                Box::new(Pool::prepare(isa, kind, &g, input, out(&g)).expect("valid"))
            });
        }
    }
    for (channels, size) in [(2048, 7), (512, 7), (64, 8)] {
        compare(&format!("mean {channels}x{size}x{size}"), |isa| {
            let input = Map::aligned(channels, size, size);
            Box::new(GlobalAverage::prepare(isa, input, Map::aligned(channels, 1, 1)).expect("valid"))
        });
    }
    for (channels, size) in [(256, 56), (128, 28), (16, 32)] {
        let (aligned, tight) = (Map::aligned(channels, size, size), Map::tight(channels, size, size));
        compare(&format!("add {channels}x{size}x{size}"), |isa| {
            Box::new(Elementwise::add(isa, aligned, aligned, Activation::Relu).expect("valid"))
        });
        compare(&format!("copy {channels}x{size}x{size}"), |isa| {
            Box::new(Elementwise::copy(isa, tight, aligned).expect("valid"))
        });
    }
    let (aligned, tight) = (Map::aligned(512, 7, 7), Map::tight(512, 7, 7));
    compare("copy 512x7x7 aligned -> tight", |isa| Box::new(Elementwise::copy(isa, aligned, tight).expect("valid")));
    for (channels, size) in [(16, 32), (32, 16)] {
        let (input, output) = (Map::aligned(channels, size, size), Map::aligned(channels * 2, size / 2, size / 2));
        compare(&format!("shortcut {channels}x{size}x{size}"), |isa| {
            Box::new(Shortcut::prepare(isa, input, output, 2, channels / 2, channels / 2).expect("valid"))
        });
    }
}

/// Times the layer for all instruction sets, interleaved, and prints one line each.
fn compare(what: &str, layer: impl Fn(Isa) -> Box<dyn Layer>) {
    let wanted = |isa: &&Isa| {
        let line = format!("{what} {}", isa.name());
        isa.runs_here() && std::env::args().skip(1).all(|word| line.contains(&word))
    };
    let layers: Vec<_> = Isa::COMPILED.iter().filter(wanted).map(|isa| layer(*isa)).collect();
    if layers.is_empty() {
        return;
    }
    let mut best = vec![Duration::MAX; layers.len()];
    let (x, residual) = (vec![0.5; layers[0].input().len()], vec![0.25; layers[0].output().len()]);
    let mut y = vec![0.0; layers[0].output().len()];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(200) {
        for (layer, best) in layers.iter().zip(&mut best) {
            let mut scratch = vec![0.0; layer.scratch_len()];
            let residual = layer.kernel().contains("_add_").then_some(&residual[..]);
            for _ in 0..4 {
                let start = Instant::now();
                layer.run(&x, &mut y, residual, &mut scratch);
                *best = start.elapsed().min(*best);
            }
        }
    }
    for (layer, best) in layers.iter().zip(best) {
        let seconds = best.as_secs_f64();
        let moved = (layer.input().channels * layer.input().pixels()
            + layer.output().channels * layer.output().pixels()) as f64;
        let gflops = 2.0 * layer.macs() as f64 / seconds / 1e9;
        println!(
            "{what:32} {:28} {:8.1} us {gflops:6.1} GFLOP/s {:6.1} GB/s",
            layer.kernel(),
            seconds * 1e6,
            4.0 * moved / seconds / 1e9
        );
    }
}
