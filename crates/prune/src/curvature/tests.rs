//! Gradients and Hessian-vector products against golden numbers, central differences in f64, and the laws they obey.

use std::collections::HashMap;

use sentei_graph::Graph;

use super::*;
use crate::Device;
use crate::testing::{Golden, bits, noise};

const PLAIN: Objective = Objective { temperature: 1.0, batch_statistics: false, label_smoothing: 0.0 };
const BATCH: Objective = Objective { batch_statistics: true, ..PLAIN };

type Batches = Vec<(Tensor, Vec<u32>)>;

fn flat(tensors: &[Tensor]) -> Vec<f64> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    tensors.iter().flat_map(values).collect()
}

fn flat_golden(layers: &[Vec<Vec<f64>>]) -> Vec<f64> {
    layers.iter().flat_map(|rows| rows.concat()).collect()
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// `|a - b| / |b|`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(b)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A direction for `params`, uniform in `[-1, 1)`.
fn direction(net: &Net, params: &[String], salt: &str) -> Vec<Tensor> {
    let along = |name: &String| {
        let var = &net.var(name).unwrap().var;
        let data: Vec<f32> = (0..var.elem_count()).map(|i| noise(&format!("{salt} {name}"), i)).collect();
        Tensor::from_vec(data, var.shape(), net.device()).unwrap()
    };
    params.iter().map(along).collect()
}

/// `a x + b y`, tensor by tensor.
fn mix(a: f64, x: &[Tensor], b: f64, y: &[Tensor]) -> Vec<Tensor> {
    let scaled = |s: f64, t: &Tensor| t.to_dtype(DType::F64).unwrap().affine(s, 0.0).unwrap();
    x.iter().zip(y).map(|(x, y)| (scaled(a, x) + scaled(b, y)).unwrap()).collect()
}

fn every_param(net: &Net) -> Vec<String> {
    net.vars().iter().map(|p| p.name.clone()).collect()
}

/// Batches of those sizes for the input of `graph`, with labels below `classes`.
fn batches(graph: &Graph, sizes: &[usize], classes: u32) -> Batches {
    let mut shape = graph.inputs()[0].1.shape.clone();
    let mut batch = |index: usize, size: usize| {
        shape[0] = size;
        let count = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|i| 1.5 * noise(&format!("images {index}"), i)).collect();
        let labels = (0..size as u32).map(|i| (i * 7 + index as u32) % classes).collect();
        (Tensor::from_vec(data, shape.as_slice(), &Device::Cpu).unwrap(), labels)
    };
    sizes.iter().enumerate().map(|(index, size)| batch(index, *size)).collect()
}

/// `(grad(theta + h v) - grad(theta - h v)) / 2h` for `h |v| = 1e-5`; only f64 nets survive this.
fn differenced(net: &mut Net, params: &[String], data: &Batches, v: &[Tensor], objective: &Objective) -> Vec<f64> {
    let start: Vec<Tensor> = params.iter().map(|p| net.var(p).unwrap().var.as_tensor().copy().unwrap()).collect();
    let step = 1e-5 / norm(&flat(v));
    let mut gradient_at = |h: f64| {
        for (name, value) in params.iter().zip(mix(1.0, &start, h, v)) {
            net.set_var(name, &value).unwrap();
        }
        flat(&gradient(net, params, data, objective).unwrap().grads)
    };
    let (ahead, behind) = (gradient_at(step), gradient_at(-step));
    gradient_at(0.0);
    ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * step)).collect()
}

/// A convolutional net of smooth ops, with batch norm whose scale and shift are trained.
const SMOOTH: &str = "x = input f32[1,2,6,5]
    a = Conv(x, w1[4,2,3,3], b1[4]) pad=1
    n = BatchNorm(a, g1[4], s1[4], m1[4], v1[4])
    s = Silu(n)
    d = Conv(s, w2[4,1,3,3]) pad=1 groups=4
    e = BatchNorm(d, g2[4], s2[4], m2[4], v2[4])
    t = Sigmoid(e)
    r = Add(s, t)
    p = GlobalAveragePool(r)
    f = Flatten(p) axis=1
    z = Gemm(f, w3[3,4], b3[3])";

