use prost::Message;
use sentei_graph::{Graph, Op, Tensor};

use crate::export::ExportOptions;
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto, dtype,
};
use crate::{ConvertError, ImportOptions, Tolerance, compare, export, import};

/// Every op, with attributes off their defaults.
const ALL_OPS: &[&str] = &[
    "x = input f32[1,3,7,9]\ny = Add(x, c[3,1,1])",
    "x = input f32[1,3,7,9]\ny = AveragePool(x) kernel=3,2 stride=2,1 pad=1,0,1,1",
    "x = input f32[1,3,7,9]\ny = BatchNorm(x, g[3], s[3], m[3], v[3]) eps=1e-3",
    "x = input f32[1,3,7,9]\ny = Clip(x) min=0 max=6",
    "x = input f32[1,3,7,9]\na = Relu(x)\ny = Concat(x, a) axis=1",
    "x = input f32[1,4,7,9]\ny = Conv(x, w[6,2,3,2], b[6]) stride=2,1 pad=1,0,2,1 dilation=1,2 groups=2",
    "x = input f32[1,3,7,9]\ny = Dropout(x) rate=0.25",
    "x = input f32[1,3,7,9]\ny = Flatten(x)",
    "x = input f32[1,5]\ny = Gemm(x, w[4,5], b[4])",
    "x = input f32[1,3,7,9]\ny = GlobalAveragePool(x)",
    "x = input f32[1,3,7,9]\ny = HardSigmoid(x) alpha=0.3 beta=0.4",
    "x = input f32[1,3,7,9]\ny = HardSwish(x)",
    "x = input f32[1,3,7,9]\ny = Identity(x)",
    "x = input f32[1,3,7,9]\ny = LeakyRelu(x) alpha=0.2",
    "x = input f32[1,3,7,9]\ny = MatMul(x, w[9,4])",
    "x = input f32[1,3,7,9]\ny = MaxPool(x) kernel=3,2 stride=2,1 pad=1,0,1,1",
    "x = input f32[1,3,7,9]\ny = Mul(x, c[3,1,1])",
    "x = input f32[1,3,7,9]\ny = Pad(x) amounts=0:0,1:2,0:1,3:0 value=1.5",
    "x = input f32[1,3,7,9]\ny = Relu(x)",
    "x = input f32[1,3,7,9]\ny = Reshape(x) shape=0,-1,9",
    "x = input f32[1,3,7,9]\ny = Sigmoid(x)",
    "x = input f32[1,3,7,9]\ny = Silu(x)",
    "x = input f32[1,3,7,9]\ny = Slice(x) starts=0,1,0,2 ends=1,3,7,8 steps=1,1,2,3",
    "x = input f32[1,3,7,9]\ny = Softmax(x) axis=1",
    "x = input f32[1,3,7,9]\ny = Transpose(x) order=0,2,3,1",
];

