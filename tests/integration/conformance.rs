//! Every op on odd shapes, in every engine: the slow reference evaluation against the graph written to ONNX, read back,
//! and run by tract and ONNX Runtime. The lowered (trainable) form is compared with the same reference in `prune`.

use std::collections::BTreeSet;

use sentei_convert::{ExportOptions, ImportOptions, export, import};
use sentei_graph::{Graph, Op, Tensor};
use sentei_runtime::{HostTensor, LoadOptions};

use crate::support::has_onnx_runtime;

/// Op cases: a name, and the graph as text. The last node is the op under test.
const CASES: &[(&str, &str)] = &[
    ("conv with asymmetric pads", "x = input f32[1,3,7,5]\ny = Conv(x, w[4,3,3,2], b[4]) stride=2,1 pad=1,0,2,1"),
    ("dilated conv", "x = input f32[1,2,9,11]\ny = Conv(x, w[3,2,3,3]) dilation=2,3 pad=1,2,0,3"),
    ("grouped conv", "x = input f32[1,6,5,7]\ny = Conv(x, w[9,2,3,3], b[9]) groups=3 pad=1"),
    ("depthwise conv", "x = input f32[1,5,7,7]\ny = Conv(x, w[5,1,3,3], b[5]) groups=5 stride=2 pad=1"),
    ("pointwise conv on one pixel", "x = input f32[1,7,1,1]\ny = Conv(x, w[3,7,1,1])"),
    ("conv with an even kernel", "x = input f32[1,1,6,6]\ny = Conv(x, w[2,1,4,4]) pad=2,1,1,2"),
    ("batch norm", "x = input f32[1,5,3,3]\ny = BatchNorm(x, gamma[5], beta[5], mean[5], var[5]) eps=1e-3"),
    ("relu", "x = input f32[1,3,5,1]\ny = Relu(x)"),
    ("leaky relu", "x = input f32[1,3,5]\ny = LeakyRelu(x) alpha=0.1"),
    ("relu6", "x = input f32[1,13]\ny = Clip(x) min=0 max=6"),
    ("clip", "x = input f32[1,13]\ny = Clip(x) min=-0.25 max=0.5"),
    ("hard swish", "x = input f32[1,3,3,3]\ny = HardSwish(x)"),
    ("hard sigmoid", "x = input f32[1,17]\ny = HardSigmoid(x) alpha=0.1666667 beta=0.5"),
    ("sigmoid", "x = input f32[1,7]\ny = Sigmoid(x)"),
    ("silu", "x = input f32[1,7,3,1]\ny = Silu(x)"),
    ("add of two branches", "x = input f32[1,3,5,5]\na = Relu(x)\ny = Add(x, a)"),
    ("add of a channel constant", "x = input f32[1,3,5,7]\ny = Add(x, c[3,1,1])"),
    ("mul by a gate", "x = input f32[1,3,5,7]\ng = GlobalAveragePool(x)\ny = Mul(x, g)"),
    ("max pool with asymmetric pads", "x = input f32[1,2,7,5]\ny = MaxPool(x) kernel=3,2 stride=2,1 pad=1,0,1,1"),
    ("average pool without pads counted", "x = input f32[1,2,7,7]\ny = AveragePool(x) kernel=3 stride=2 pad=1"),
    (
        "average pool with pads counted",
        "x = input f32[1,2,5,7]\ny = AveragePool(x) kernel=3 stride=2 pad=1 count_include_pad=true",
    ),
    ("global average pool", "x = input f32[1,5,7,3]\ny = GlobalAveragePool(x)"),
    ("gemm", "x = input f32[1,7]\ny = Gemm(x, w[3,7], b[3])"),
    ("gemm without bias", "x = input f32[1,31]\ny = Gemm(x, w[5,31])"),
    ("matmul", "x = input f32[1,3,5]\ny = MatMul(x, w[5,2])"),
    ("flatten", "x = input f32[1,3,5,1]\ny = Flatten(x) axis=1"),
    ("reshape", "x = input f32[1,6,5]\ny = Reshape(x) shape=0,2,-1"),
    ("concat on channels", "x = input f32[1,3,5,5]\na = Relu(x)\ny = Concat(x, a) axis=1"),
    ("softmax", "x = input f32[1,11]\ny = Softmax(x) axis=1"),
    ("softmax over channels", "x = input f32[1,3,5,5]\ny = Softmax(x) axis=1"),
    ("pad", "x = input f32[1,2,3,5]\ny = Pad(x) amounts=0:0,1:0,2:1,0:3 value=0.5"),
    ("transpose", "x = input f32[1,2,3,5]\ny = Transpose(x) order=0,2,3,1"),
    ("identity", "x = input f32[1,3]\ny = Identity(x)"),
    ("dropout", "x = input f32[1,3]\ny = Dropout(x) rate=0.5"),
    ("slice", "x = input f32[1,5,7,9]\ny = Slice(x) starts=0,1,0,1 ends=1,end,6,end steps=1,1,2,3"),
    (
        "option-A shortcut",
        "x = input f32[1,3,7,7]\ns = Slice(x) starts=0,0,0,0 ends=end,end,end,end steps=1,1,2,2\n\
         y = Pad(s) amounts=0:0,1:2,0:0,0:0 value=0",
    ),
    (
        "residual block",
        "x = input f32[1,3,9,9]\na = Conv(x, w1[5,3,3,3]) pad=1\nb = BatchNorm(a, g[5], h[5], m[5], v[5])\nc = Relu(b)\n\
         d = Conv(c, w2[3,5,3,3], b2[3]) pad=1\ne = Add(d, x)\ny = Relu(e)",
    ),
];

