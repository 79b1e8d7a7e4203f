//! How fast fully connected layers run on one thread, kernel by kernel, with warm caches.
//!
//! `cargo run --release -p sentei-kernels --example linear_speed [milliseconds per candidate]`
//!
//! Columns: time of one sample (best run), GFLOP/s of non-zeros, bytes a non-zero, and how fast the weights are read beside a
//! plain read of as many bytes in the same run: near 100 % nothing but the memory is left to improve.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentei_kernels::gemv::{DenseLinear, GEMV, LinearValues, SparseLinear};
use sentei_kernels::{Activation, Isa, Layer};

/// One way to run a layer.
struct Candidate {
    name: String,
    macs: u64,
    bytes: usize,
    /// Runs it on one input, or on a batch.
    run: Box<dyn FnMut()>,
    best: Duration,
}

fn main() {
    let time = std::env::args().nth(1).map_or(40, |ms| ms.parse().expect("milliseconds"));
    let lenet = [(300, 784), (100, 300), (10, 100)];
    for (title, layers) in
        [("LeNet-300-100", &lenet[..]), ("2048 -> 1000", &[(1000, 2048)]), ("512 -> 10", &[(10, 512)])]
    {
        for zeros in [80, 90, 95] {
            let mut all: Vec<Candidate> =
                [1, 8, 64].into_iter().flat_map(|batch| sparse(layers, zeros, batch)).collect();
            race(&mut all, time);
            print(&format!("{title}, {zeros} % zeros"), &all);
        }
        let mut all: Vec<Candidate> = [1, 8, 64].into_iter().flat_map(|batch| dense(layers, batch)).collect();
        race(&mut all, time);
        print(&format!("{title}, dense"), &all);
    }
}

fn sparse(layers: &[(usize, usize)], zeros: u32, batch: usize) -> Vec<Candidate> {
    let mut candidates = vec![];
    for kernel in GEMV.iter().filter(|kernel| kernel.isa.runs_here()) {
        for bytes in [false, true] {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let prepare = |(rows, cols): &(usize, usize)| {
                let positions: Vec<u32> =
                    (0..(rows * cols) as u32).filter(|_| rng.random_range(0..100) >= zeros).collect();
                let (floats, ints) = (vec![0.5; positions.len()], vec![3; positions.len()]);
                let scales = vec![0.5; *rows];
                let values = match bytes {
                    true => LinearValues::I8 { values: &ints, scales: &scales },
                    false => LinearValues::F32(&floats),
                };
                SparseLinear::from_values(kernel, *rows, *cols, &positions, values, None).expect("a valid layer")
            };
            let layers: Vec<SparseLinear> = layers.iter().map(prepare).collect();
            let macs = layers.iter().map(|layer| layer.macs()).sum::<u64>() * batch as u64;
            let bytes = layers.iter().map(|layer| layer.weight_bytes()).sum();
            let mut buffers: Vec<_> =
                layers.iter().map(|layer| (vec![0.5; layer.cols() * batch], vec![0.0; layer.rows() * batch])).collect();
            let name = format!("{} batch {batch}", layers[0].kernel_name());
            let run = Box::new(move || {
                for (layer, (x, y)) in layers.iter().zip(&mut buffers) {
                    layer.run(x, y, Activation::Relu);
                }
            });
            candidates.push(Candidate { name, macs, bytes, run, best: Duration::MAX });
        }
    }
    candidates
}

fn dense(layers: &[(usize, usize)], batch: usize) -> Vec<Candidate> {
    let mut candidates = vec![];
    for isa in Isa::COMPILED.iter().filter(|isa| isa.runs_here()) {
        for bytes in [false, true] {
            let prepare = |(rows, cols): &(usize, usize)| {
                let (floats, ints, scales) = (vec![0.5; rows * cols], vec![3; rows * cols], vec![0.5; *rows]);
                let values = match bytes {
                    true => LinearValues::I8 { values: &ints, scales: &scales },
                    false => LinearValues::F32(&floats),
                };
                DenseLinear::prepare(*isa, *rows, *cols, values, None).expect("a valid layer")
            };
            let layers: Vec<DenseLinear> = layers.iter().map(prepare).collect();
            let macs = layers.iter().map(|layer| layer.macs()).sum::<u64>() * batch as u64;
            let bytes = layers.iter().map(|layer| layer.weight_bytes()).sum();
            let mut buffers: Vec<_> =
                layers.iter().map(|layer| (vec![0.5; layer.cols() * batch], vec![0.0; layer.rows() * batch])).collect();
            let name = format!("{} batch {batch}", layers[0].kernel());
            let run = Box::new(move || {
                for (layer, (x, y)) in layers.iter().zip(&mut buffers) {
                    layer.run(x, y, Activation::Relu);
                }
            });
            candidates.push(Candidate { name, macs, bytes, run, best: Duration::MAX });
        }
    }
    // beside them, what the memory allows
    for bytes in candidates.iter().take(2).map(|candidate| candidate.bytes).collect::<Vec<_>>() {
        let numbers = vec![1u64; bytes / 8];
        let run = Box::new(move || {
            black_box(numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
        });
        candidates.push(Candidate { name: "plain read".into(), macs: 0, bytes, run, best: Duration::MAX });
    }
    candidates
}

/// Runs the candidates in turns, each `time` milliseconds in all.
fn race(candidates: &mut [Candidate], time: u64) {
    for _ in 0..10 {
        for candidate in &mut *candidates {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(time) / 10 {
                let start = Instant::now();
                (candidate.run)();
                candidate.best = candidate.best.min(start.elapsed());
            }
        }
    }
}

fn print(title: &str, candidates: &[Candidate]) {
    println!("{title}");
    let read = |bytes: usize| {
        let numbers = vec![1u64; bytes / 8];
        let run = Box::new(move || {
            black_box(numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
        });
        let mut plain = [Candidate { name: String::new(), macs: 0, bytes, run, best: Duration::MAX }];
        race(&mut plain, 10);
        plain[0].best.as_secs_f64()
    };
    for candidate in candidates {
        let seconds = candidate.best.as_secs_f64();
        println!(
            "  {:34} {:9.2} us {:7.1} GFLOP/s {:8.0} KiB {:6.1} GB/s, {:4.0} % of a plain read",
            candidate.name,
            seconds * 1e6,
            2e-9 * candidate.macs as f64 / seconds,
            candidate.bytes as f64 / 1024.0,
            1e-9 * candidate.bytes as f64 / seconds,
            100.0 * read(candidate.bytes) / seconds
        );
    }
}
