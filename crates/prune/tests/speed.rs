//! Speed of a training step and of single convolutions. Ignored by default because a time is no pass or fail:
//! `cargo test --release -p sentei-prune --test speed -- --ignored --nocapture --test-threads=1`

use std::time::Instant;

use candle_core::{Device, Tensor};
use sentei_graph::Graph;
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
#[ignore = "a measurement, not a check; needs release mode and an idle machine"]
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
#[ignore = "a measurement, not a check; needs release mode and an idle machine"]
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