/// The same with corners.
const CORNERS: &str = "x = input f32[1,2,8,7]
    a = Conv(x, w1[5,2,3,3]) pad=1
    n = BatchNorm(a, g1[5], s1[5], m1[5], v1[5])
    r = Relu(n)
    q = MaxPool(r) kernel=2 stride=2
    c = Conv(q, w2[6,5,3,3]) pad=1
    l = BatchNorm(c, g2[6], s2[6], m2[6], v2[6])
    k = Relu(l)
    p = GlobalAveragePool(k)
    f = Flatten(p) axis=1
    z = Gemm(f, w3[3,6], b3[3])";

#[test]
fn golden_loss_and_gradient_and_logits() {
    let golden = Golden::read();
    for (dtype, bound) in [(DType::F32, 1e-6), (DType::F64, 1e-10)] {
        let mut net = golden.net(dtype);
        let logits = net.forward(&golden.batches()[0].0, crate::Mode::Eval).unwrap();
        assert!(distance(&flat(&[logits]), &golden.logits.concat()) < bound);
        let found = gradient(&mut net, &Golden::params(), &golden.batches(), &PLAIN).unwrap();
        assert!((found.loss / golden.loss - 1.0).abs() < bound, "{dtype:?}: {}", found.loss);
        let error = distance(&flat(&found.grads), &flat_golden(&golden.gradient));
        assert!(error < bound, "{dtype:?}: {error}");
    }
}

#[test]
fn pai_oracle_8_the_hessian_times_the_gradient_is_the_golden_one() {
    let golden = Golden::read();
    for (dtype, bound) in [(DType::F32, 1e-6), (DType::F64, 1e-10)] {
        let mut net = golden.net(dtype);
        let g = gradient(&mut net, &Golden::params(), &golden.batches(), &PLAIN).unwrap().grads;
        let found = flat(&hessian_vector(&mut net, &Golden::params(), &golden.batches(), &g, &PLAIN).unwrap());
        let error = distance(&found, &flat_golden(&golden.hessian_gradient_product));
        assert!(error < bound, "{dtype:?}: {error}");
    }
}

/// The card asks for a net with `tanh`, which the graph does not have; `2 sigmoid(2x) - 1` is one.
#[test]
fn pai_oracle_8_central_differences_of_a_tanh_net_agree() {
    let tanh = |x: &str, y: &str| {
        format!("{y}0 = Mul({x}, two[1]=2)\n{y}1 = Sigmoid({y}0)\n{y}2 = Mul({y}1, two)\n{y} = Add({y}2, minus[1]=-1)")
    };
    let second = tanh("c", "d").replace("minus[1]=-1", "minus").replace("two[1]=2", "two");
    let text = format!(
        "x = input f32[1,4]\na = Gemm(x, w1[5,4])\n{}\nc = Gemm(b, w2[4,5])\n{second}\nz = Gemm(d, w3[3,4])",
        tanh("a", "b")
    );
    let graph = Graph::parse(&text).unwrap();
    let mut net = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
    let (params, data) = (every_param(&net), batches(&graph, &[6], 3));
    let g = gradient(&mut net, &params, &data, &PLAIN).unwrap().grads;
    let exact = flat(&hessian_vector(&mut net, &params, &data, &g, &PLAIN).unwrap());
    let error = distance(&differenced(&mut net, &params, &data, &g, &PLAIN), &exact);
    assert!(error < 1e-8, "{error}");
}

