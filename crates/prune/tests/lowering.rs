//! Every op of the graph, lowered, against the graph's own slow evaluation: values and gradients, on odd shapes.

use candle_core::{Device, Tensor, Var};
use sentei_graph::Graph;
use sentei_prune::{Mode, Net};

/// Odd shapes on purpose: lengths 1, 3, 5, 7, 9, 11; groups, steps, dilation and padding that differ per side.
const CASES: &[(&str, &str)] = &[
    ("conv 3x3", "x = input f32[3,3,7,9]\ny = Conv(x, w[5,3,3,3], b[5]) pad=1"),
    ("conv without bias, asymmetric", "x = input f32[3,3,7,9]\ny = Conv(x, w[4,3,3,2]) stride=2,1 pad=1,0,2,1"),
    ("conv dilated", "x = input f32[2,3,11,9]\ny = Conv(x, w[5,3,3,3], b[5]) pad=2,3,1,0 dilation=2,3"),
    ("conv 5x5 step 2", "x = input f32[5,1,11,13]\ny = Conv(x, w[7,1,5,5], b[7]) stride=2 pad=2"),
    ("conv step 3 past the end", "x = input f32[2,3,11,10]\ny = Conv(x, w[4,3,2,2], b[4]) stride=3"),
    ("conv 1x1", "x = input f32[9,5,5,7]\ny = Conv(x, w[3,5,1,1], b[3])"),
    ("conv 1x1 step 2", "x = input f32[3,5,5,7]\ny = Conv(x, w[3,5,1,1], b[3]) stride=2"),
    ("conv in groups", "x = input f32[3,6,5,7]\ny = Conv(x, w[9,2,3,3], b[9]) pad=1 groups=3"),
    ("conv 1x1 in groups", "x = input f32[3,6,5,7]\ny = Conv(x, w[4,3,1,1], b[4]) groups=2"),
    ("conv of a large batch", "x = input f32[37,3,5,3]\ny = Conv(x, w[4,3,3,3], b[4]) pad=1"),
    ("conv in several panels", "x = input f32[2,170,9,11]\ny = Conv(x, w[3,170,5,5]) pad=2"),
    ("conv 1x1 in several panels", "x = input f32[2,4200,9,11]\ny = Conv(x, w[3,4200,1,1])"),
    ("conv in several panels, step 2", "x = input f32[2,170,19,17]\ny = Conv(x, w[3,170,5,5]) pad=2 stride=2"),
    ("conv whole image", "x = input f32[33,3,4,5]\ny = Conv(x, w[35,3,4,5], b[35])"),
    ("conv wider than the image", "x = input f32[2,2,3,3]\ny = Conv(x, w[3,2,5,5], b[3]) pad=4,3,2,4"),
    ("depthwise 3x3", "x = input f32[3,7,5,9]\ny = Conv(x, w[7,1,3,3], b[7]) pad=1 groups=7"),
    ("depthwise step 2", "x = input f32[3,7,9,11]\ny = Conv(x, w[7,1,3,3]) stride=2 pad=1,0,1,2 groups=7"),
    (
        "depthwise doubled, dilated",
        "x = input f32[3,3,11,9]\ny = Conv(x, w[6,1,3,2], b[6]) stride=1,3 pad=2,0,1,1 dilation=2,3 groups=3",
    ),
    ("depthwise padded past the kernel", "x = input f32[2,3,4,3]\ny = Conv(x, w[3,1,2,2], b[3]) pad=3,2,2,3 groups=3"),
    ("gemm", "x = input f32[37,11]\ny = Gemm(x, w[5,11], b[5])"),
    ("gemm without bias", "x = input f32[1,11]\ny = Gemm(x, w[5,11])"),
    ("matmul", "x = input f32[5,7]\ny = MatMul(x, w[7,3])"),
    ("matmul of three axes", "x = input f32[2,5,7]\ny = MatMul(x, w[7,3])"),
    ("relu", "x = input f32[3,5,7,3]\ny = Relu(x)"),
    ("leaky relu", "x = input f32[3,5,7,3]\ny = LeakyRelu(x) alpha=0.1"),
    ("clip", "x = input f32[3,5,7,3]\ny = Clip(x) min=-0.5 max=0.7"),
    ("hard sigmoid", "x = input f32[3,5,7,3]\ny = HardSigmoid(x) alpha=0.7 beta=0.4"),
    ("hard swish", "x = input f32[3,5,7,3]\nt = Mul(x, s[1]=4)\ny = HardSwish(t)"),
    ("sigmoid", "x = input f32[3,5,7,3]\nt = Mul(x, s[1]=9)\ny = Sigmoid(t)"),
    ("silu", "x = input f32[3,5,7,3]\nt = Mul(x, s[1]=9)\ny = Silu(t)"),
    ("max pool 2x2", "x = input f32[3,5,7,9]\ny = MaxPool(x) kernel=2 stride=2"),
    ("max pool overlapping, padded", "x = input f32[3,5,7,9]\ny = MaxPool(x) kernel=3,2 stride=2,1 pad=1,0,2,1"),
    ("average pool", "x = input f32[3,5,7,9]\ny = AveragePool(x) kernel=3 stride=2,3 pad=1,2,0,1"),
    (
        "average pool over padding",
        "x = input f32[3,5,7,9]\ny = AveragePool(x) kernel=3 stride=2,3 pad=1,2,0,1 count_include_pad=true",
    ),
    ("global average pool", "x = input f32[3,5,7,9]\ny = GlobalAveragePool(x)"),
    ("add, broadcast", "x = input f32[3,5,7,9]\na = Add(x, c[5,1,1])\ny = Add(a, a)"),
    ("mul, broadcast", "x = input f32[3,5,7,9]\ng = GlobalAveragePool(x)\na = Mul(x, g)\ny = Mul(a, c[5,1,9])"),
    ("concat", "x = input f32[3,2,5,3]\na = Relu(x)\ny = Concat(x, a, x) axis=1"),
    ("flatten", "x = input f32[3,2,5,3]\ny = Flatten(x) axis=2"),
    ("reshape", "x = input f32[3,2,5,3]\ny = Reshape(x) shape=0,-1,2"),
    ("pad", "x = input f32[3,2,5,3]\ny = Pad(x) amounts=0:0,1:0,2:1,0:3 value=1.5"),
    ("slice", "x = input f32[3,4,7,9]\ny = Slice(x) starts=0,1,0,2 ends=3,4,end,8 steps=1,2,1,3"),
    ("transpose", "x = input f32[3,2,5,4]\ny = Transpose(x) order=0,2,3,1"),
    ("identity and dropout", "x = input f32[3,7]\na = Identity(x)\nd = Dropout(a) rate=0\ny = Mul(d, d)"),
    ("softmax inside", "x = input f32[3,7,5]\ns = Softmax(x) axis=1\ny = Mul(s, x)"),
    (
        "residual block",
        "x = input f32[3,3,7,5]\na = Conv(x, w[3,3,3,3]) pad=1\nb = Sigmoid(a)\nc = Add(b, x)\ny = Conv(c, w2[3,1,3,3]) pad=1 groups=3",
    ),
];

