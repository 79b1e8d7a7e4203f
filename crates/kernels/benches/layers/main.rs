//! Single layers of the benchmark networks: GFLOP/s of non-zeros, and the share of this core's multiply-add peak.
//!
//! `cargo bench -p sentei-kernels --bench layers -- [WORD ...]` keeps the lines that contain every word: `resnet50`, `k3`,
//! `90`, `avx2`. All of it takes about 50 seconds. One thread, best of as many runs as fit the time of a case: on a
//! busy machine the best is the figure that repeats.

mod peak;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{Conv, ConvChoice, ConvGeometry, ConvWeights};
use sentei_kernels::gemv::{GEMV, SparseLinear};
use sentei_kernels::planes::Values;
use sentei_kernels::{Activation, Isa, LINE, Layer, Map};

const TIME_PER_CASE: Duration = Duration::from_millis(80);
const LEAST_RUNS: usize = 3;
/// Zeros in per cent of layers that networks are pruned in.
const PRUNED: &[u32] = &[95, 90, 80, 0];
/// First layers and depthwise ones stay dense.
const DENSE: &[u32] = &[0];

/// A layer of a network.
struct Case {
    network: &'static str,
    shape: Shape,
    zeros: &'static [u32],
}

enum Shape {
    Conv(ConvGeometry),
    Linear { inputs: usize, outputs: usize },
}

/// A layer made ready for one instruction set.
struct Prepared {
    isa: Isa,
    kernel: String,
    macs: u64,
    run: Box<dyn FnMut()>,
}

fn cases() -> Vec<Case> {
    let conv = |inputs: usize, size: usize, outputs: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        ..ConvGeometry::new(inputs, [size; 2], outputs, [kernel; 2])
    };
    let depthwise = |channels: usize, size: usize, stride: usize| ConvGeometry {
        groups: channels,
        ..conv(channels, size, channels, 3, stride)
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
    for (channels, size) in [(16, 32), (32, 16), (64, 8)] {
        add("resnet56", PRUNED, Shape::Conv(conv(channels, size, channels, 3, 1)));
    }
    for (inputs, size, outputs) in [(64, 56, 128), (512, 14, 512), (1024, 7, 1024)] {
        add("mobilenetv1", PRUNED, Shape::Conv(conv(inputs, size, outputs, 1, 1)));
    }
    for (inputs, size, outputs) in [(24, 56, 144), (960, 7, 320)] {
        add("mobilenetv2", PRUNED, Shape::Conv(conv(inputs, size, outputs, 1, 1)));
    }
    add("resnet50", DENSE, Shape::Conv(conv(3, 224, 64, 7, 2)));
    add("resnet56", DENSE, Shape::Conv(conv(3, 32, 16, 3, 1)));
    add("mobilenetv1", DENSE, Shape::Conv(depthwise(128, 56, 1)));
    add("mobilenetv1", DENSE, Shape::Conv(depthwise(128, 56, 2)));
    add("mobilenetv2", DENSE, Shape::Conv(depthwise(960, 7, 1)));
    add("lenet300", PRUNED, Shape::Linear { inputs: 784, outputs: 300 });
    add("resnet50", DENSE, Shape::Linear { inputs: 2048, outputs: 1000 });
    all
}

/// Every way to run the layer here: the one place that knows how layers are prepared.
fn prepare(shape: &Shape, nonzeros: &[(u32, f32)]) -> Vec<Prepared> {
    match shape {
        Shape::Conv(geometry) => {
            let positions: Vec<u32> = nonzeros.iter().map(|(position, _)| *position).collect();
            let values = Values::F32(nonzeros.iter().map(|(_, value)| *value).collect());
            let dense = positions.len() == shape.weights();
            let input = Map::aligned(geometry.in_channels, geometry.in_height, geometry.in_width);
            let output = Map::aligned(geometry.out_channels, geometry.out_height(), geometry.out_width());
            // outputs that share their entries pay where no weight is missing
            let groups: &[usize] = if dense && geometry.groups == 1 { &[4, 8] } else { &[1] };
            let ways = Isa::COMPILED.iter().filter(|isa| isa.runs_here());
            let ways = ways.flat_map(|isa| groups.iter().map(|group| (*isa, *group)));
            let ready = ways.map(|(isa, group)| {
                let choice = ConvChoice::guess(isa, geometry, input, positions.len(), group);
                let positions = (!dense).then_some(&positions[..]);
                let weights = ConvWeights { positions, values: &values, scales: None, bias: None };
                let conv = Conv::prepare(isa, geometry, input, output, weights, Activation::Relu, choice);
                ready(isa, conv.expect("valid layer"))
            });
            ready.collect()
        }
        Shape::Linear { inputs, outputs } => {
            let here = GEMV.iter().filter(|kernel| kernel.isa.runs_here());
            let ready = here.map(|kernel| {
                let items = nonzeros.iter().copied();
                let layer = SparseLinear::prepare_for(kernel, *outputs, *inputs, items, None).expect("valid layer");
                let (x, mut y) = (vec![0.5; *inputs], vec![0.0; *outputs]);
                Prepared {
                    isa: kernel.isa,
                    kernel: kernel.name.to_string(),
                    macs: layer.nnz() as u64,
                    run: Box::new(move || layer.run(&x, &mut y, Activation::Relu)),
                }
            });
            ready.collect()
        }
    }
}