/// Sums of up to a few hundred products of numbers near 1, in any order.
const TOLERANCE: f32 = 256.0 * f32::EPSILON;

fn feeds(graph: &Graph) -> Vec<HostTensor> {
    graph.inputs().iter().enumerate().map(|(i, (_, fact))| HostTensor::noise(&fact.shape, 11 + i as u64)).collect()
}

fn reference(graph: &Graph, feeds: &[HostTensor]) -> Tensor {
    let tensors: Vec<Tensor> = feeds.iter().map(|f| Tensor::new(f.shape.clone(), f.data.clone())).collect();
    graph.eval(&tensors).expect("the reference evaluates").remove(0)
}

#[track_caller]
fn assert_close(case: &str, who: &str, expected: &Tensor, shape: &[usize], found: &[f32]) {
    assert_eq!(shape, expected.shape, "{case}: shape in {who}");
    let scale = expected.data.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (e, f)) in expected.data.iter().zip(found).enumerate() {
        assert!((e - f).abs() <= TOLERANCE * scale, "{case}: element {i} is {f} in {who}, {e} in the reference");
    }
}

fn run_in(engine_name: &str) {
    let engine = sentei_runtime::engine_named(engine_name).expect("the engine is in this build");
    for (case, text) in CASES {
        let graph = Graph::parse(text).expect(case);
        let bytes = export(&graph, ExportOptions::default()).expect(case);
        let feeds = feeds(&graph);
        let mut session = engine.load(&bytes, &LoadOptions::default()).expect(case);
        let found = session.run(&feeds).expect(case).remove(0);
        assert_close(case, engine_name, &reference(&graph, &feeds), &found.shape, &found.data);
    }
}

#[test]
fn what_is_exported_and_imported_computes_the_same() {
    for (case, text) in CASES {
        let graph = Graph::parse(text).expect(case);
        let back =
            import(&export(&graph, ExportOptions::default()).expect(case), &ImportOptions::default()).expect(case);
        let feeds = feeds(&graph);
        let found = reference(&back, &feeds);
        assert_close(case, "the imported graph", &reference(&graph, &feeds), &found.shape, &found.data);
    }
}

#[test]
fn tract_computes_what_the_reference_does() {
    run_in("tract");
}

#[test]
fn onnx_runtime_computes_what_the_reference_does() {
    if has_onnx_runtime("conformance against ONNX Runtime") {
        run_in("ort");
    }
}

#[test]
fn no_op_is_without_a_case() {
    let covered: BTreeSet<&str> = CASES
        .iter()
        .flat_map(|(case, text)| {
            let graph = Graph::parse(text).expect(case);
            graph.nodes().map(|(_, node)| node.op.name()).collect::<Vec<_>>()
        })
        .collect();
    let all: BTreeSet<&str> = Op::NAMES.iter().copied().collect();
    assert_eq!(all.difference(&covered).collect::<Vec<_>>(), Vec::<&&str>::new());
}