fn input(graph: &Graph) -> Tensor {
    let shape = graph.inputs()[0].1.shape.clone();
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i as f32 * 0.731 + 0.37).sin() * 43.7).fract() * 1.3;
    Tensor::from_vec((0..count).map(value).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn to_graph_tensor(x: &Tensor) -> sentei_graph::Tensor {
    sentei_graph::Tensor::new(x.dims(), values(x))
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn evaluation_gives_what_the_graph_gives() {
    for (name, text) in CASES {
        let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let x = input(&graph);
        let expected = graph.eval(&[to_graph_tensor(&x)]).unwrap().remove(0);
        for mode in [Mode::Eval, Mode::Train { seed: 1 }] {
            let found =
                Net::new(&graph, &Device::Cpu).unwrap().forward(&x, mode).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(found.dims(), expected.shape, "{name}");
            let largest = expected.data.iter().fold(1.0f32, |a, v| a.max(v.abs()));
            // Sums of at most a hundred products, in another order.
            let bound = 100.0 * f32::EPSILON * largest;
            for (i, (a, b)) in values(&found).iter().zip(&expected.data).enumerate() {
                assert!((a - b).abs() <= bound, "{name}, element {i}: {a} is not {b}");
            }
        }
    }
}

/// `sum(forward(x) * weights)` of the reference evaluation, in f64.
fn reference_loss(graph: &Graph, x: &Tensor) -> f64 {
    let y = graph.eval(&[to_graph_tensor(x)]).unwrap().remove(0);
    y.data.iter().enumerate().map(|(i, v)| f64::from(*v) * weight_of(i)).sum()
}

fn weight_of(i: usize) -> f64 {
    ((i as f64 * 1.37 + 0.2).sin() * 91.7).fract()
}

#[test]
fn gradients_match_finite_differences_of_the_reference() {
    for (name, text) in CASES {
        let graph = Graph::parse(text).unwrap();
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let x = Var::from_tensor(&input(&graph)).unwrap();
        let y = net.forward(x.as_tensor(), Mode::Train { seed: 1 }).unwrap();
        let weights: Vec<f32> = (0..y.elem_count()).map(|i| weight_of(i) as f32).collect();
        let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
        let grads = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();

        // One at a time: the input, then each parameter, along a fixed direction.
        let names: Vec<Option<String>> =
            std::iter::once(None).chain(net.vars().iter().map(|p| Some(p.name.clone()))).collect();
        for target in names {
            let var = target.as_ref().map_or(&x, |n| &net.var(n).unwrap().var);
            let what = target.as_deref().unwrap_or("x");
            let gradient =
                values(grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient of {what}")));
            let direction: Vec<f32> = (0..gradient.len()).map(|i| weight_of(i + 5) as f32).collect();
            let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
            let scale: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from((g * d).abs())).sum();
            let step = 2e-3;
            let moved = |sign: f32| {
                let d = Tensor::from_slice(&direction, var.shape(), &Device::Cpu).unwrap();
                let value = (var.as_tensor().detach() + d.affine(f64::from(sign * step), 0.0).unwrap()).unwrap();
                match &target {
                    None => reference_loss(&graph, &value),
                    Some(n) => {
                        let mut other = graph.clone();
                        other.set_initializer(other.value(n).unwrap(), to_graph_tensor(&value));
                        reference_loss(&other, x.as_tensor())
                    }
                }
            };
            let found = (moved(1.0) - moved(-1.0)) / f64::from(2.0 * step);
            // A corner crossed within the step moves the difference quotient by its share of all elements.
            assert!(
                (found - expected).abs() <= 1e-2 * scale + 1e-3,
                "{name}, {what}: {expected} is not {found} (of {scale})"
            );
        }
    }
}

#[test]
fn a_final_softmax_is_left_to_the_loss() {
    let graph = Graph::parse("x = input f32[2,3]\na = Gemm(x, w[4,3])\ny = Softmax(a) axis=1").unwrap();
    let x = input(&graph);
    let logits = Net::new(&graph, &Device::Cpu).unwrap().forward(&x, Mode::Eval).unwrap();
    let all = graph.eval_all(&[to_graph_tensor(&x)]).unwrap();
    let expected = &all[&graph.value("a").unwrap()];
    values(&logits).iter().zip(&expected.data).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
}

#[test]
fn values_go_to_the_graph_and_back_and_the_batch_is_free() {
    let text =
        "x = input f32[1,3,5,5]\na = Conv(x, w[4,3,3,3]) pad=1\nb = BatchNorm(a, g[4], s[4], m[4], v[4])\ny = Relu(b)";
    let graph = Graph::parse(text).unwrap();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    assert_eq!(net.to_graph().unwrap(), graph);
    let names: Vec<&str> = net.vars().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["w", "g", "s"]);
    assert_eq!(net.buffers().map(|(n, _)| n).collect::<Vec<_>>(), ["m", "v"]);

    let x = input(&graph.clone().with_batch(7));
    net.forward(&x, Mode::Train { seed: 0 }).unwrap();
    let trained = net.to_graph().unwrap();
    assert_ne!(trained, graph, "running statistics move in training");
    let before = net.forward(&x, Mode::Eval).unwrap();
    assert_eq!(net.to_graph().unwrap(), trained, "and stay in evaluation");

    let mut other = Net::new(&graph, &Device::Cpu).unwrap();
    other.load_graph_values(&trained).unwrap();
    assert_eq!(values(&other.forward(&x, Mode::Eval).unwrap()), values(&before));
    let expected = trained.with_batch(7).eval(&[to_graph_tensor(&x)]).unwrap().remove(0);
    values(&before).iter().zip(&expected.data).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} is not {b}"));
}

