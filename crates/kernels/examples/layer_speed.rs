//! GFLOP/s of non-zeros for some typical layers at 90 % zeros, per kernel that runs here: best of a few repetitions.
//!
//! `cargo run --release -p sentei-kernels --example layer_speed`

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::conv::{ConvGeometry, SparseConv};
use sentei_kernels::gemv::{GEMV, SparseLinear};
use sentei_kernels::{Activation, spmm::SPMM_F32};

const DENSITY: f64 = 0.1;

fn main() {
    let same = |channels: usize, size: usize, outputs: usize, kernel: usize, stride: usize| ConvGeometry {
        pads: [kernel / 2; 4],
        stride: [stride; 2],
        ..ConvGeometry::new(channels, [size; 2], outputs, [kernel; 2])
    };
    let layers = [
        same(64, 56, 64, 3, 1),
        same(128, 28, 128, 3, 1),
        same(256, 14, 256, 3, 1),
        same(512, 7, 512, 3, 1),
        same(128, 56, 128, 3, 2),
        same(64, 56, 256, 1, 1),
        same(256, 56, 64, 1, 1),
        same(512, 28, 128, 1, 1),
        same(1024, 14, 256, 1, 1),
        same(2048, 7, 512, 1, 1),
        same(512, 7, 2048, 1, 1),
        same(16, 32, 16, 3, 1),
        same(64, 8, 64, 3, 1),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut weights = |len: usize| -> Vec<(u32, f32)> {
        (0..len as u32).filter(|_| rng.random_bool(DENSITY)).map(|index| (index, 0.5)).collect()
    };
    for geometry in &layers {
        let nonzeros = weights(geometry.weights().expect("small layers"));
        for kernel in SPMM_F32.iter().filter(|kernel| (kernel.runs_here)()) {
            let items = nonzeros.iter().copied();
            let conv = SparseConv::prepare_for(kernel, geometry.clone(), items, None).expect("valid layer");
            let x = vec![0.5; geometry.in_len()];
            let (mut y, mut scratch) = (vec![0.0; geometry.out_len()], vec![0.0; conv.scratch_len()]);
            let best = best_of(|| conv.run(&x, &mut y, None, Activation::Relu, &mut scratch));
            let g = geometry;
            let layer = format!(
                "{}x{}x{} -> {} k{} s{}",
                g.in_channels, g.in_height, g.in_width, g.out_channels, g.kernel[0], g.stride[0]
            );
            report(&layer, kernel.name, conv.macs(), best);
        }
    }
    for (rows, cols) in [(300, 784), (1000, 2048), (4096, 4096)] {
        let nonzeros = weights(rows * cols);
        for kernel in GEMV.iter().filter(|kernel| kernel.isa.runs_here()) {
            let items = nonzeros.iter().copied();
            let layer = SparseLinear::prepare_for(kernel, rows, cols, items, None).expect("valid layer");
            let (x, mut y) = (vec![0.5; cols], vec![0.0; rows]);
            let best = best_of(|| layer.run(&x, &mut y, Activation::Relu));
            report(&format!("fc {cols} -> {rows}"), kernel.name, layer.nnz() as u64, best);
        }
    }
}

fn best_of(mut run: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    while begin.elapsed() < Duration::from_millis(150) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}

fn report(layer: &str, kernel: &str, macs: u64, best: Duration) {
    let gflops = 2.0 * macs as f64 / best.as_secs_f64() / 1e9;
    println!("{layer:26} {kernel:24} {:8.1} us {gflops:6.1} GFLOP/s of non-zeros", best.as_secs_f64() * 1e6);
}
