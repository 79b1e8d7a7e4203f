use std::time::Duration;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::*;
use crate::engine::{KernelChoice, LayerKernel};
use crate::plan::{Choice, Plan};
use crate::testing::Onnx;

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
    assert!(constants(&session).is_empty());
    assert_eq!(session.facts.kernels.len(), 6);
    // the same search finds them where dense was asked for
    let dense = load(RESIDUAL, KernelChoice::AlwaysDense);
    assert!(constants(&dense).iter().any(|bytes| *bytes >= 8 * 8 * 9 * 4), "{:?}", constants(&dense));
}

/// Operators of the plan that compute something.
fn operators(session: &TractSession) -> Vec<String> {
    let nodes = session.state.model().nodes().iter().map(|node| node.op.name().into_owned());
    nodes.filter(|op| op != "Source" && op != "Const").collect()
}

#[test]
fn what_follows_a_layer_is_fused_into_it() {
    let session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let ops: Vec<_> = session.facts.kernels.iter().map(|layer| layer.op.as_str()).collect();
    assert_eq!(ops, ["Conv+Relu", "Conv+Add+Clip", "Conv+HardSwish", "Conv", "Gemm+Relu", "Gemm"]);
    let names: Vec<_> = session.facts.kernels.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["conv_c1", "conv_c2", "conv_c3", "conv_c4", "gemm_g5", "matmul_y"]);
    assert_eq!(operators(&session), ["Region"]);
}

#[test]
fn a_weight_that_no_region_takes_is_decoded_and_says_so() {
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
        assert!(layer.reason.contains("zeros"), "{layer:?}");
        assert!(!layer.reason.contains("x"), "nothing was timed: {layer:?}");
    }
}

#[test]
fn a_measured_layer_gives_the_ratio_that_decided() {
    let session = TractSession::load(RESIDUAL, &LoadOptions { tune: true, ..LoadOptions::default() }).unwrap();
    for layer in &session.facts.kernels {
        assert!(layer.reason.starts_with("sparse ") || layer.reason.starts_with("dense: "), "{layer:?}");
    }
    assert!(session.facts.kernels.iter().any(|layer| layer.reason.contains('x')), "{:?}", session.facts.kernels);
}

#[test]
fn facts_count_what_the_plan_holds() {
    let session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let kernels: u64 = session.facts.kernels.iter().map(|layer| layer.weight_bytes).sum();
    assert_eq!(session.facts.weight_bytes, Some(kernels));
    // the first activation alone is 8 x 11 x 9 floats, and the residual keeps two of that size alive
    assert!(session.facts.arena_bytes.unwrap() > 2 * 8 * 11 * 9 * 4);
    assert_eq!((session.facts.engine.threads, session.facts.engine.provider.as_str()), (1, "cpu"));
}

#[test]
fn the_profile_names_every_layer_of_a_region_with_a_time() {
    let mut session = load(RESIDUAL, KernelChoice::AlwaysSparse);
    let inputs = crate::noise_inputs(&session, 5);
    let nodes = session.profile(&inputs, 3).unwrap();
    for layer in &session.facts.kernels {
        let same = |node: &&NodeTime| (&node.name, &node.op) == (&layer.name, &layer.op) && node.time_ns > 0;
        assert_eq!(nodes.iter().filter(same).count(), 1, "{layer:?} in {nodes:?}");
    }
    let again = session.run(&inputs).unwrap();
    assert_eq!(again, session.run(&inputs).unwrap());
}

fn built(graph: &Onnx, options: &LoadOptions) -> TractSession {
    let deadline = Deadline::start(options.time_budget);
    let options = LoadOptions { batch: graph.batch(), ..options.clone() };
    TractSession::from_proto(graph.proto(), HashMap::new(), Vec::new(), &options, &deadline).unwrap()
}

/// Largest difference, relative to the largest number that tract's own dense operators give.
fn difference(graph: &Onnx, session: &mut TractSession) -> f32 {
    let dense = LoadOptions { kernel_choice: KernelChoice::AlwaysDense, ..LoadOptions::default() };
    let (found, expected) =
        (session.run(&[graph.noise()]).unwrap(), built(graph, &dense).run(&[graph.noise()]).unwrap());
    assert_eq!(found.len(), expected.len());
    let mut worst = 0f32;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.shape, expected.shape);
        let largest = expected.data.iter().fold(0f32, |max, x| max.max(x.abs()));
        assert!(largest > 0.0);
        let differences = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs() / largest);
        worst = differences.fold(worst, f32::max);
    }
    worst
}