#[test]
fn pai_oracle_5_the_gate_gradient_is_weight_times_gradient_and_gives_the_golden_snip_scores() {
    let golden = Golden::read();
    let (mut net, params, data) = (golden.net(DType::F64), Golden::params(), golden.batches());
    let found = gradient(&mut net, &params, &data, &PLAIN).unwrap();
    let weights: Vec<Tensor> = params.iter().map(|p| net.var(p).unwrap().var.as_tensor().copy().unwrap()).collect();
    let saliency: Vec<f64> = flat(&weights).iter().zip(flat(&found.grads)).map(|(w, g)| w * g).collect();
    let scores: Vec<f64> = saliency.iter().map(|s| s.abs()).collect();
    let error = distance(&scores, &flat_golden(&golden.snip_abs_scores));
    assert!(error < 1e-10, "{error}");

    // The gates themselves, moved one at a time around 1.
    let mut at = 0;
    for (name, weight) in params.iter().zip(&weights) {
        let values = flat(std::slice::from_ref(weight));
        for i in 0..values.len() {
            let mut loss_at = |gate: f64| {
                let mut gated = values.clone();
                gated[i] *= gate;
                net.set_var(name, &Tensor::from_vec(gated, weight.shape(), &Device::Cpu).unwrap()).unwrap();
                gradient(&mut net, &params, &data, &PLAIN).unwrap().loss
            };
            let slope = (loss_at(1.0 + 1e-5) - loss_at(1.0 - 1e-5)) / 2e-5;
            assert!((slope - saliency[at]).abs() < 1e-8, "{name}[{i}]: {slope} is not {}", saliency[at]);
            at += 1;
        }
        net.set_var(name, weight).unwrap();
    }
}

#[test]
fn pai_oracle_7_signed_saliency_sums_to_the_same_in_every_layer() {
    let golden = Golden::read();
    let (mut net, params) = (golden.net(DType::F64), Golden::params());
    let found = gradient(&mut net, &params, &golden.batches(), &PLAIN).unwrap();
    let sums: Vec<f64> = params
        .iter()
        .zip(&found.grads)
        .map(|(p, g)| dot(&flat(&[net.var(p).unwrap().var.as_tensor().clone()]), &flat(std::slice::from_ref(g))))
        .collect();
    for (sum, expected) in sums.iter().zip(&golden.signed_taylor_layer_sums) {
        assert!((sum / expected - 1.0).abs() < 1e-10, "{sums:?}");
        assert!((sum / sums[0] - 1.0).abs() < 1e-12, "{sums:?}");
    }
}

/// The whole Hessian of the golden net, column by column.
fn golden_hessian(dtype: DType) -> Vec<Vec<f64>> {
    let golden = Golden::read();
    let (mut net, params, data) = (golden.net(dtype), Golden::params(), golden.batches());
    let shapes: Vec<Vec<usize>> = params.iter().map(|p| net.var(p).unwrap().var.dims().to_vec()).collect();
    let mut column = |k: usize| {
        let mut at = 0;
        let mut unit = Vec::new();
        for shape in &shapes {
            let count: usize = shape.iter().product();
            let data: Vec<f64> = (at..at + count).map(|i| f64::from(u8::from(i == k))).collect();
            unit.push(Tensor::from_vec(data, shape.as_slice(), &Device::Cpu).unwrap());
            at += count;
        }
        flat(&hessian_vector(&mut net, &params, &data, &unit, &PLAIN).unwrap())
    };
    (0..52).map(&mut column).collect()
}

/// Eigenvalues of a symmetric matrix, ascending, by rotating its largest entries away.
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    values.sort_by(f64::total_cmp);
    values
}

#[test]
fn limit_oracle_4_the_eigenvalues_and_the_trace_of_the_golden_hessian() {
    let golden = Golden::read();
    for (dtype, bound) in [(DType::F32, 1e-6), (DType::F64, 1e-10)] {
        let hessian = golden_hessian(dtype);
        let trace: f64 = (0..52).map(|i| hessian[i][i]).sum();
        assert!((trace / golden.hessian_trace - 1.0).abs() < bound, "{dtype:?}: trace {trace}");
        let found = eigenvalues(hessian);
        let expected = &golden.hessian_eigenvalues_ascending;
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < bound * expected[51], "{dtype:?}: {a} is not {b}");
        }
    }
}