/// A layer with memory to run on, whose maps start on cache lines as in a region.
fn ready(isa: Isa, layer: impl Layer + 'static) -> Prepared {
    let x = vec![0.5; layer.input().len() + LINE];
    let mut y = vec![0.0; layer.output().len() + LINE];
    let mut scratch = vec![0.0; layer.scratch_len()];
    let start_of = |memory: &[f32]| memory.as_ptr().align_offset(LINE * size_of::<f32>());
    let (x_start, y_start) = (start_of(&x), start_of(&y));
    let (kernel, macs) = (layer.kernel(), layer.macs());
    Prepared {
        isa,
        kernel,
        macs,
        run: Box::new(move || layer.run(&x[x_start..], &mut y[y_start..], None, &mut scratch)),
    }
}

impl Shape {
    fn weights(&self) -> usize {
        match self {
            Shape::Conv(geometry) => geometry.weights().expect("small layers"),
            Shape::Linear { inputs, outputs } => inputs * outputs,
        }
    }

    fn name(&self) -> String {
        match self {
            Shape::Conv(g) => {
                let kind = if g.groups > 1 { "dw" } else { "k" };
                format!(
                    "{}x{}x{} -> {} {kind}{} s{}",
                    g.in_channels, g.in_height, g.in_width, g.out_channels, g.kernel[0], g.stride[0]
                )
            }
            Shape::Linear { inputs, outputs } => format!("{inputs} -> {outputs} fc"),
        }
    }
}

/// Best time of one run.
fn best_of(limit: Duration, run: &mut dyn FnMut()) -> Duration {
    let begin = Instant::now();
    let (mut best, mut runs) = (Duration::MAX, 0);
    while runs < LEAST_RUNS || begin.elapsed() < limit {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
        runs += 1;
    }
    best
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return; // a test runner asks for tests, of which there are none
    }
    // `cargo test --all-targets` starts benches too, without `--bench`: the smallest layers then show that they still run
    let (mut words, mut limit): (Vec<&str>, _) = (vec!["resnet56"], Duration::ZERO);
    if arguments.iter().any(|argument| argument == "--bench") {
        words = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
        limit = TIME_PER_CASE;
    }
    let here = Isa::COMPILED.iter().filter(|isa| isa.runs_here());
    let peaks: Vec<(Isa, f64)> = here.filter_map(|isa| Some((*isa, peak::gflops(*isa)?))).collect();
    for (isa, gflops) in &peaks {
        println!("peak {:12} {gflops:6.1} GFLOP/s on one core", isa.name());
    }
    // portable code has no peak of its own and is held against the widest
    let peak_of =
        |isa| peaks.iter().find(|(of, _)| *of == isa).or(peaks.first()).map_or(f64::NAN, |(_, gflops)| *gflops);
    println!("\n{:12} {:28} {:>5}  {:26} {:>10} {:>9} {:>7}", "", "", "zeros", "kernel", "us", "GFLOP/s", "of peak");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for Case { network, shape, zeros } in cases() {
        for zeros in zeros {
            let density = 1.0 - f64::from(*zeros) / 100.0;
            let weights = 0..shape.weights() as u32;
            let nonzeros: Vec<(u32, f32)> = weights.filter(|_| rng.random_bool(density)).map(|w| (w, 0.5)).collect();
            for mut ready in prepare(&shape, &nonzeros) {
                let head = format!("{network:12} {:28} {zeros:>4}%  {:26}", shape.name(), ready.kernel);
                if !words.iter().all(|word| head.contains(word)) {
                    continue;
                }
                let best = best_of(limit, &mut ready.run).as_secs_f64();
                let gflops = 2.0 * ready.macs as f64 / best / 1e9;
                let share = 100.0 * gflops / peak_of(ready.isa);
                println!("{head} {:10.1} {gflops:9.1} {share:6.0}%", best * 1e6);
            }
        }
    }
}