#[test]
fn every_op_survives_export_and_import() {
    let mut seen = std::collections::BTreeSet::new();
    for text in ALL_OPS {
        let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let bytes = export(&graph, ExportOptions::default()).unwrap();
        let back = import(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let found = compare(&graph, &back, Tolerance::Exact, 3, 1).unwrap();
        assert!(found.passed, "{text}: {} {:?}", found.first_failure(), back);
        seen.extend(graph.nodes().map(|(_, n)| n.op.name()));
        let names = |g: &Graph| g.nodes().map(|(_, n)| g.name(n.output).to_string()).collect::<Vec<_>>();
        assert_eq!(names(&graph), names(&back), "{text}");
    }
    assert_eq!(seen.len(), 25, "{seen:?}");
}

#[test]
fn metadata_and_a_dynamic_batch_survive() {
    let mut graph = Graph::parse("x = input f32[4,3]\ny = Relu(x)").unwrap();
    graph.metadata.insert("classes".into(), "ok,scratch".into());
    let fixed = import(&export(&graph, ExportOptions::default()).unwrap(), &ImportOptions::default()).unwrap();
    assert_eq!(fixed, graph);
    let free = export(&graph, ExportOptions { dynamic_batch: true }).unwrap();
    let free = import(&free, &ImportOptions::default()).unwrap();
    assert_eq!((free.inputs()[0].1.shape.clone(), free.metadata), (vec![1, 3], graph.metadata));
}

struct Model {
    opset: i64,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    input: Vec<Option<usize>>,
}

impl Model {
    fn bytes(self) -> Vec<u8> {
        let output = vec![ValueInfoProto { name: Some("y".into()), kind: None }];
        let input = vec![ValueInfoProto::floats("x", self.input)];
        let graph = GraphProto { node: self.nodes, initializer: self.constants, input, output, ..Default::default() };
        let opset = OperatorSetIdProto { domain: None, version: Some(self.opset) };
        ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() }.encode_to_vec()
    }

    fn import(self) -> Result<Graph, ConvertError> {
        import(&self.bytes(), &ImportOptions::default())
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto::standard(op, inputs, output, attributes)
}

/// One node on an input `[N, 2, 4, 4]`.
fn single(opset: i64, node: NodeProto, constants: Vec<TensorProto>) -> Result<Graph, ConvertError> {
    Model { opset, nodes: vec![node], constants, input: vec![None, Some(2), Some(4), Some(4)] }.import()
}

fn only_op(graph: &Graph) -> &Op {
    let (_, node) = graph.nodes().last().unwrap();
    &node.op
}

#[test]
fn attributes_that_became_inputs_are_read_under_both_opsets() {
    let scalar = |name: &str, v: f32| TensorProto::floats(name, &[], &[v]);
    let bounds = vec![AttributeProto::float("min", 0.0), AttributeProto::float("max", 6.0)];
    let old = single(10, node("Clip", &["x"], "y", bounds), vec![]).unwrap();
    let new =
        single(11, node("Clip", &["x", "a", "b"], "y", vec![]), vec![scalar("a", 0.0), scalar("b", 6.0)]).unwrap();
    assert_eq!(only_op(&old), only_op(&new));

    let old =
        single(10, node("Pad", &["x"], "y", vec![AttributeProto::ints("pads", [0, 0, 1, 2, 0, 0, 3, 4])]), vec![]);
    let pads = TensorProto::int64s("p", &[8], &[0, 0, 1, 2, 0, 0, 3, 4]);
    let new = single(13, node("Pad", &["x", "p"], "y", vec![]), vec![pads]);
    let axes = vec![TensorProto::int64s("p", &[4], &[1, 2, 3, 4]), TensorProto::int64s("a", &[2], &[-2, -1])];
    let newest = single(18, node("Pad", &["x", "p", "", "a"], "y", vec![]), axes);
    let (old, new, newest) = (old.unwrap(), new.unwrap(), newest.unwrap());
    assert_eq!((only_op(&old), only_op(&old)), (only_op(&new), only_op(&newest)));

    let bounds = [("starts", [1]), ("ends", [3]), ("axes", [2])];
    let old = single(9, node("Slice", &["x"], "y", bounds.map(|(n, v)| AttributeProto::ints(n, v)).to_vec()), vec![]);
    let lists = [("s", [1i64]), ("e", [3]), ("a", [2])].map(|(n, v)| TensorProto::int64s(n, &[1], &v)).to_vec();
    let new = single(13, node("Slice", &["x", "s", "e", "a"], "y", vec![]), lists);
    assert_eq!(only_op(&old.unwrap()), only_op(&new.unwrap()));

    let old = single(10, node("Dropout", &["x"], "y", vec![AttributeProto::float("ratio", 0.25)]), vec![]);
    let new = single(13, node("Dropout", &["x", "r"], "y", vec![]), vec![scalar("r", 0.25)]);
    assert_eq!(only_op(&old.unwrap()), only_op(&new.unwrap()));
}

#[test]
fn softmax_changed_its_meaning_at_opset_13() {
    assert_eq!(only_op(&single(13, node("Softmax", &["x"], "y", vec![]), vec![]).unwrap()).name(), "Softmax");
    let text = single(12, node("Softmax", &["x"], "y", vec![]), vec![]).unwrap_err().to_string();
    assert!(text.contains("`y` (Softmax)") && text.contains("below 13"), "{text}");
    let last = node("Softmax", &["x"], "y", vec![AttributeProto::int("axis", 3)]);
    assert!(single(12, last, vec![]).is_ok());
}

#[test]
fn gemm_in_every_form_becomes_weight_rows_per_output() {
    let w = TensorProto::floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let c = TensorProto::floats("c", &[1, 3], &[10.0, 20.0, 30.0]);
    let scaled = vec![AttributeProto::float("alpha", 2.0), AttributeProto::float("beta", 0.5)];
    let gemm = node("Gemm", &["x", "w", "c"], "y", scaled);
    let matmul = vec![node("MatMul", &["x", "w"], "h", vec![]), node("Add", &["c", "h"], "y", vec![])];
    let run = |nodes, x: &[f32]| {
        let model = Model { opset: 13, nodes, constants: vec![w.clone(), c.clone()], input: vec![None, Some(2)] };
        let graph = model.import().unwrap();
        assert_eq!((graph.nodes().len(), only_op(&graph).name()), (1, "Gemm"));
        graph.eval(&[Tensor::new([1, 2], x.to_vec())]).unwrap().remove(0).data
    };
    assert_eq!(run(vec![gemm], &[1.0, 1.0]), [15.0, 24.0, 33.0]);
    assert_eq!(run(matmul, &[1.0, 1.0]), [15.0, 27.0, 39.0]);
}

#[test]
fn a_half_or_integer_weight_behind_cast_and_scale_is_widened() {
    let q = TensorProto::raw("q", dtype::I8, &[2, 2], vec![1, 254, 3, 4]);
    let scale = TensorProto::floats("s", &[2, 1], &[0.5, 2.0]);
    let nodes = vec![
        node("Cast", &["q"], "f", vec![AttributeProto::int("to", 1)]),
        node("Mul", &["f", "s"], "w", vec![]),
        node("Gemm", &["x", "w"], "y", vec![AttributeProto::int("transB", 1)]),
    ];
    let graph = Model { opset: 13, nodes, constants: vec![q, scale], input: vec![None, Some(2)] }.import().unwrap();
    let w = graph.initializer(graph.value("w").unwrap()).unwrap();
    assert_eq!(w.data, [0.5, -1.0, 6.0, 8.0]);
}

#[test]
fn composites_are_read_as_one_op() {
    let silu = vec![node("Sigmoid", &["x"], "s", vec![]), node("Mul", &["x", "s"], "y", vec![])];
    let alpha = vec![AttributeProto::float("alpha", 1.0 / 6.0)];
    let swish = vec![node("HardSigmoid", &["x"], "s", alpha), node("Mul", &["s", "x"], "y", vec![])];
    for (nodes, op) in [(silu, "Silu"), (swish, "HardSwish")] {
        let graph = Model { opset: 13, nodes, constants: vec![], input: vec![None, Some(2)] }.import().unwrap();
        assert_eq!((graph.nodes().len(), only_op(&graph).name()), (1, op));
    }
    let mean =
        node("ReduceMean", &["x"], "y", vec![AttributeProto::int("keepdims", 0), AttributeProto::ints("axes", [2, 3])]);
    let graph = single(13, mean, vec![]).unwrap();
    let x = Tensor::new([1, 2, 4, 4], (0..32).map(|v| v as f32).collect());
    assert_eq!(graph.eval(&[x]).unwrap(), [Tensor::new([1, 2], vec![7.5, 23.5])]);
}

#[test]
fn differences_and_quotients_with_constants_keep_their_value() {
    let c = TensorProto::floats("c", &[1], &[4.0]);
    for (op, inputs, expected) in [("Sub", ["x", "c"], 6.0), ("Sub", ["c", "x"], -6.0), ("Div", ["x", "c"], 2.5)] {
        let nodes = vec![node(op, &inputs, "y", vec![])];
        let graph =
            Model { opset: 13, nodes, constants: vec![c.clone()], input: vec![None, Some(1)] }.import().unwrap();
        assert_eq!(graph.eval(&[Tensor::new([1, 1], vec![10.0])]).unwrap()[0].data, [expected], "{op}");
    }
}

#[test]
fn a_leading_batch_length_stays_free() {
    let target = TensorProto::int64s("t", &[2], &[1, 32]);
    let graph = single(13, node("Reshape", &["x", "t"], "y", vec![]), vec![target]).unwrap();
    let y = graph.eval(&[Tensor::full([5, 2, 4, 4], 1.0)]).unwrap();
    assert_eq!(y[0].shape, [5, 32]);
}

#[test]
fn refusals_name_node_attribute_expected_and_found() {
    let w = || vec![TensorProto::floats("w", &[3, 2, 3], &[0.0; 18])];
    let text = single(13, node("Conv", &["x", "w"], "y", vec![]), w()).unwrap_err().to_string();
    assert!(text.contains("`y` (Conv): input 1: expected a weight"), "{text}");
    let reflect = AttributeProto { name: Some("mode".into()), s: Some(b"reflect".to_vec()), ..Default::default() };
    let text = single(13, node("Pad", &["x", "p"], "y", vec![reflect]), vec![]).unwrap_err().to_string();
    assert_eq!(text, "node `y` (Pad): attribute `mode`: expected constant, found reflect");
    let model = Model { opset: 13, nodes: vec![], constants: vec![], input: vec![None, Some(3), None] };
    let text = model.import().unwrap_err().to_string();
    assert!(text.contains("input `x`: expected a fixed length on axis 2"), "{text}");
    let model = Model { opset: 22, nodes: vec![], constants: vec![], input: vec![Some(1)] };
    assert!(matches!(model.import(), Err(ConvertError::Opset { found: 22, .. })));
}

#[test]
fn unsupported_operators_are_listed_together_with_their_counts() {
    let nodes = vec![
        node("Tanh", &["x"], "a", vec![]),
        node("Erf", &["a"], "b", vec![]),
        node("Relu", &["b"], "c", vec![]),
        node("Tanh", &["c"], "y", vec![]),
    ];
    let error = Model { opset: 13, nodes, constants: vec![], input: vec![Some(1), Some(2)] }.import().unwrap_err();
    assert_eq!(error.to_string(), "unsupported operators: Tanh (2 nodes, first `a`), Erf (1 nodes, first `b`)");
}