#[test]
fn limit_oracle_9_products_are_symmetric_and_linear() {
    for (text, objective, dtype, bound) in [
        (CORNERS, PLAIN, DType::F32, 1e-5),
        (CORNERS, BATCH, DType::F32, 1e-5),
        (CORNERS, PLAIN, DType::F64, 1e-12),
        (CORNERS, BATCH, DType::F64, 1e-12),
        (SMOOTH, BATCH, DType::F32, 1e-5),
    ] {
        let graph = Graph::parse(text).unwrap();
        let mut net = Net::with_dtype(&graph, &Device::Cpu, dtype).unwrap();
        let (params, data) = (every_param(&net), batches(&graph, &[7, 4], 3));
        let (u, v) = (direction(&net, &params, "u"), direction(&net, &params, "v"));
        let mut product = |v: &[Tensor]| hessian_vector(&mut net, &params, &data, v, &objective).unwrap();
        let (hu, hv) = (product(&u), product(&v));
        let (left, right) = (dot(&flat(&u), &flat(&hv)), dot(&flat(&v), &flat(&hu)));
        let scale = norm(&flat(&u)) * norm(&flat(&hv));
        assert!((left - right).abs() < bound * scale, "{dtype:?}, {objective:?}: {left} is not {right}");
        let mixed = flat(&product(&mix(0.3, &u, -1.7, &v)));
        let error = distance(&mixed, &flat(&mix(0.3, &hu, -1.7, &hv)));
        assert!(error < bound, "{dtype:?}, {objective:?}: {error}");
    }
}

#[test]
fn limit_oracle_9_rows_and_columns_of_dead_units_are_zero() {
    let golden = Golden::read();
    let (mut net, params, data) = (golden.net(DType::F32), Golden::params(), golden.batches());
    // Unit 1 of the second layer never fires.
    let mut rows = golden.weights[1].clone();
    rows[1].iter_mut().for_each(|w| *w = -w.abs());
    net.set_var("w2", &crate::testing::matrix(&rows)).unwrap();
    let v = direction(&net, &params, "v");
    let found = hessian_vector(&mut net, &params, &data, &v, &PLAIN).unwrap();
    let into = found[1].to_vec2::<f32>().unwrap();
    let out_of = found[2].to_vec2::<f32>().unwrap();
    assert_eq!(into[1], [0.0; 5]);
    assert!(out_of.iter().all(|row| row[1] == 0.0));
    assert!(into[0].iter().any(|h| *h != 0.0) && out_of[0][0] != 0.0);
    // And a direction that moves nothing but the dead unit changes no gradient.
    let mut dead = vec![vec![0.0; 5]; 4];
    dead[1] = vec![1.0; 5];
    let v: Vec<Tensor> = v.iter().map(|t| t.zeros_like().unwrap()).collect();
    let v = [v[0].clone(), crate::testing::matrix(&dead), v[2].clone()];
    let found = hessian_vector(&mut net, &params, &data, &v, &PLAIN).unwrap();
    assert!(flat(&found).iter().all(|h| *h == 0.0));
}

#[test]
fn a_high_temperature_scales_grasp_scores_by_its_inverse_square() {
    let golden = Golden::read();
    let (mut net, params, data) = (golden.net(DType::F64), Golden::params(), golden.batches());
    let weights = flat_golden(&golden.weights);
    let mut scores = |temperature: f64| -> Vec<f64> {
        let objective = Objective { temperature, ..PLAIN };
        let g = gradient(&mut net, &params, &data, &objective).unwrap().grads;
        let hg = flat(&hessian_vector(&mut net, &params, &data, &g, &objective).unwrap());
        weights.iter().zip(hg).map(|(w, h)| -w * h).collect()
    };
    for (temperature, expected) in [(200.0, 2.450), (2000.0, 2.482), (20000.0, 2.485)] {
        let total: f64 = scores(temperature).iter().map(|s| s.abs()).sum::<f64>() * temperature * temperature;
        assert!((total - expected).abs() < 6e-4, "T = {temperature}: {total}");
    }
    let expected = flat_golden(&golden.grasp_scores_t200);
    let found = scores(200.0);
    // The file keeps twelve decimals of numbers around 1e-5.
    let error = distance(&found, &expected);
    assert!(error < 1e-6, "{error}");
}

#[test]
fn central_differences_of_a_smooth_convolutional_net_agree_in_both_batch_norm_modes() {
    let graph = Graph::parse(SMOOTH).unwrap();
    let objectives = [PLAIN, BATCH, Objective { temperature: 2.5, label_smoothing: 0.1, ..BATCH }];
    for objective in objectives {
        let mut net = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
        let (params, data) = (every_param(&net), batches(&graph, &[5, 3], 3));
        let v = direction(&net, &params, "v");
        let exact = flat(&hessian_vector(&mut net, &params, &data, &v, &objective).unwrap());
        let error = distance(&differenced(&mut net, &params, &data, &v, &objective), &exact);
        assert!(error < 1e-6, "{objective:?}: {error}");

        let mut single = Net::new(&graph, &Device::Cpu).unwrap();
        let rounded = flat(&hessian_vector(&mut single, &params, &data, &v, &objective).unwrap());
        assert!(distance(&rounded, &exact) < 1e-4, "{objective:?}: f32 {}", distance(&rounded, &exact));
    }
}

