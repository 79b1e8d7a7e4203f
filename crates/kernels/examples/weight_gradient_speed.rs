//! Weight gradients of the layers that training spends its time on, all weights and survivors at 90 % zeros: one thread, best of many runs.
//!
//! `cargo run --release -p sentei-kernels --features training --example weight_gradient_speed -- [WORD ...]` keeps the lines that
//! contain every word. GFLOP/s count multiply-adds with border taps left out, for survivors those of survivors only.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::{ConvGeometry, Lanes, SurvivingWeightGradient, WeightGradient};

#[path = "../benches/layers/peak.rs"]
mod peak;

/// Time per layer and kernel.
const TIME: Duration = Duration::from_millis(400);
const ZEROS: f64 = 0.9;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let team = Team::new(1, false).expect("a team of one");
    // inputs, outputs, map, kernel, stride, batch
    let layers = [
        (64, 64, 16, 3, 1, 128),
        (16, 16, 32, 3, 1, 128),
        (32, 32, 16, 3, 1, 128),
        (64, 64, 8, 3, 1, 128),
        (128, 128, 8, 3, 1, 128),
        (512, 512, 4, 3, 1, 64),
        (512, 512, 2, 3, 1, 64),
        (32, 64, 24, 1, 1, 64),
        (256, 256, 3, 1, 1, 64),
        (784, 300, 1, 1, 1, 128),
        (3, 16, 32, 3, 1, 128),
        (3, 64, 64, 3, 1, 32),
        (64, 128, 16, 3, 2, 64),
        (64, 64, 64, 3, 1, 16),
        (1, 6, 28, 5, 1, 128),
        (300, 100, 1, 1, 1, 128),
    ];
    for isa in [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().filter(|isa| isa.runs_here()) {
        for (inputs, outputs, size, kernel, stride, batch) in layers {
            let geometry = ConvGeometry {
                groups: 1,
                in_channels: inputs,
                out_channels: outputs,
                input: [size; 2],
                output: [size.div_ceil(stride); 2],
                kernel: [kernel; 2],
                stride: [stride; 2],
                pads: [kernel / 2; 2],
                dilation: [1; 2],
            };
            let name = format!("{inputs}->{outputs} k{kernel} s{stride} {size}x{size} batch {batch} {}", isa.name());
            if words.iter().all(|word| name.contains(word)) {
                report(isa, &name, geometry, batch, &team);
            }
        }
    }
}

fn report(isa: Isa, name: &str, geometry: ConvGeometry, batch: usize, team: &Team) {
    let lanes = Lanes::new(isa, batch);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let keep: Vec<bool> = (0..geometry.weights()).map(|_| rng.random_bool(1.0 - ZEROS)).collect();
    let mut maps = [(geometry.in_channels, geometry.in_plane()), (geometry.out_channels, geometry.out_plane())].map(
        |(channels, plane)| {
            let len = lanes.len(channels * plane);
            // room to start on a cache line
            (vec![0.0f32; len + 16], len)
        },
    );
    let [x, gy] = maps.each_mut().map(|(memory, len)| {
        let start = memory.as_ptr().align_offset(64);
        let map = &mut memory[start..start + *len];
        map.fill_with(|| rng.random_range(-1.0..1.0));
        &*map
    });
    let mut gw = vec![0.0; geometry.weights()];
    let dense = WeightGradient::new(isa, geometry, lanes).expect("valid layer");
    let surviving = SurvivingWeightGradient::new(isa, geometry, lanes, &keep).expect("valid layer");
    let dense = best(|| dense.run(team, x, gy, &mut gw));
    let mut kept = vec![0.0; surviving.kept()];
    let surviving = best(|| surviving.run(team, x, gy, &mut kept));
    let of_tap: Vec<usize> = (0..geometry.kernel[0] * geometry.kernel[1])
        .map(|tap| {
            let [row, col] = [tap / geometry.kernel[1], tap % geometry.kernel[1]];
            geometry.reached(0, row).len() * geometry.reached(1, col).len()
        })
        .collect();
    let pixels =
        |keep: &mut dyn Iterator<Item = usize>| keep.map(|weight| of_tap[weight % of_tap.len()]).sum::<usize>();
    let all = pixels(&mut (0..keep.len()));
    let kept = pixels(&mut (0..keep.len()).filter(|weight| keep[*weight]));
    let speed = |pixels: usize, time: Duration| 2.0 * (pixels * batch) as f64 / time.as_secs_f64() / 1e9;
    let (all, kept) = (speed(all, dense), speed(kept, surviving));
    let peak = peak::gflops(isa).expect("not portable");
    println!(
        "{name:44} dense {:9.1} us {all:6.1} GFLOP/s ({:3.0} % of {peak:.0})  survivors {:9.1} us {kept:6.1} GFLOP/s  {:4.2} of dense",
        dense.as_secs_f64() * 1e6,
        100.0 * all / peak,
        surviving.as_secs_f64() * 1e6,
        surviving.as_secs_f64() / dense.as_secs_f64(),
    );
}

fn best(mut run: impl FnMut()) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < TIME {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}