#[test]
fn dropout_drops_its_share_scales_the_rest_and_follows_the_seed() {
    let graph = Graph::parse("x = input f32[40,50]\ny = Dropout(x) rate=0.25").unwrap();
    let mut net = Net::new(&graph, &Device::Cpu).unwrap();
    let x = Tensor::ones((40, 50), candle_core::DType::F32, &Device::Cpu).unwrap();
    let draw = |net: &mut Net, seed| values(&net.forward(&x, Mode::Train { seed }).unwrap());
    let first = draw(&mut net, 3);
    let dropped = first.iter().filter(|v| **v == 0.0).count();
    assert!((400..600).contains(&dropped), "{dropped} of 2000 dropped at a rate of 0.25");
    assert!(first.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6));
    assert_eq!(first, draw(&mut net, 3));
    assert_ne!(first, draw(&mut net, 4));
    net.set_dropout("y", 0.0).unwrap();
    assert_eq!(net.dropouts(), [("y", 0.0)]);
    assert!(draw(&mut net, 3).iter().all(|v| *v == 1.0));
    assert!(net.set_dropout("y", 1.0).unwrap_err().to_string().contains("outside [0, 1)"));
    assert!(net.set_dropout("x", 0.5).unwrap_err().to_string().contains("no dropout named `x`"));
}

#[test]
fn a_wrong_input_is_named_with_both_shapes() {
    let graph = Graph::parse("picture = input f32[1,3,5,5]\ny = Relu(picture)").unwrap();
    let x = Tensor::zeros((2, 1, 5, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = Net::new(&graph, &Device::Cpu).unwrap().forward(&x, Mode::Eval).unwrap_err().to_string();
    assert_eq!(error, "`picture` has shape [2, 1, 5, 5], expected [1, 3, 5, 5]");
}
