//! The engine against candle's path, on every built-in architecture that fits a test and on graphs with odd shapes.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use sentei_graph::Graph;

use super::Engine;
use crate::masks::Masks;
use crate::optim::kept::of_all;
use crate::{Mode, Net, cross_entropy};

fn noise(shape: &[usize], salt: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|i| ((i as f32 * 0.731 + salt).sin() * 43.7).fract()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest value.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    found.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[derive(Clone)]
struct Outcome {
    logits: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
    buffers: Vec<(String, Vec<f32>)>,
}

/// Gradients have a number per weight here, 0 for those that have none.
fn outcome(net: &Net, logits: &Tensor, grads: &GradStore, masks: Option<&Masks>) -> Outcome {
    let gradient = |p: &crate::net::Param| {
        let found = grads.get(p.var.as_tensor()).map(flat).unwrap_or_default();
        let mask = masks.and_then(|masks| masks.get(&p.name)).filter(|_| found.len() != p.var.elem_count());
        (p.name.clone(), mask.map_or(found.clone(), |mask| of_all(&found, mask)))
    };
    Outcome {
        logits: flat(logits),
        gradients: net.vars().iter().map(gradient).collect(),
        buffers: net.buffers().map(|(name, value)| (name.to_string(), flat(value))).collect(),
    }
}

fn by_candle(graph: &Graph, x: &Tensor, labels: &[u32], dtype: DType) -> Outcome {
    let mut net = Net::with_dtype(graph, &Device::Cpu, dtype).unwrap();
    let logits = net.forward(x, Mode::Train { seed: 3 }).unwrap();
    let grads = cross_entropy(&logits, labels, 0.1, None).unwrap().backward().unwrap();
    outcome(&net, &logits, &grads, None)
}

/// Three steps, so that what those before left behind would show; the third leaves masked weights out (trials take turns).
fn by_engine(graph: &Graph, x: &Tensor, labels: &[u32], masks: Option<&Masks>) -> Outcome {
    let net = Net::new(graph, &Device::Cpu).unwrap();
    let mut engine = Engine::new(&net, labels.len()).unwrap().expect("the engine takes this graph");
    if let Some(masks) = masks {
        engine.follow(masks);
    }
    let mut last = None;
    for step in 0..3 {
        let fresh = Net::new(graph, &Device::Cpu).unwrap();
        for (name, value) in fresh.buffers() {
            net.buffer(name).unwrap().set(value).unwrap();
        }
        let x = if step < 2 { &(x * 0.5).unwrap() } else { x };
        let logits = engine.forward(&net, x, 3).unwrap();
        let mut grads = cross_entropy(logits.as_tensor(), labels, 0.1, None).unwrap().backward().unwrap();
        let gradient = grads.remove(logits.as_tensor()).unwrap();
        engine.backward(&net, &gradient, masks.is_none(), &mut grads).unwrap();
        last = Some(outcome(&net, logits.as_tensor(), &grads, masks));
    }
    last.unwrap()
}

/// The engine may be as far from double precision as ten times what candle in single precision is.
fn assert_trains_as_in_candle(name: &str, graph: &Graph, x: &Tensor, labels: &[u32]) {
    let exact = by_candle(graph, x, labels, DType::F64);
    let (engine, candle) = (by_engine(graph, x, labels, None), by_candle(graph, x, labels, DType::F32));
    let all = |outcome: &Outcome| {
        let logits = ("logits".to_string(), outcome.logits.clone());
        [vec![logits], outcome.gradients.clone(), outcome.buffers.clone()].concat()
    };
    let pairs = |found: &Outcome| -> Vec<(String, f32)> {
        let exact = all(&exact).into_iter();
        all(found).into_iter().zip(exact).map(|((name, found), (_, exact))| (name, distance(&found, &exact))).collect()
    };
    let rounding = pairs(&candle).iter().fold(1e-5f32, |most, (_, d)| most.max(*d));
    for (parameter, d) in pairs(&engine) {
        assert!(d <= 10.0 * rounding, "{name}: {parameter} is {d} away where candle is {rounding}");
    }
    assert!(rounding < 0.05, "{name}: rounding alone moves {rounding}, which hides what is wrong");
}

fn labels(batch: usize) -> Vec<u32> {
    (0..batch as u32).map(|i| i % 5).collect()
}

#[test]
fn built_in_nets_train_as_in_candle() {
    for (name, channels, side, batch) in [
        ("inspect", 1, 32, 5),
        ("inspect-spots", 1, 32, 17),
        ("lenet300", 1, 28, 18),
        ("lenet5", 1, 28, 6),
        ("resnet8", 3, 16, 16),
        ("resnet18", 3, 64, 3),
        ("mobilenet", 3, 64, 19),
    ] {
        let spec = sentei_models::Spec { channels, height: side, width: side, classes: 5, seed: 1 };
        let graph = sentei_models::build(name, &spec).unwrap();
        let x = noise(&[batch, channels, side, side], 0.3);
        let labels = labels(batch);
        assert_trains_as_in_candle(name, &graph, &x, &labels);
    }
}

#[test]
fn odd_graphs_train_as_in_candle() {
    let texts = [
        // shortcuts of both kinds, an activation that two read, a gradient that three layers add to
        "x = input f32[1,3,9,7]
         c1 = Conv(x, w1[6,3,3,3]) stride=2,1 pad=1,0,2,1
         n1 = BatchNorm(c1, g1[6], s1[6], m1[6], v1[6])
         r1 = Relu(n1)
         c2 = Conv(r1, w2[6,2,3,3]) pad=1 groups=3
         n2 = BatchNorm(c2, g2[6], s2[6], m2[6], v2[6])
         a2 = Add(n2, r1)
         r2 = LeakyRelu(a2) alpha=0.1
         c3 = Conv(r2, w3[12,1,3,3], b3[12]) pad=2 dilation=2 groups=6
         r3 = Clip(c3) min=-0.5 max=0.8
         c4 = Conv(r3, w4[6,12,1,1])
         a4 = Add(c4, r2)
         a5 = Add(a4, r1)
         p = MaxPool(a5) kernel=3 stride=2 pad=1
         q = AveragePool(p) kernel=2 stride=1
         f = Flatten(q) axis=1
         h = Gemm(f, w6[7,{F}], b6[7])
         s = Sigmoid(h)
         y = Gemm(s, w7[5,7], b7[5])",
        // pre-activation: the input of a batch norm is read by an addition, too
        "x = input f32[1,2,6,6]
         c1 = Conv(x, w1[4,2,3,3]) pad=1
         n1 = BatchNorm(c1, g1[4], s1[4], m1[4], v1[4])
         r1 = Relu(n1)
         c2 = Conv(r1, w2[4,4,3,3]) pad=1
         a1 = Add(c2, c1)
         n2 = BatchNorm(a1, g2[4], s2[4], m2[4], v2[4])
         d = Dropout(n2) rate=0.4
         p = GlobalAveragePool(d)
         f = Flatten(p) axis=1
         y = Gemm(f, w5[5,4], b5[5])",
        // squeeze and excitation, and a concatenation: ops that run through candle
        "x = input f32[1,2,6,6]
         c1 = Conv(x, w1[4,2,3,3], b1[4]) pad=1
         h1 = HardSwish(c1)
         g = GlobalAveragePool(h1)
         e1 = Conv(g, e[4,4,1,1], eb[4])
         e2 = HardSigmoid(e1)
         m = Mul(h1, e2)
         k = Concat(m, h1) axis=1
         p = GlobalAveragePool(k)
         f = Flatten(p) axis=1
         y = Gemm(f, w5[5,8], b5[5])",
        // additions that repeat one number per channel, behind a batch norm and before an activation
        "x = input f32[1,2,6,6]
         c1 = Conv(x, w1[4,2,3,3], b1[4]) pad=1
         n1 = BatchNorm(c1, g1[4], s1[4], m1[4], v1[4])
         g = GlobalAveragePool(c1)
         a1 = Add(n1, g)
         c2 = Conv(a1, w2[4,4,1,1])
         a2 = Add(c2, g)
         r2 = Relu(a2)
         p = GlobalAveragePool(r2)
         f = Flatten(p) axis=1
         y = Gemm(f, w5[5,4], b5[5])",
    ];
    for (index, text) in texts.into_iter().enumerate() {
        let graph = Graph::parse(&text.replace("{F}", "24")).unwrap();
        for batch in [1, 3, 16, 20] {
            let shape = [&[batch], &graph.inputs()[0].1.shape[1..]].concat();
            let x = noise(&shape, 0.7);
            let labels = labels(batch);
            let name = format!("graph {index}, batch {batch}");
            assert_trains_as_in_candle(&name, &graph, &x, &labels);
        }
    }
}

/// A weight that is left out and one that is multiplied as 0 give the same bits, so what is faster may run.
#[test]
fn masked_nets_train_to_the_same_bits_sparse_and_dense() {
    for (name, channels, side, batch) in [("resnet8", 3, 16, 20), ("lenet300", 1, 28, 33), ("mobilenet", 3, 32, 16)] {
        let spec = sentei_models::Spec { channels, height: side, width: side, classes: 5, seed: 1 };
        let mut graph = sentei_models::build(name, &spec).unwrap();
        let layers = crate::prunable_layers(&graph, crate::PrunableSet::ALL);
        // one layer loses everything, as `collapse = "allow"` permits
        let keep = |(at, layer): (usize, &crate::Layer)| {
            let bits = (0..layer.len()).map(|i| at != 1 && (i * 7 + i / 13) % 10 == 0).collect();
            (layer.name.clone(), sentei_graph::Mask::from_bits(bits))
        };
        let masks: Masks = layers.iter().enumerate().map(keep).collect();
        for (layer, mask) in masks.iter() {
            let id = graph.value(layer).unwrap();
            let mut tensor = graph.initializer(id).unwrap().clone();
            mask.apply(&mut tensor.data);
            graph.set_initializer(id, tensor);
        }
        let (x, labels) = (noise(&[batch, channels, side, side], 0.3), labels(batch));
        let (sparse, dense) = (by_engine(&graph, &x, &labels, Some(&masks)), by_engine(&graph, &x, &labels, None));
        assert_eq!(sparse.logits, dense.logits, "{name}");
        for ((parameter, sparse), (_, dense)) in sparse.gradients.iter().zip(&dense.gradients) {
            let Some(mask) = masks.get(parameter) else {
                assert_eq!(sparse, dense, "{name}: {parameter}");
                continue;
            };
            let kept = |values: &[f32]| -> Vec<f32> {
                values.iter().zip(mask.bits()).filter(|(_, keep)| **keep).map(|(v, _)| *v).collect()
            };
            assert_eq!(kept(sparse), kept(dense), "{name}: {parameter}");
            // Depthwise layers leave nothing out.
            let removed = |(i, (g, keep)): (usize, (&f32, &bool))| *keep || *g == 0.0 || *g == dense[i];
            assert!(sparse.iter().zip(mask.bits()).enumerate().all(removed), "{name}: {parameter}");
        }
    }
}

#[test]
fn a_step_gives_the_same_bits_on_any_number_of_threads() {
    for (name, channels, side, batch) in [("resnet8", 3, 16, 20), ("mobilenet", 3, 32, 16), ("lenet5", 1, 28, 33)] {
        let spec = sentei_models::Spec { channels, height: side, width: side, classes: 5, seed: 1 };
        let graph = sentei_models::build(name, &spec).unwrap();
        let (x, labels) = (noise(&[batch, channels, side, side], 0.3), labels(batch));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| by_engine(&graph, &x, &labels, None))
        };
        let one = on(1);
        for threads in [2, 3] {
            let more = on(threads);
            assert_eq!(more.logits, one.logits, "{name} on {threads} threads");
            assert_eq!(more.gradients, one.gradients, "{name} on {threads} threads");
            assert_eq!(more.buffers, one.buffers, "{name} on {threads} threads");
        }
    }
}
