//! How fast single layers of a training step are: GFLOP/s per layer and direction beside this core's peak, measured in the same run.
//!
//! `cargo run --release -p sentei-kernels --features training --example training_speed -- [threads=N] [isa=NAME] [WORD ...]`:
//! only rows whose name has all words. Best of many short repetitions. A kernel adds its rows to `ROWS`; multiply-adds
//! with the zeros of a padding do not count.

#[path = "../benches/layers/peak.rs"]
mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::{ConvGeometry, DenseConv, Lanes};

/// Each row is repeated for so long.
const TIME: Duration = Duration::from_millis(150);

/// A layer of one of the networks that are compared, and its batch.
struct Shape {
    name: &'static str,
    geometry: ConvGeometry,
    batch: usize,
}

/// `channels` in and out, a square map, a square kernel that keeps its size but for the stride.
fn shape(name: &'static str, channels: [usize; 2], map: usize, kernel: usize, stride: usize, batch: usize) -> Shape {
    let geometry = ConvGeometry {
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [map; 2],
        output: [map.div_ceil(stride); 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        pads: [kernel / 2; 2],
        dilation: [1; 2],
    };
    Shape { name, geometry, batch }
}

fn shapes() -> Vec<Shape> {
    vec![
        shape("resnet20 3x3 3-16 32x32", [3, 16], 32, 3, 1, 128),
        shape("resnet20 3x3 16-16 32x32", [16, 16], 32, 3, 1, 128),
        shape("resnet20 3x3 16-32/2 32x32", [16, 32], 32, 3, 2, 128),
        shape("resnet20 3x3 32-32 16x16", [32, 32], 16, 3, 1, 128),
        shape("resnet20 3x3 64-64 8x8", [64, 64], 8, 3, 1, 128),
        shape("resnet18 3x3 64-64 16x16", [64, 64], 16, 3, 1, 32),
        shape("resnet18 3x3 64-64 32x32", [64, 64], 32, 3, 1, 32),
        shape("resnet18 3x3 64-128/2 16x16", [64, 128], 16, 3, 2, 32),
        shape("resnet18 3x3 128-128 8x8", [128, 128], 8, 3, 1, 32),
        shape("resnet18 3x3 256-256 4x4", [256, 256], 4, 3, 1, 32),
        shape("resnet18 3x3 512-512 2x2", [512, 512], 2, 3, 1, 32),
        shape("vgg16 3x3 128-128 16x16", [128, 128], 16, 3, 1, 64),
        shape("vgg16 3x3 128-128 8x8", [128, 128], 8, 3, 1, 64),
        shape("vgg16 3x3 256-512 4x4", [256, 512], 4, 3, 1, 64),
        shape("vgg16 3x3 512-512 4x4", [512, 512], 4, 3, 1, 64),
        shape("vgg16 3x3 512-512 2x2", [512, 512], 2, 3, 1, 64),
        shape("mobilenet 1x1 8-16 48x48", [8, 16], 48, 1, 1, 64),
        shape("mobilenet 1x1 32-32 24x24", [32, 32], 24, 1, 1, 64),
        shape("mobilenet 1x1 32-64 24x24", [32, 64], 24, 1, 1, 64),
        shape("mobilenet 1x1 128-128 6x6", [128, 128], 6, 1, 1, 64),
        shape("mobilenet 1x1 256-256 3x3", [256, 256], 3, 1, 1, 64),
        shape("lenet 784-300", [784, 300], 1, 1, 1, 128),
        shape("lenet 300-100", [300, 100], 1, 1, 1, 128),
        shape("lenet 100-10", [100, 10], 1, 1, 1, 128),
    ]
}

impl Shape {
    /// Multiply-adds of one direction, two operations each.
    fn flops(&self) -> f64 {
        let geometry = &self.geometry;
        let reached =
            |axis: usize| -> usize { (0..geometry.kernel[axis]).map(|tap| geometry.reached(axis, tap).len()).sum() };
        2.0 * (self.batch * geometry.out_channels * geometry.group_in() * reached(0) * reached(1)) as f64
    }
}

/// A layer with everything that its kernels read and write.
struct Layer {
    team: Team,
    x: Vec<f32>,
    y: Vec<f32>,
    w: Vec<f32>,
    gx: Vec<f32>,
    gy: Vec<f32>,
    dense: DenseConv,
}

/// A name, and what is timed under it.
type Row = (&'static str, fn(&mut Layer));

/// What is timed of each layer.
const ROWS: &[Row] = &[
    ("forward", |layer| layer.dense.forward(&layer.team, &layer.x, &layer.w, None, &mut layer.y)),
    ("gradient", |layer| layer.dense.input_gradient(&layer.team, &layer.gy, &layer.w, &mut layer.gx, false)),
];

impl Layer {
    fn new(isa: Isa, threads: usize, shape: &Shape) -> Self {
        let (geometry, lanes) = (shape.geometry, Lanes::new(isa, shape.batch));
        let input = lanes.len(geometry.in_channels * geometry.in_plane());
        let output = lanes.len(geometry.out_channels * geometry.out_plane());
        Self {
            team: Team::new(threads, true).expect("a few threads"),
            x: numbers(input),
            y: vec![0.0; output],
            w: numbers(geometry.weights()),
            gx: vec![0.0; input],
            gy: numbers(output),
            dense: DenseConv::new(isa, geometry, lanes).expect("the shapes are valid"),
        }
    }
}

/// Numbers of ordinary size.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|at| (at * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// The shortest of many runs.
fn best(mut run: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    while begin.elapsed() < TIME {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}

fn main() {
    let (mut threads, mut isa, mut words) = (1, Isa::best(), Vec::new());
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("threads", count)) => threads = count.parse().expect("threads=N takes a number"),
            Some(("isa", name)) => {
                let named = Isa::COMPILED.iter().find(|isa| isa.name() == name && isa.runs_here());
                isa = *named.expect("isa=NAME takes an instruction set of this processor");
            }
            _ => words.push(word),
        }
    }
    let peak = peak::gflops(isa).unwrap_or(f64::NAN) * threads as f64;
    println!("{}, {threads} threads, peak {peak:.0} GFLOP/s", isa.name());
    for shape in shapes() {
        let wanted = |row: &str| words.iter().all(|word| format!("{} {row}", shape.name).contains(word.as_str()));
        if !ROWS.iter().any(|(row, _)| wanted(row)) {
            continue;
        }
        let mut layer = Layer::new(isa, threads, &shape);
        for (row, run) in ROWS.iter().filter(|(row, _)| wanted(row)) {
            let time = best(|| run(black_box(&mut layer)));
            let gflops = shape.flops() / time.as_secs_f64() / 1e9;
            let (name, batch, micros) = (shape.name, shape.batch, time.as_secs_f64() * 1e6);
            println!(
                "{name:30} x{batch:<3} {row:9} {micros:9.1} us {gflops:6.1} GFLOP/s {:3.0} %",
                100.0 * gflops / peak
            );
        }
    }
}