/// Every op between a convolution and a fully connected layer, so that both its first and its second derivative count.
#[test]
fn every_op_agrees_with_central_differences() {
    let ops: &[(&str, &str)] = &[
        ("Add", "y = Add(c, d)\nq = Add(y, k[3,1,1])"),
        ("Add of one that moves and a broadcast one", "p = GlobalAveragePool(c)\ny = Add(x2, p)"),
        ("AveragePool", "y = AveragePool(d) kernel=3 stride=2,3 pad=1,2,0,1"),
        ("AveragePool", "y = AveragePool(d) kernel=2 stride=1 pad=1 count_include_pad=true"),
        ("BatchNorm", "y = BatchNorm(c, g[3], s[3], m[3], v[3])"),
        ("BatchNorm with ReLU", "n = BatchNorm(c, g[3], s[3], m[3], v[3])\ny = Relu(n)"),
        ("BatchNorm with clip", "n = BatchNorm(c, g[3], s[3], m[3], v[3])\ny = Clip(n) min=-0.2 max=0.4"),
        ("Clip", "y = Clip(c) min=-0.3 max=0.4"),
        ("Concat", "y = Concat(c, x2, d) axis=1"),
        ("Conv", "y = Conv(d, w1[4,3,3,2], b1[4]) stride=2,1 pad=1,0,2,1 dilation=1,2"),
        ("Conv", "y = Conv(d, w1[6,1,3,3], b1[6]) pad=1 groups=3"),
        ("Dropout", "y = Dropout(d) rate=0.5"),
        ("Flatten", "y = Flatten(d) axis=2\nq = Reshape(y) shape=2,-1"),
        ("Gemm", "h = Flatten(d) axis=1\ng = Gemm(h, wg[4,60], bg[4])\ny = Sigmoid(g)"),
        ("GlobalAveragePool", "y = GlobalAveragePool(d)"),
        ("HardSigmoid", "y = HardSigmoid(c) alpha=0.7 beta=0.4"),
        ("HardSwish", "u = Mul(c, k[1]=4)\ny = HardSwish(u)"),
        ("Identity", "y = Identity(d)"),
        ("LeakyRelu", "y = LeakyRelu(c) alpha=0.1"),
        ("MatMul", "y = MatMul(d, t)"),
        ("MaxPool", "y = MaxPool(d) kernel=3,2 stride=2,1 pad=1,0,1,1"),
        ("Mul", "p = GlobalAveragePool(c)\ny = Mul(d, p)"),
        ("Pad", "y = Pad(d) amounts=0:0,1:0,2:1,0:3 value=1.5"),
        ("Relu", "y = Relu(c)"),
        ("Reshape", "y = Reshape(d) shape=0,-1,2"),
        ("Sigmoid", "y = Sigmoid(c)"),
        ("Silu", "y = Silu(c)"),
        ("Slice", "y = Slice(d) starts=0,1,0,2 ends=2,3,5,4 steps=1,2,2,1"),
        ("Softmax", "y = Softmax(c) axis=1"),
        ("Transpose", "y = Transpose(d) order=0,2,3,1"),
    ];
    for name in sentei_graph::Op::NAMES {
        assert!(ops.iter().any(|(n, _)| n.split(' ').next() == Some(*name)), "{name} is not covered");
    }
    for (name, body) in ops {
        let before = "x = input f32[2,2,5,4]
            c = Conv(x, w0[3,2,3,3], b0[3]) pad=1
            d = Silu(c)
            x2 = Conv(x, fixed[3,2,1,1])
            t = Transpose(d) order=0,1,3,2";
        let shapes = Graph::parse(&format!("{before}\n{body}")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let last = shapes.outputs()[0];
        let fact = &shapes.facts().unwrap()[&last];
        let features: usize = fact.shape.iter().skip(1).product();
        let last = shapes.name(last);
        let text = format!("{before}\n{body}\nf = Flatten({last}) axis=1\nz = Gemm(f, wz[3,{features}])");
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for objective in [PLAIN, BATCH] {
            let mut net = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
            let params: Vec<String> = every_param(&net).into_iter().filter(|p| p != "fixed").collect();
            let data = batches(&graph, &[2], 3);
            let v = direction(&net, &params, "v");
            let exact = flat(&hessian_vector(&mut net, &params, &data, &v, &objective).unwrap());
            let error = distance(&differenced(&mut net, &params, &data, &v, &objective), &exact);
            assert!(error < 1e-6, "{name}, {objective:?}: {error}");
            let mut single = Net::new(&graph, &Device::Cpu).unwrap();
            let rounded = flat(&hessian_vector(&mut single, &params, &data, &v, &objective).unwrap());
            let error = distance(&rounded, &exact);
            assert!(error < 1e-4, "{name}, {objective:?}: f32 is off by {error}");
        }
    }
}

/// What the card measured, and why none of this is done by finite differences.
#[test]
fn central_differences_in_f32_lose_a_relu_net_that_the_product_keeps() {
    let graph = Graph::parse(CORNERS).unwrap();
    let params: Vec<String> = ["w1", "w2", "w3"].map(String::from).to_vec();
    let data = batches(&graph, &[40], 3);
    let mut double = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
    let v = direction(&double, &params, "v");
    let exact = flat(&hessian_vector(&mut double, &params, &data, &v, &BATCH).unwrap());
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let found = flat(&hessian_vector(&mut net, &params, &data, &v, &BATCH).unwrap());
    assert!(distance(&found, &exact) < 1e-5, "{}", distance(&found, &exact));

    let start: Vec<Tensor> = params.iter().map(|p| net.var(p).unwrap().var.as_tensor().copy().unwrap()).collect();
    for share in [1e-1, 1e-2, 1e-3, 1e-4] {
        let step = share * norm(&flat(&start)) / norm(&flat(&v));
        let mut at = |h: f64| {
            for (name, value) in params.iter().zip(mix(1.0, &start, h, &v)) {
                net.set_var(name, &value).unwrap();
            }
            flat(&gradient(&mut net, &params, &data, &BATCH).unwrap().grads)
        };
        let (ahead, behind) = (at(step), at(-step));
        let differenced: Vec<f64> = ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * step)).collect();
        let error = distance(&differenced, &exact);
        println!("steps of {share} of the weights: relative error {error:.2}");
        assert!(error > 0.05, "a step of {share}: {error}");
    }
}

