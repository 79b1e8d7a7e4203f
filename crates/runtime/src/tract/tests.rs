use std::time::Duration;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::*;
use crate::engine::KernelChoice;

const RESIDUAL: &[u8] = include_bytes!("../../tests/fixtures/residual_packed.onnx");
const TYPED_I8: &[u8] = include_bytes!("../../tests/fixtures/typed_i8_packed.onnx");

fn load(bytes: &[u8], kernel_choice: KernelChoice) -> TractSession {
    TractSession::load(bytes, &LoadOptions { kernel_choice, ..LoadOptions::default() }).unwrap()
}

/// Bytes of every node of the plan that holds dense numbers.
fn constants(session: &TractSession) -> Vec<u64> {
    session.state.model().nodes().iter().filter_map(dense_bytes).filter(|bytes| *bytes > 0).collect()
}

#[test]
fn a_sparse_plan_has_no_dense_weight_among_its_constants() {
    let session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    // what is left is the divisor of the average pool
    assert_eq!(constants(&session), [4]);
    assert_eq!(session.facts.kernels.len(), 6);
    // the same search finds them where dense was asked for
    let dense = load(RESIDUAL, KernelChoice::AlwaysDense);
    assert!(constants(&dense).iter().any(|bytes| *bytes >= 8 * 8 * 9 * 4), "{:?}", constants(&dense));
}

#[test]
fn what_follows_a_layer_is_fused_into_it() {
    let session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let ops: Vec<_> = session.facts.kernels.iter().map(|layer| layer.op.as_str()).collect();
    assert_eq!(ops, ["Conv+Relu", "Conv+Add+Clip", "Conv+HardSwish", "Conv", "Gemm+Relu", "Gemm"]);
    let names: Vec<_> = session.facts.kernels.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["conv_c1", "conv_c2", "conv_c3", "conv_c4", "gemm_g5", "matmul_y"]);
    let left: Vec<_> = session.state.model().nodes().iter().map(|node| node.op.name()).collect();
    let left = |name: &str| left.iter().filter(|op| **op == name).count();
    assert_eq!((left("SparseConv"), left("SparseLinear"), left("Add"), left("Max"), left("Min")), (4, 2, 0, 0, 0));
}

#[test]
fn a_weight_without_sparse_kernel_is_decoded_and_says_so() {
    let session = load(TYPED_I8, KernelChoice::AlwaysSparse);
    let kernels: Vec<_> =
        session.facts.kernels.iter().map(|layer| (layer.op.as_str(), layer.kernel != "dense")).collect();
    assert_eq!(kernels, [("Conv", true), ("Mul", false), ("Gemm", true)]);
    assert_eq!(session.facts.kernels[1].reason, "dense: no sparse kernel for this Mul");
    assert!(constants(&session).contains(&(9 * 5 * 5 * 4)));
}

#[test]
fn without_time_to_measure_the_zeros_decide() {
    let options = LoadOptions { choice_budget: Duration::ZERO, ..LoadOptions::default() };
    let session = TractSession::load(RESIDUAL, &options).unwrap();
    for layer in &session.facts.kernels {
        assert!(layer.reason.contains("% zeros, not timed"), "{layer:?}");
        let density = layer.nnz as f64 / layer.shape.iter().product::<usize>() as f64;
        assert_eq!(layer.kernel != "dense", density <= choose::SPARSE_UNTIMED, "{layer:?}");
    }
}

#[test]
fn a_measured_layer_gives_the_ratio_that_decided() {
    let session = load(RESIDUAL, KernelChoice::Measure);
    for layer in &session.facts.kernels {
        let expected = if layer.kernel == "dense" { "dense: sparse was " } else { "sparse " };
        assert!(layer.reason.starts_with(expected), "{layer:?}");
    }
}

