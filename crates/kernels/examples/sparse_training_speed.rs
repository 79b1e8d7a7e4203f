//! Sparse convolutions of a training step: useful GFLOP/s (2 x survivors x pixels x images) per layer and direction, one thread, best of several.
//!
//! `cargo run --release -p sentei-kernels --features training --example sparse_training_speed -- [WORD ...]` keeps the lines that
//! contain every word. Every call includes reading the weights.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::{ConvGeometry, Lanes, SparseConv};

/// Time spent on each line.
const SPEND: Duration = Duration::from_millis(250);
/// Numbers of a cache line, on which maps begin.
const LINE: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let conv = |channels: [usize; 2], size: usize, kernel: usize, stride: usize| ConvGeometry {
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [size; 2],
        output: [size.div_ceil(stride); 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        pads: [kernel / 2; 2],
        dilation: [1; 2],
    };
    let layers = [
        (conv([64; 2], 16, 3, 1), 128),
        (conv([128; 2], 8, 3, 1), 128),
        (conv([512; 2], 4, 3, 1), 64),
        (conv([512; 2], 2, 3, 1), 64),
        (conv([16; 2], 32, 3, 1), 128),
        (conv([64; 2], 12, 1, 1), 64),
        (conv([784, 300], 1, 1, 1), 128),
        (conv([300, 100], 1, 1, 1), 128),
        (conv([32; 2], 16, 3, 1), 128),
        (conv([64; 2], 8, 3, 1), 128),
        (conv([16, 32], 32, 3, 2), 128),
        (conv([64; 2], 16, 3, 1), 32),
        (conv([128; 2], 8, 3, 1), 32),
        (conv([256; 2], 4, 3, 1), 32),
        (conv([512; 2], 2, 3, 1), 32),
        (conv([128, 256], 8, 3, 2), 32),
        (conv([256, 512], 4, 3, 2), 32),
        (conv([64, 64], 32, 3, 1), 64),
        (conv([128, 128], 16, 3, 1), 64),
        (conv([256, 256], 8, 3, 1), 64),
        (conv([256, 256], 3, 1, 1), 64),
    ];
    let (team, mut rng) = (Team::new(1, false)?, ChaCha8Rng::seed_from_u64(1));
    for (geometry, batch) in layers {
        for zeros in [90, 80, 95] {
            for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().filter(|isa| isa.runs_here()) {
                let ConvGeometry { in_channels, out_channels, input, kernel, stride, .. } = geometry;
                let name = format!(
                    "{in_channels}->{out_channels} {0}x{0}/{1} at {2}x{2} batch {batch} {zeros}% {3}",
                    kernel[0],
                    stride[0],
                    input[0],
                    isa.name(),
                );
                if !words.iter().all(|word| name.contains(word)) {
                    continue;
                }
                let lanes = Lanes::new(isa, batch);
                let keep: Vec<bool> = (0..geometry.weights()).map(|_| rng.random_ratio(100 - zeros, 100)).collect();
                let started = Instant::now();
                let mut layer = SparseConv::new(isa, geometry, lanes, &keep)?;
                let prepared = started.elapsed();
                let mut numbers =
                    |len: usize| -> Vec<f32> { (0..len + LINE).map(|_| rng.random_range(-1.0..1.0)).collect() };
                let w = numbers(geometry.weights() - LINE.min(geometry.weights()));
                let w = &w[..geometry.weights()];
                let (inputs, outputs) =
                    (lanes.len(in_channels * geometry.in_plane()), lanes.len(out_channels * geometry.out_plane()));
                let (mut x, mut y) = (numbers(inputs), numbers(outputs));
                let (x, y) = (aligned(&mut x, inputs), aligned(&mut y, outputs));
                let flop = 2.0 * (layer.survivors() * geometry.out_plane() * batch) as f64;
                let forward = best(|| layer.forward(&team, x, w, None, y));
                let gradient = best(|| layer.input_gradient(&team, y, w, x, false));
                println!(
                    "{name:48} forward {:6.1}  gradient {:6.1} GFLOP/s  ({:.3} ms, {:.3} ms; prepared in {:.1} ms)",
                    flop / forward / 1e9,
                    flop / gradient / 1e9,
                    forward * 1e3,
                    gradient * 1e3,
                    prepared.as_secs_f64() * 1e3,
                );
            }
        }
    }
    Ok(())
}

/// `len` numbers that begin on a cache line.
fn aligned(numbers: &mut [f32], len: usize) -> &mut [f32] {
    let start = numbers.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut numbers[start..start + len]
}

/// Seconds of the fastest run.
fn best(mut run: impl FnMut()) -> f64 {
    let (started, mut best) = (Instant::now(), f64::INFINITY);
    while started.elapsed() < SPEND {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