#[test]
fn a_probe_sees_what_training_or_evaluation_sees_and_moves_nothing() {
    let graph = Graph::parse(CORNERS).unwrap();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let before = bits(&net.to_graph().unwrap());
    let x = batches(&graph, &[6], 3).remove(0).0;
    let mut see = |mode| flat(&[net.forward(&x, mode).unwrap()]);
    let probes = [true, false].map(|batch_statistics| see(crate::Mode::Probe { batch_statistics }));
    assert_eq!(probes[1], see(crate::Mode::Eval));
    assert_ne!(probes[0], probes[1]);
    assert_eq!(bits(&net.to_graph().unwrap()), before);
    assert_eq!(probes[0], flat(&[net.forward(&x, crate::Mode::Train { seed: 1 }).unwrap()]));
    assert_ne!(bits(&net.to_graph().unwrap()), before, "training moves the running statistics");
    let logits = net.forward(&x, crate::Mode::Probe { batch_statistics: false }).unwrap();
    let grads = logits.sum_all().unwrap().backward().unwrap();
    assert!(net.vars().iter().all(|p| grads.get(p.var.as_tensor()).is_some()));
}

#[test]
fn a_part_of_the_parameters_is_a_block_of_the_hessian() {
    let graph = Graph::parse(SMOOTH).unwrap();
    let mut net = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
    let (all, data) = (every_param(&net), batches(&graph, &[4], 3));
    let some = vec!["w3".to_string(), "w1".to_string()];
    let v: HashMap<&String, Tensor> = some.iter().zip(direction(&net, &some, "v")).collect();
    let padded: Vec<Tensor> = all
        .iter()
        .map(|p| v.get(p).cloned().unwrap_or_else(|| net.var(p).unwrap().var.as_tensor().zeros_like().unwrap()))
        .collect();
    let whole = hessian_vector(&mut net, &all, &data, &padded, &BATCH).unwrap();
    let v: Vec<Tensor> = some.iter().map(|p| v[p].clone()).collect();
    let block = hessian_vector(&mut net, &some, &data, &v, &BATCH).unwrap();
    for (name, part) in some.iter().zip(block) {
        let at = all.iter().position(|p| p == name).unwrap();
        assert!(distance(&flat(&[part]), &flat(std::slice::from_ref(&whole[at]))) < 1e-12, "{name}");
    }
}