#[test]
fn facts_count_what_the_plan_holds() {
    let session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let kernels: u64 = session.facts.kernels.iter().map(|layer| layer.weight_bytes).sum();
    assert_eq!(session.facts.weight_bytes, Some(kernels + 4), "the divisor of the average pool is a constant too");
    // the first activation alone is 8 x 11 x 9 floats, and the residual keeps two of that size alive
    assert!(session.facts.arena_bytes.unwrap() > 2 * 8 * 11 * 9 * 4);
    assert_eq!((session.facts.engine.threads, session.facts.engine.provider.as_str()), (1, "cpu"));
}

#[test]
fn the_profile_names_every_node_once_with_a_time() {
    let mut session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let inputs = crate::noise_inputs(&session, 5);
    let nodes = session.profile(&inputs, 3).unwrap();
    let of = |op: &str| nodes.iter().filter(|node| node.op == op && node.time_ns > 0).count();
    assert_eq!((of("SparseConv"), of("SparseLinear")), (4, 2));
    let again = session.run(&inputs).unwrap();
    assert_eq!(again, session.run(&inputs).unwrap());
}

/// A dense net of nodes `(op, shape of its weight)`, a Relu after each, as the plan that tract makes of it.
fn dense_plan(input: &[usize], layers: &[(&str, &[usize])]) -> TypedModel {
    let value = |name: &str, shape: &[usize]| {
        let dim = |dim: &usize| Dimension { value: Some(Dim::DimValue(*dim as i64)), ..Default::default() };
        let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
        let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
        let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
        ValueInfoProto { name: name.into(), r#type, ..Default::default() }
    };
    let mut graph = GraphProto { input: vec![value("x", input)], ..Default::default() };
    let mut last = "x".to_owned();
    for (index, (op, shape)) in layers.iter().enumerate() {
        let (weight, bias, sum, y) =
            (format!("w{index}"), format!("b{index}"), format!("s{index}"), format!("y{index}"));
        for (name, dims) in [(&weight, *shape), (&bias, &shape[..1])] {
            let float_data = (0..dims.iter().product()).map(|at: usize| (at % 7) as f32 - 2.5).collect();
            let dims = dims.iter().map(|dim| *dim as i64).collect();
            let tensor = TensorProto {
                name: name.clone(),
                dims,
                data_type: DataType::Float as i32,
                float_data,
                ..Default::default()
            };
            graph.initializer.push(tensor);
        }
        let transposed = AttributeProto { name: "transB".into(), i: 1, r#type: 2, ..Default::default() };
        let attribute = if *op == "Gemm" { vec![transposed] } else { vec![] };
        let call = |op: &str, input: Vec<String>, output: &str, attribute| NodeProto {
            input,
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute,
            ..Default::default()
        };
        graph.node.push(call(op, vec![last, weight, bias], &sum, attribute));
        graph.node.push(call("Relu", vec![sum], &y, vec![]));
        last = y;
    }
    graph.output = vec![ValueInfoProto { name: last, ..Default::default() }];
    let opset = tract_onnx::pb::OperatorSetIdProto { version: 13, ..Default::default() };
    let proto = ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    onnx().model_for_proto_model(&proto).unwrap().into_typed().unwrap().into_optimized().unwrap()
}

#[test]
fn the_weights_of_dense_layers_count_wherever_tract_keeps_them() {
    type Net = (&'static [usize], &'static [(&'static str, &'static [usize])]);
    let lenet: Net = (&[1, 784], &[("Gemm", &[300, 784]), ("Gemm", &[100, 300]), ("Gemm", &[10, 100])]);
    let batched: Net = (&[5, 784], lenet.1);
    let convs: Net =
        (&[1, 3, 20, 20], &[("Conv", &[32, 3, 3, 3]), ("Conv", &[64, 32, 3, 3]), ("Conv", &[64, 64, 1, 1])]);
    for (input, layers) in [lenet, batched, convs] {
        let parameters: usize = layers.iter().map(|(_, shape)| shape.iter().product::<usize>() + shape[0]).sum();
        let (least, found) = (4 * parameters as u64, weight_bytes(&dense_plan(input, layers)));
        // panels are filled up to the width of the kernel
        assert!(found >= least && found * 10 <= least * 16, "{found} bytes for {least}, input {input:?}");
    }
}
