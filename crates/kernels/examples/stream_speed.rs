//! What the memory-bound parts of a training step cost: nanoseconds per value, GB/s, and the share of what a plain copy reaches.
//!
//! `cargo run --release -p sentei-kernels --features training --example stream_speed [filter [avx2]]`; best of some repetitions, one and two threads.
//! Bytes are those that must be read and written once; what a write reads first is not counted, for the copy neither.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::*;

/// How long each row repeats itself.
const TIME: Duration = Duration::from_millis(300);

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let name = std::env::args().nth(2).unwrap_or_else(|| Isa::best().name().into());
    let isa = Isa::COMPILED.iter().copied().find(|isa| isa.name() == name && isa.runs_here());
    let isa = isa.unwrap_or_else(|| panic!("no instruction set {name} here"));
    for (channels, side, batch) in [(16, 32, 128), (32, 24, 64)] {
        for threads in [1, 2] {
            println!("{channels} channels, {side}x{side}, batch {batch}, {threads} threads");
            measure(isa, [channels, side, batch], &Team::new(threads, false).expect("a few threads"), &filter);
        }
    }
}

/// One row after the other; each says how many maps it reads and writes.
struct Table<'a> {
    len: usize,
    filter: &'a str,
    /// Seconds of a copy, per map.
    copy: f64,
}

impl Table<'_> {
    fn row(&mut self, name: &str, maps: f64, mut run: impl FnMut()) {
        if name != "copy" && !name.contains(self.filter) {
            return;
        }
        let (start, mut best) = (Instant::now(), f64::INFINITY);
        while start.elapsed() < TIME {
            let one = Instant::now();
            run();
            best = best.min(one.elapsed().as_secs_f64());
        }
        if name == "copy" {
            self.copy = best / maps;
        }
        let gigabytes = maps * 4e-9 * self.len as f64 / best;
        let (nanos, share) = (best * 1e9 / self.len as f64, 100.0 * self.copy * maps / best);
        println!("{name:32} {nanos:8.3} ns/value {gigabytes:7.2} GB/s {share:6.0} % of a copy");
    }
}

fn measure(isa: Isa, [channels, side, batch]: [usize; 3], team: &Team, filter: &str) {
    let lanes = Lanes::new(isa, batch);
    let planes = Planes { lanes, channels, pixels: side * side };
    let len = planes.len();
    let map = |salt: usize| -> Vec<f32> { (0..len).map(|i| ((i * 31 + salt) % 1009) as f32 / 504.5 - 1.0).collect() };
    let (x, y, mut gradient, mut to) = (map(1), map(2), map(3), map(4));
    let mut table = Table { len, filter, copy: f64::NAN };

    let half = len.div_ceil(team.threads());
    table.row("copy", 2.0, || {
        let parts: Vec<std::sync::Mutex<&mut [f32]>> = to.chunks_mut(half).map(std::sync::Mutex::new).collect();
        team.run(&|thread| {
            let mut part = parts[thread].lock().expect("no thread panics");
            let len = part.len();
            part.copy_from_slice(black_box(&x[thread * half..][..len]));
        });
    });
    table.row("add_assign", 3.0, || add_assign(team, &mut to, &x));
    let relu = Piecewise::Leaky { alpha: 0.0 };
    table.row("activate", 2.0, || activate(team, relu, &x, &mut to));
    table.row("activate_backward", 3.0, || activate_backward(team, relu, &x, &y, Gradient::write(&mut to)));
    table.row("add and relu", 3.0, || add(team, relu, [&x, &y], &mut to));
    let mut bias = vec![0.0; channels];
    table.row("bias_gradient", 1.0, || bias_gradient(team, planes, &x, &mut bias));

    let (gamma, beta) = (vec![0.9; channels], vec![0.1; channels]);
    let norm = Norm { planes, gamma: &gamma, beta: &beta, epsilon: 1e-5, activation: relu };
    let (mut mean, mut variance, mut to_gamma, mut to_beta) =
        (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
    table.row("moments", 1.0, || moments(team, planes, &x, &mut mean, &mut variance));
    table.row("normalise", 2.0, || normalise(team, planes, relu, &x, None, [&gamma, &beta], &mut to));
    table.row("norm_forward", 2.0, || norm_forward(team, norm, &x, None, [&mut mean, &mut variance], &mut to));
    table.row("norm_forward, residual", 3.0, || {
        norm_forward(team, norm, &x, Some(&y), [&mut mean, &mut variance], &mut to);
    });
    table.row("norm_backward", 3.0, || {
        let sums = [&mut to_gamma[..], &mut to_beta];
        norm_backward(team, norm, [&mean, &variance], (&x, None), &mut gradient, sums, None);
    });
    table.row("norm_backward, residual", 5.0, || {
        let sums = [&mut to_gamma[..], &mut to_beta];
        let residual = Some(Gradient::write(&mut to));
        norm_backward(team, norm, [&mean, &variance], (&x, Some(&y)), &mut gradient, sums, residual);
    });

    let half = PoolGeometry {
        channels,
        input: [side, side],
        output: [side / 2, side / 2],
        kernel: [2, 2],
        stride: [2, 2],
        pads: [0, 0],
    };
    let mut small = vec![0.5; len / 4];
    table.row("max_pool 2x2", 1.25, || max_pool(team, lanes, half, &x, &mut small));
    table.row("max_pool_backward 2x2", 2.25, || {
        max_pool_backward(team, lanes, half, &x, &small, Gradient::write(&mut to));
    });
    table.row("average_pool 2x2", 1.25, || average_pool(team, lanes, half, false, &x, &mut small));
    let global = PoolGeometry::global(channels, [side, side]);
    let mut means = vec![0.5; lanes.len(channels)];
    table.row("global average", 1.0, || average_pool(team, lanes, global, false, &x, &mut means));
    table.row("global average backward", 1.0, || {
        average_pool_backward(team, lanes, global, false, &means, Gradient::write(&mut to));
    });

    for stride in [1, 2] {
        let g = ConvGeometry {
            groups: channels,
            in_channels: channels,
            out_channels: channels,
            input: [side, side],
            output: [side / stride, side / stride],
            kernel: [3, 3],
            stride: [stride, stride],
            pads: [1, 1],
            dilation: [1, 1],
        };
        let layer = Depthwise::new(isa, g).expect("a depthwise layer");
        let (weights, mut gw) = (vec![0.1; g.weights()], vec![0.0; g.weights()]);
        let out = len / (stride * stride);
        let maps = 1.0 + 1.0 / (stride * stride) as f64;
        table.row(&format!("depthwise {stride}"), maps, || {
            layer.forward(team, batch, &x, &weights, None, &mut to[..out]);
        });
        table.row(&format!("depthwise {stride} input"), maps, || {
            layer.input_gradient(team, batch, &y[..out], &weights, Gradient::write(&mut to));
        });
        table.row(&format!("depthwise {stride} weights"), maps, || {
            layer.weight_gradient(team, batch, &x, &y[..out], &mut gw);
        });
    }

    let mut images = vec![0.0; batch * channels * side * side];
    table.row("from_lanes", 2.0, || from_lanes(team, lanes, channels * side * side, &x, &mut images));
    table.row("to_lanes", 2.0, || to_lanes(team, lanes, channels * side * side, &images, &mut to));
}