#[test]
fn samples_weigh_the_same_however_they_are_dealt_to_batches() {
    let graph = Graph::parse(CORNERS).unwrap();
    let mut net = Net::with_dtype(&graph, &Device::Cpu, DType::F64).unwrap();
    let (params, whole) = (every_param(&net), batches(&graph, &[9], 3));
    let (images, labels) = &whole[0];
    let dealt: Batches = [(0, 5), (5, 1), (6, 3)]
        .map(|(at, count)| (images.narrow(0, at, count).unwrap(), labels[at..at + count].to_vec()))
        .to_vec();
    let v = direction(&net, &params, "v");
    let mut both = |data: &Batches| {
        let first = gradient(&mut net, &params, data, &PLAIN).unwrap();
        (first.loss, flat(&first.grads), flat(&hessian_vector(&mut net, &params, data, &v, &PLAIN).unwrap()))
    };
    let (one, several) = (both(&whole), both(&dealt));
    assert!((one.0 - several.0).abs() < 1e-12);
    assert!(distance(&one.1, &several.1) < 1e-12 && distance(&one.2, &several.2) < 1e-12);
}

#[test]
fn the_network_is_left_as_it_was_bit_for_bit() {
    let graph = Graph::parse(&CORNERS.replace("r = Relu(n)", "o = Relu(n)\nr = Dropout(o) rate=0.5")).unwrap();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let (params, data) = (every_param(&net), batches(&graph, &[4, 4], 3));
    let before = bits(&net.to_graph().unwrap());
    let v = direction(&net, &params, "v");
    for objective in [PLAIN, BATCH] {
        let first = hessian_vector(&mut net, &params, &data, &v, &objective).unwrap();
        gradient(&mut net, &params, &data, &objective).unwrap();
        assert_eq!(bits(&net.to_graph().unwrap()), before, "{objective:?}");
        let second = hessian_vector(&mut net, &params, &data, &v, &objective).unwrap();
        assert_eq!(flat(&first), flat(&second), "dropout is off and nothing else is drawn");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let golden = Golden::read();
    let (mut net, params, data) = (golden.net(DType::F32), Golden::params(), golden.batches());
    let v = direction(&net, &params, "v");
    let mut message = |params: &[String], data: &Batches, v: &[Tensor], objective: &Objective| {
        hessian_vector(&mut net, params, data, v, objective).unwrap_err().to_string()
    };
    assert_eq!(message(&["w9".into()], &data, &v[..1], &PLAIN), "the network has no parameter named `w9`");
    assert_eq!(
        message(&params, &data, &v[..2], &PLAIN),
        "a direction of 2 tensors for 3 parameters, expected one each"
    );
    let turned = [v[1].clone(), v[0].clone(), v[2].clone()];
    assert_eq!(message(&params, &data, &turned, &PLAIN), "`w1` has shape [4, 5], expected [5, 4]");
    assert_eq!(message(&params, &vec![], &v, &PLAIN), "no samples to take a loss over");
    let cold = Objective { temperature: 0.0, ..PLAIN };
    assert_eq!(message(&params, &data, &v, &cold), "temperature 0 is not a positive number");
    let wrong = vec![(data[0].0.clone(), vec![3; 6])];
    assert!(message(&params, &wrong, &v, &PLAIN).contains("label 3 names none of 3 classes"));
    let error = Net::with_dtype(&golden.graph(), &Device::Cpu, DType::BF16).unwrap_err().to_string();
    assert_eq!(error, "a network cannot run in bf16, expected f32 or f64");
}