#[test]
fn whole_networks_are_one_region_and_agree_with_dense_tract() {
    type Network = (&'static str, fn(usize) -> Onnx, &'static [&'static str]);
    let networks: [Network; 3] = [
        ("resnet", Onnx::resnet, &["Region", "Softmax"]),
        ("mobilenet", Onnx::mobilenet, &["Region"]),
        ("mlp", Onnx::mlp, &["Region"]),
    ];
    for (name, network, expected) in networks {
        for batch in [1, 3] {
            for kernel_choice in [KernelChoice::Measure, KernelChoice::AlwaysSparse] {
                let graph = network(batch);
                let mut session = built(&graph, &LoadOptions { kernel_choice, ..LoadOptions::default() });
                assert_eq!(operators(&session), expected, "{name}");
                let worst = difference(&graph, &mut session);
                assert!(worst < 1e-4, "{name} of {batch}, {kernel_choice:?}: {worst}");
            }
        }
    }
}

#[test]
fn convolutions_in_bytes_are_close_to_those_in_numbers_and_alike_everywhere() {
    // all but a shortcut's 1x1 layer with a stride; one that is neither depthwise nor 1x1 with few outputs
    for (graph, expected) in [(Onnx::resnet(1), 6), (Onnx::resnet(3), 6), (Onnx::mobilenet(1), 1)] {
        let load = |threads, portable_int8| {
            let kernel_choice = KernelChoice::Int8;
            built(&graph, &LoadOptions { threads, portable_int8, kernel_choice, ..LoadOptions::default() })
        };
        let mut session = load(1, false);
        let in_bytes = |layer: &&LayerKernel| layer.kernel.starts_with("i8_dot") && layer.reason == "int8: asked for";
        assert_eq!(session.facts.kernels.iter().filter(in_bytes).count(), expected, "{:?}", session.facts.kernels);
        let worst = difference(&graph, &mut session);
        assert!(worst > 1e-4 && worst < 0.05, "{worst}");
        let expected = session.run(&[graph.noise()]).unwrap();
        for (threads, portable) in [(2, false), (3, false), (1, true)] {
            assert_eq!(load(threads, portable).run(&[graph.noise()]).unwrap(), expected, "{threads} threads");
        }
        assert!(session.facts.plan.is_none(), "a load that measures must not follow it");
    }
}

#[test]
fn a_plan_cannot_ask_for_bytes() {
    let graph = Onnx::resnet(1);
    let session = built(&graph, &LoadOptions::default());
    let mut plan = session.facts.plan.clone().unwrap();
    plan.layers.iter_mut().for_each(|layer| layer.choice = Choice::Int8);
    let mut session = built(&graph, &LoadOptions { plan: Some(plan), ..LoadOptions::default() });
    assert!(session.facts.kernels.iter().all(|layer| !layer.kernel.starts_with("i8_dot")));
    assert!(difference(&graph, &mut session) < 1e-4);
}

#[test]
fn what_no_region_takes_runs_between_two() {
    let graph = Onnx::interrupted();
    let mut session = built(&graph, &LoadOptions::default());
    assert_eq!(operators(&session), ["Region", "Tanh", "Region"]);
    assert!(difference(&graph, &mut session) < 1e-4);
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    for graph in [Onnx::resnet(1), Onnx::mobilenet(2), Onnx::mlp(1)] {
        let run = |threads, tune, plan: Option<&Plan>| {
            let options = LoadOptions { threads, tune, plan: plan.cloned(), ..LoadOptions::default() };
            let mut session = built(&graph, &options);
            assert_eq!((session.facts.engine.threads, &session.facts.notes[..]), (threads, &[][..]));
            (session.run(&[graph.noise()]).unwrap(), session.facts.plan.clone())
        };
        // every load times anew
        let (alone, _) = run(1, false, None);
        assert_eq!([run(2, false, None).0, run(3, false, None).0], [alone.clone(), alone]);
        // what is tuned rounds as it likes, and always alike
        let (tuned, plan) = run(2, true, None);
        assert_eq!([run(1, false, plan.as_ref()).0, run(3, false, plan.as_ref()).0], [tuned.clone(), tuned]);
    }
}

#[test]
fn a_fitting_plan_is_used_without_timing_and_another_one_is_ignored() {
    let graph = Onnx::resnet(1);
    let load = |plan: Option<Plan>| {
        built(&graph, &LoadOptions { plan, choice_budget: Duration::from_millis(200), ..LoadOptions::default() }).facts
    };
    let fresh = load(None);
    let mut plan = fresh.plan.clone().unwrap();
    assert!(!plan.layers.is_empty() && fresh.notes.is_empty());
    // reasons that no measurement gives show where decisions came from
    plan.layers.iter_mut().for_each(|layer| layer.reason = "as planned".into());
    let used = load(Some(plan.clone()));
    assert!(used.kernels.iter().all(|layer| layer.reason == "as planned") && used.notes.is_empty());
    assert_eq!(used.plan, Some(plan.clone()));

    let stale = load(Some(Plan { kernels: 0, ..plan.clone() }));
    assert!(stale.kernels.iter().all(|layer| layer.reason != "as planned"));
    assert!(stale.notes[0].starts_with("the stored plan was not used: "), "{:?}", stale.notes);

    // damaged: one layer of another size, one with numbers that no kernel has
    plan.layers[0].nnz += 1;
    plan.layers[1].choice = Choice::SparseLinear;
    let damaged = load(Some(plan));
    let planned = damaged.kernels.iter().filter(|layer| layer.reason == "as planned").count();
    assert_eq!(planned, damaged.kernels.len() - 2);
    assert!(damaged.notes[0].contains("does not fit 2 of"), "{:?}", damaged.notes);
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
