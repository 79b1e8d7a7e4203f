//! Single layers of the benchmark networks: GFLOP/s of non-zeros, and the share of this core's multiply-add peak.
//!
//! `cargo bench -p sentei-kernels --bench layers -- [WORD ...]` keeps the lines that contain every word: `resnet50`, `k3`,
//! `90%`, `avx2`, `i8_`. All of it takes about a minute; portable code runs only where a word is `scalar`. One thread, the
//! best of as many runs as fit the time of a case: on a busy machine the best is the figure that repeats. GB/s are those of
//! weights, input and output, each counted once.

mod cases;
mod peak;
mod ways;

use std::time::{Duration, Instant};

use sentei_kernels::{Isa, LINE, Layer};

use cases::{Case, cases};
use ways::{Way, ways};

const TIME_PER_CASE: Duration = Duration::from_millis(80);
const LEAST_RUNS: usize = 3;

/// Best time of one run on memory whose maps start on cache lines, as in a region.
fn best_of(limit: Duration, way: &Way) -> Duration {
    let (layer, line) = (&way.layer, LINE * size_of::<f32>());
    let (x, mut y) = (vec![0.5; layer.input().len() + LINE], vec![0.0; layer.output().len() + LINE]);
    let added = vec![0.25; layer.output().len()];
    let mut scratch = vec![0.0; layer.scratch_len()];
    let (x, y) = (&x[x.as_ptr().align_offset(line)..], &mut y[..]);
    let start = y.as_ptr().align_offset(line);
    let begin = Instant::now();
    let (mut best, mut runs) = (Duration::MAX, 0);
    while runs < LEAST_RUNS || begin.elapsed() < limit {
        let started = Instant::now();
        layer.run(x, &mut y[start..], way.residual.then_some(&added[..]), &mut scratch);
        best = best.min(started.elapsed());
        runs += 1;
    }
    best
}

/// Weights, input and output.
fn bytes(layer: &dyn Layer) -> usize {
    let pixels: usize = [layer.input(), layer.output()].iter().map(|map| map.channels * map.pixels()).sum();
    layer.weight_bytes() + pixels * size_of::<f32>()
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
    let portable = words.contains(&"scalar");
    let here = Isa::COMPILED.iter().filter(|isa| isa.runs_here() && (portable || **isa != Isa::Scalar));
    let mut isas: Vec<Isa> = here.copied().collect();
    if isas.is_empty() {
        isas = vec![Isa::Scalar];
    }
    let peaks: Vec<(Isa, f64)> = isas.iter().filter_map(|isa| Some((*isa, peak::gflops(*isa)?))).collect();
    for (isa, gflops) in &peaks {
        println!("peak {:12} {gflops:6.1} GFLOP/s on one core", isa.name());
    }
    // portable code has no peak of its own and is held against the widest
    let peak_of =
        |isa| peaks.iter().find(|(of, _)| *of == isa).or(peaks.first()).map_or(f64::NAN, |(_, gflops)| *gflops);
    println!(
        "\n{:12} {:28} {:>5}  {:26} {:>10} {:>9} {:>8} {:>7}",
        "", "", "zeros", "kernel", "us", "GFLOP/s", "of peak", "GB/s"
    );
    for Case { network, shape, zeros } in cases() {
        for zeros in zeros {
            for way in ways(&shape, *zeros, &isas) {
                let layer = &*way.layer;
                let head = format!("{network:12} {:28} {zeros:>4}%  {:26}", shape.name(), layer.kernel());
                if !words.iter().all(|word| head.contains(word)) {
                    continue;
                }
                let seconds = best_of(limit, &way).as_secs_f64();
                let gflops = 2.0 * layer.macs() as f64 / seconds / 1e9;
                let share = 100.0 * gflops / peak_of(way.isa);
                let moved = bytes(layer) as f64 / seconds / 1e9;
                let work = if layer.macs() == 0 {
                    format!("{:>9} {:>8}", "-", "-")
                } else {
                    format!("{gflops:9.1} {share:7.0}%")
                };
                println!("{head} {:10.1} {work} {moved:7.1}", seconds * 1e6);
            }
        }
    }
}
