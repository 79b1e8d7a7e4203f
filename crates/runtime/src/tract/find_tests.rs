use super::*;
use crate::testing::Onnx;

/// Finds the regions of a graph without packed weights.
fn found(graph: &Onnx) -> Vec<Found> {
    let model = graph.typed();
    find(&model, &HashMap::new(), graph.batch()).unwrap()
}

fn texts(graph: &Onnx) -> Vec<String> {
    found(graph).iter().map(|found| found.net.text()).collect()
}

#[test]
fn a_resnet_is_one_region() {
    let [net] = &found(&Onnx::resnet(1))[..] else { panic!("one region") };
    assert_eq!(
        net.net.text(),
        "v2 = Conv+Relu(v0) [16, 9, 9]\n\
         v3 = MaxPool(v2) [16, 5, 5]\n\
         v5 = Conv+Relu(v3) [16, 5, 5]\n\
         v8 = Conv+Add+Relu(v5, v3) [16, 5, 5]\n\
         v10 = Conv+Relu(v8) [24, 3, 3]\n\
         v11 = Conv(v10) [24, 3, 3]\n\
         v14 = Conv+Add+Relu(v8, v11) [24, 3, 3]\n\
         v17 = Slice+Pad(v14) [32, 2, 2]\n\
         v19 = Conv+Add+Relu(v14, v17) [32, 2, 2]\n\
         v20 = GlobalAveragePool(v19) [32, 1, 1]\n\
         v21 = Gemm(v20) [10, 1, 1]\n"
    );
    assert_eq!((net.inputs.len(), net.outputs.len()), (1, 1));
}

#[test]
fn a_mobilenet_is_one_region() {
    assert_eq!(
        texts(&Onnx::mobilenet(2)),
        ["v3 = Conv+Clip(v0) [16, 8, 7]\n\
          v6 = Conv+Clip(v3) [32, 8, 7]\n\
          v9 = Conv+Clip(v6) [32, 8, 7]\n\
          v11 = Conv+Add(v9, v3) [16, 8, 7]\n\
          v13 = Conv+HardSwish(v11) [16, 4, 4]\n\
          v14 = Conv(v13) [24, 4, 4]\n\
          v15 = GlobalAveragePool(v14) [24, 1, 1]\n\
          v16 = Gemm(v15) [5, 1, 1]\n"]
    );
}

#[test]
fn fully_connected_layers_are_one_region() {
    let text = "v2 = Gemm+Relu(v0) [40, 1, 1]\nv4 = Gemm+Relu(v2) [21, 1, 1]\nv5 = Gemm(v4) [3, 1, 1]\n";
    assert_eq!(texts(&Onnx::mlp(1)), [text]);
}

#[test]
fn an_operator_that_no_kernel_runs_cuts_a_graph_in_two() {
    assert_eq!(texts(&Onnx::interrupted()), ["v1 = Conv(v0) [4, 6, 6]\n", "v1 = Conv(v0) [2, 6, 6]\n"]);
}
