//! Layers of small maps and layers bound by their weights, in f32 and with bytes: microseconds, best of many short runs.
//!
//! `cargo run --release -p sentei-kernels --example small_speed -- [WORD ...]` keeps the lines that contain every word. As many
//! copies of a layer take turns as make 6 MB of weights, so that these come from the third-level cache, as they do in a network.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights, TinyConv};
use sentei_kernels::gemv::{DenseLinear, LinearValues};
use sentei_kernels::planes::Values;
use sentei_kernels::{Activation, Isa, LINE, Layer, Map};

const OUT_OF_CACHE: usize = 6 << 20;
const ROUNDS: usize = 25;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let conv = |inputs: usize, size: usize, outputs: usize, kernel: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2])
    };
    let convs = [
        (conv(512, 2, 512, 3), [90, 95, 0]),
        (conv(512, 4, 512, 3), [90, 95, 0]),
        (conv(256, 8, 256, 3), [90, 95, 0]),
        (conv(512, 7, 512, 3), [90, 95, 80]),
        (conv(2048, 7, 512, 1), [90, 95, 80]),
        (conv(1024, 7, 1024, 1), [90, 95, 80]),
        (conv(256, 14, 256, 3), [90, 95, 80]),
        (conv(1024, 14, 256, 1), [90, 95, 80]),
        (conv(128, 28, 128, 3), [90, 95, 80]),
        (conv(64, 56, 64, 3), [90, 95, 80]),
        (conv(64, 8, 64, 3), [90, 95, 80]),
        (conv(512, 1, 512, 3), [90, 95, 0]),
        (conv(256, 3, 256, 1), [90, 95, 0]),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (geometry, zeros) in &convs {
        for zeros in zeros {
            for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().filter(|isa| isa.runs_here()) {
                for bytes in [false, true] {
                    if *zeros == 0 && bytes {
                        continue;
                    }
                    for (name, layers) in ways(geometry, *zeros, isa, bytes, &words, &mut rng) {
                        report(&name, layers);
                    }
                }
            }
        }
    }
    for (rows, cols) in [(1000, 2048), (1000, 512), (10, 512), (4096, 4096)] {
        for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().filter(|isa| isa.runs_here()) {
            for bytes in [false, true] {
                let name = format!("fc {cols}->{rows}   0% {} {}", if bytes { "i8 " } else { "f32" }, isa.name());
                if !words.iter().all(|word| name.contains(word)) {
                    continue;
                }
                let full = vec![0.5; rows * cols];
                let small = vec![3i8; rows * cols];
                let scales = vec![0.1; rows];
                let prepare = || -> Box<dyn Layer> {
                    let values = match bytes {
                        true => LinearValues::I8 { values: &small, scales: &scales },
                        false => LinearValues::F32(&full),
                    };
                    Box::new(DenseLinear::prepare(isa, rows, cols, values, None).expect("valid layer"))
                };
                report(&name, copies(prepare));
            }
        }
    }
}

fn ways(
    geometry: &ConvGeometry,
    zeros: u32,
    isa: Isa,
    bytes: bool,
    words: &[String],
    rng: &mut ChaCha8Rng,
) -> Vec<(String, Vec<Box<dyn Layer>>)> {
    let g = geometry;
    let name = |kernel: &str| {
        let values = if bytes { "i8 " } else { "f32" };
        let sizes = format!("{}x{}x{}->{} k{}", g.in_channels, g.in_height, g.in_width, g.out_channels, g.kernel[0]);
        format!("{sizes:20} {zeros:>3}% {values} {:6} {kernel}", isa.name())
    };
    if !words.iter().all(|word| name("").contains(word)) {
        return Vec::new();
    }
    let density = 1.0 - f64::from(zeros) / 100.0;
    let weights = geometry.weights().expect("small layers") as u32;
    let positions: Vec<u32> = (0..weights).filter(|_| rng.random_bool(density)).collect();
    let values = match bytes {
        true => Values::I8(positions.iter().map(|_| rng.random_range(-9..9)).collect()),
        false => Values::F32(positions.iter().map(|_| rng.random_range(-1.0..1.0)).collect()),
    };
    let scales = bytes.then(|| vec![0.1; g.out_channels]);
    let input = Map::aligned(g.in_channels, g.in_height, g.in_width);
    let output = Map::aligned(g.out_channels, g.out_height(), g.out_width());
    let mut all: Vec<(String, Vec<Box<dyn Layer>>)> = Vec::new();
    let groups: &[usize] = if zeros == 0 { &[4, 8] } else { &[1] };
    for group in groups {
        let choice = ConvChoice::guess(isa, g, input, positions.len(), *group);
        let prepare = || -> Box<dyn Layer> {
            let positions = (zeros != 0).then_some(&positions[..]);
            let weights = ConvWeights { positions, values: &values, scales: scales.as_deref(), bias: None };
            Box::new(Conv::prepare(isa, g, input, output, weights, Activation::Relu, choice).expect("valid layer"))
        };
        let layers = copies(prepare);
        all.push((name(&layers[0].kernel()), layers));
    }
    if TinyConv::fits(isa, g, zeros == 0) {
        let prepare = || -> Box<dyn Layer> {
            let positions = (zeros != 0).then_some(&positions[..]);
            let weights = ConvWeights { positions, values: &values, scales: scales.as_deref(), bias: None };
            Box::new(TinyConv::prepare(isa, g, input, output, weights, Activation::Relu).expect("valid layer"))
        };
        let layers = copies(prepare);
        all.push((name(&layers[0].kernel()), layers));
    }
    all
}

fn copies(prepare: impl Fn() -> Box<dyn Layer>) -> Vec<Box<dyn Layer>> {
    let first = prepare();
    let count = OUT_OF_CACHE.div_ceil(first.weight_bytes()).min(12);
    std::iter::once(first).chain((1..count).map(|_| prepare())).collect()
}

fn report(name: &str, layers: Vec<Box<dyn Layer>>) {
    let layer = &layers[0];
    let x = vec![0.5; layer.input().len() + LINE];
    let mut y = vec![0.0; layer.output().len() + LINE];
    let mut scratch = vec![0.0; layer.scratch_len()];
    let start_of = |memory: &[f32]| memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let (x_start, y_start) = (start_of(&x), start_of(&y));
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        for layer in &layers {
            let start = Instant::now();
            layer.run(&x[x_start..], &mut y[y_start..], None, &mut scratch);
            best = best.min(start.elapsed());
        }
    }
    let seconds = best.as_secs_f64();
    let bytes = layer.weight_bytes() as f64 / seconds / 1e9;
    let speed = 2.0 * layer.macs() as f64 / seconds / 1e9;
    println!("{name:64} {:8.1} us {speed:6.1} GFLOP/s {bytes:5.1} GB/s of weights", seconds * 1e6);
}
