use super::*;
use crate::proto::{AttributeProto, GraphProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use prost::Message;

fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>, value_info: Vec<ValueInfoProto>) -> Vec<u8> {
    let input = vec![ValueInfoProto::floats("x", [None, Some(2), Some(6), Some(6)])];
    let graph = GraphProto { node: nodes, initializer, input, value_info, ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(13) };
    ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() }.encode_to_vec()
}

fn conv(input: &str, weight: &str, output: &str) -> NodeProto {
    NodeProto::standard("Conv", &[input, weight], output, vec![AttributeProto::ints("pads", [1, 1, 1, 1])])
}

fn weight(name: &str, nonzero: usize) -> TensorProto {
    let data: Vec<f32> = (0..36).map(|i| if i < nonzero { 1.0 } else { 0.0 }).collect();
    TensorProto::floats(name, &[2, 2, 3, 3], &data)
}

#[test]
fn zeros_are_left_out_of_the_executed_multiply_adds() {
    let bytes = model(vec![conv("x", "w", "y")], vec![weight("w", 9)], vec![]);
    let found = inspect(&bytes, &ImportOptions::default()).unwrap();
    assert_eq!((found.dense_macs, found.macs), (Some(36 * 36), Some(9 * 36)));
    assert_eq!((found.params, found.nonzero, found.layers[0].density), (36, 9, 0.25));
    assert!(found.layers[0].advice.contains("sparse already"));
    assert_eq!(found.inputs, ["x float[?,2,6,6]"]);
}

#[test]
fn behind_an_unknown_operator_stated_shapes_are_used_and_others_left_open() {
    let nodes = || vec![conv("x", "w", "a"), NodeProto::standard("Resize", &["a"], "b", vec![]), conv("b", "v", "y")];
    let weights = || vec![weight("w", 36), weight("v", 18)];
    let stated = ValueInfoProto::floats("b", [None, Some(2), Some(12), Some(12)]);
    let found = inspect(&model(nodes(), weights(), vec![stated]), &ImportOptions::default()).unwrap();
    assert_eq!(found.unsupported, ["Resize"]);
    assert_eq!(found.macs, Some(36 * 36 + 18 * 144));
    assert!(found.notes.is_empty(), "{:?}", found.notes);

    let found = inspect(&model(nodes(), weights(), vec![]), &ImportOptions::default()).unwrap();
    assert_eq!((found.macs, found.layers.len(), found.layers[1].macs), (None, 2, None));
    assert_eq!((found.params, found.nonzero, found.layers[1].density), (72, 54, 0.5));
    assert!(found.notes.iter().any(|n| n.contains("`b` is not known")), "{:?}", found.notes);
}

#[test]
fn a_use_that_is_not_supported_is_explained() {
    let mut lifted = conv("x", "w", "y");
    lifted.attribute.push(AttributeProto::int("group", 3));
    let found = inspect(&model(vec![lifted], vec![weight("w", 36)], vec![]), &ImportOptions::default()).unwrap();
    assert!(found.notes[0].contains("`y`") && found.notes[0].contains("groups"), "{:?}", found.notes);
    assert_eq!(found.layers.len(), 1);
}
