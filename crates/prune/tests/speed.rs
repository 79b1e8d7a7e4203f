//! Speed of a training step, of single convolutions and of Hessian-vector products. Ignored by default because a time is no pass or fail:
//! `cargo test --release -p sentei-prune --test speed -- --ignored --nocapture --test-threads=1`

use std::time::Instant;

use candle_core::{Device, Tensor};
use sentei_graph::Graph;
use sentei_prune::curvature::{Objective, gradient, hessian_vector};
use sentei_prune::{Mode, Net, cross_entropy};

fn random(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|i| ((i as f32 * 0.731).sin() * 43.7).fract()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).expect("the data fills the shape")
}

fn best_seconds(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(time).fold(f64::MAX, f64::min)
}

#[test]
#[ignore = "a measurement on an idle machine, not a check: cargo test --release -p sentei-prune --test speed -- --ignored --nocapture --test-threads=1"]
fn training_step_of_a_small_inspection_net() {
    let graph = Graph::parse(
        "x = input f32[1,1,64,64]
         c1 = Conv(x, w1[16,1,5,5]) stride=2 pad=2
         n1 = BatchNorm(c1, g1[16], s1[16], m1[16], v1[16])
         r1 = Relu(n1)
         c2 = Conv(r1, w2[32,16,3,3]) stride=2 pad=1
         n2 = BatchNorm(c2, g2[32], s2[32], m2[32], v2[32])
         r2 = Relu(n2)
         c3 = Conv(r2, w3[64,32,3,3]) pad=1
         n3 = BatchNorm(c3, g3[64], s3[64], m3[64], v3[64])
         r3 = Relu(n3)
         c4 = Conv(r3, w4[96,64,3,3]) stride=2 pad=1
         n4 = BatchNorm(c4, g4[96], s4[96], m4[96], v4[96])
         r4 = Relu(n4)
         c5 = Conv(r4, w5[96,96,3,3]) pad=1
         n5 = BatchNorm(c5, g5[96], s5[96], m5[96], v5[96])
         r5 = Relu(n5)
         p = GlobalAveragePool(r5)
         f = Flatten(p) axis=1
         y = Gemm(f, w6[6,96], b6[6])",
    )
    .expect("the text is a graph");
    let mut net = Net::new(&graph, &Device::Cpu).expect("the graph lowers");
    let x = random(&[64, 1, 64, 64]);
    let labels: Vec<u32> = (0..64).map(|i| i % 6).collect();
    let mut forward = 0.0;
    let step = best_seconds(20, || {
        let start = Instant::now();
        let logits = net.forward(&x, Mode::Train { seed: 0 }).expect("forward");
        forward = start.elapsed().as_secs_f64();
        cross_entropy(&logits, &labels, 0.0, None).expect("loss").backward().expect("backward");
    });
    println!("training step: {:.0} images/s ({:.1} ms, forward {:.1} ms)", 64.0 / step, step * 1e3, forward * 1e3);
}

#[test]
#[ignore = "a measurement on an idle machine, not a check: cargo test --release -p sentei-prune --test speed -- --ignored --nocapture --test-threads=1"]
fn single_convolutions() {
    let cases = [
        (64, 32, 32, 32, "3,3", "pad=1", 1),
        (64, 64, 64, 16, "3,3", "pad=1", 1),
        (64, 128, 128, 16, "3,3", "pad=1", 1),
        (64, 64, 128, 16, "3,3", "pad=1 stride=2", 1),
        (64, 128, 128, 8, "3,3", "pad=1", 1),
        (64, 64, 128, 32, "1,1", "", 1),
        (64, 512, 512, 4, "3,3", "pad=1", 1),
        (32, 128, 128, 28, "3,3", "pad=1 groups=128", 128),
        (32, 128, 128, 28, "3,3", "pad=1 stride=2 groups=128", 128),
    ];
    for (batch, input, output, side, kernel, attributes, groups) in cases {
        let text = format!(
            "x = input f32[{batch},{input},{side},{side}]\ny = Conv(x, w[{output},{},{kernel}]) {attributes}",
            input / groups
        );
        let graph = Graph::parse(&text).expect("the text is a graph");
        let macs: u64 = graph.macs().expect("shapes").iter().map(|(_, m)| m).sum();
        let mut net = Net::new(&graph, &Device::Cpu).expect("the graph lowers");
        let x = candle_core::Var::from_tensor(&random(&[batch, input, side, side])).expect("variable");
        let forward = best_seconds(5, || {
            net.forward(x.as_tensor(), Mode::Eval).expect("forward");
        });
        let y = net.forward(x.as_tensor(), Mode::Train { seed: 0 }).expect("forward");
        let backward = best_seconds(5, || {
            y.backward().expect("backward");
        });
        let rate = |seconds: f64, passes: f64| passes * 2.0 * macs as f64 / seconds / 1e9;
        println!(
            "{batch}x{input}->{output} {side}x{side} {kernel} {attributes}: forward {:.2} ms {:.0} GFLOP/s, backward {:.2} ms {:.0} GFLOP/s",
            forward * 1e3,
            rate(forward, 1.0),
            backward * 1e3,
            rate(backward, 2.0)
        );
    }
}

/// Peak resident memory since the last [`forget_peak`], in MiB; `None` where the system does not say.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// Sets the peak to what is resident now.
fn forget_peak() {
    // Where this is refused, the peaks printed are those since the start.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[test]
#[ignore = "a measurement on an idle machine, not a check: cargo test --release -p sentei-prune --test speed -- --ignored --nocapture --test-threads=1"]
fn hessian_vector_products_in_gradients() {
    for (name, channels, side) in [("inspect", 1, 64), ("resnet20", 3, 32)] {
        let spec = sentei_models::Spec { channels, height: side, width: side, classes: 10, seed: 1 };
        let graph = sentei_models::build(name, &spec).expect("a built-in net");
        let mut net = Net::new(&graph, &Device::Cpu).expect("the graph lowers");
        let params: Vec<String> = net.vars().iter().map(|p| p.name.clone()).collect();
        let data = vec![(random(&[64, channels, side, side]), (0..64).map(|i| i % 10).collect::<Vec<u32>>())];
        for batch_statistics in [false, true] {
            let objective = Objective { batch_statistics, ..Objective::default() };
            let v = gradient(&mut net, &params, &data, &objective).expect("a gradient").grads;
            forget_peak();
            let start = peak_mib();
            let one = best_seconds(7, || {
                gradient(&mut net, &params, &data, &objective).expect("a gradient");
            });
            let first = peak_mib();
            forget_peak();
            let two = best_seconds(7, || {
                hessian_vector(&mut net, &params, &data, &v, &objective).expect("a product");
            });
            let second = peak_mib();
            println!(
                "{name}, batch statistics {batch_statistics}: gradient {:.1} ms, product {:.1} ms = {:.2} gradients; peaks {start:.0?} {first:.0?} {second:.0?} MiB",
                one * 1e3,
                two * 1e3,
                two / one
            );
        }
    }
}
