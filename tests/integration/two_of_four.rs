//! 2:4 for TensorRT, end to end: pruned, compiled and read back, with every group of four counted here and not by the library.

use sentei_convert::{CompileOptions, ExportOptions, ImportOptions, Target, check_kept, compile, export, import};
use sentei_graph::{Graph, Op};
use serde_json::Value;

use crate::support::{failure, json, sentei};

/// Every convolution and linear layer of `graph`: name, whether it can have the pattern, and how many of its groups of
/// four consecutive input channels have 0, 1, 2, 3 and 4 weights that are not zero.
fn counted(graph: &Graph) -> Vec<(String, bool, [usize; 5])> {
    let mut found = Vec::new();
    for (_, node) in graph.nodes() {
        let groups = match &node.op {
            Op::Conv(conv) => conv.groups,
            Op::Gemm(_) => 1,
            _ => continue,
        };
        let weight = graph.initializer(node.inputs[1]).expect("a constant weight");
        let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
        let kernel = weight.data.len() / outputs / inputs;
        let able = groups == 1 && inputs % 4 == 0;
        let mut histogram = [0; 5];
        for output in 0..outputs {
            for position in 0..kernel {
                for group in 0..inputs / 4 {
                    let at = |i: usize| weight.data[output * inputs * kernel + (4 * group + i) * kernel + position];
                    histogram[(0..4).filter(|i| at(*i).to_bits() != 0).count()] += 1;
                }
            }
        }
        found.push((graph.name(node.output).to_string(), able, histogram));
    }
    found
}

fn read(bytes: &[u8]) -> Graph {
    import(bytes, &ImportOptions::default()).expect("reads back")
}

fn write(path: &std::path::Path, name: &str) {
    let spec = sentei_models::Spec { channels: 3, height: 16, width: 16, classes: 10, seed: 3 };
    let graph = sentei_models::build(name, &spec).expect("an architecture");
    std::fs::write(path, export(&graph, ExportOptions::default()).expect("writes")).expect("a file");
}

#[test]
fn a_model_pruned_to_two_of_four_keeps_to_it_in_every_group_of_the_file_for_tensorrt() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name);
    let (dense, pruned, model) = (path("dense.onnx"), path("pruned.onnx"), path("model.onnx"));
    write(&dense, "resnet20");
    json(sentei().args(["prune", "--method", "n-m", "--no-retrain", "--json"]).arg(&dense).arg("-o").arg(&pruned));
    let compile = |target: &str, to: &std::path::Path| {
        json(sentei().args(["compile", "--json", "--target", target]).arg(&pruned).arg("-o").arg(to))
    };
    let said = compile("ort-tensorrt", &model);
    let (before, after) =
        (counted(&read(&std::fs::read(&pruned).expect("a file"))), std::fs::read(&model).expect("a file"));
    let after = counted(&read(&after));
    assert_eq!((before.len(), after.len()), (20, 20), "19 convolutions, 1 linear layer");
    let able: Vec<_> = after.iter().filter(|(_, able, _)| *able).collect();
    assert_eq!(able.len(), 19, "all but the first layer, which has 3 input channels");
    for (name, _, histogram) in &able {
        assert_eq!([histogram[3], histogram[4]], [0, 0], "{name}: {histogram:?}");
        assert!(histogram[2] > 9 * (histogram[0] + histogram[1]), "{name} keeps half: {histogram:?}");
    }
    let groups: usize = able.iter().map(|(.., histogram)| histogram.iter().sum::<usize>()).sum();
    assert_eq!([&said["two_of_four"]["layers"], &said["two_of_four"]["groups"]], [19, groups]);
    let encodings = said["tensors"].as_array().expect("rows").iter().map(|row| row["encoding"].as_str());
    assert!(encodings.clone().count() == 20 && encodings.into_iter().all(|e| e == Some("dense")));

    // The file says so itself, whether its weights are plain or packed, and `inspect` explains each layer.
    let packed = path("packed.onnx");
    compile("tract-cpu", &packed);
    for file in [&model, &packed] {
        let found = json(sentei().args(["inspect", "--json"]).arg(file));
        assert_eq!(found["metadata"]["sentei.pattern"], "2:4", "{}", file.display());
        let layers = found["layers"].as_array().expect("layers");
        let states: Vec<&Value> = layers.iter().map(|l| &l["tensor_cores"]["state"]).collect();
        assert_eq!((states.len(), states[0]), (20, &Value::from("inputs")));
        assert!(states[1..].iter().all(|s| **s == "holds, narrow"), "16 to 64 channels: {states:?}");
        let why = layers[1]["tensor_cores"]["why"].as_str().expect("a sentence");
        assert!(why.contains("16 input") && why.contains("256"), "{why}");
    }
    let plain = json(sentei().args(["inspect", "--json"]).arg(&dense));
    assert_eq!(plain["metadata"]["sentei.pattern"], Value::Null);
    assert_eq!(plain["layers"][1]["tensor_cores"]["state"], "not pruned");

    let (code, why) = failure(
        sentei()
            .args(["compile", "--target", "ort-tensorrt", "--values", "f16"])
            .arg(&pruned)
            .arg("-o")
            .arg(path("x.onnx")),
    );
    assert!(code == 2 && why.contains("ort-tensorrt"), "{code} {why}");
    let (code, _) = failure(
        sentei()
            .args(["compile", "--target", "ort-cpu", "--packing", "dense"])
            .arg(&pruned)
            .arg("-o")
            .arg(path("x.onnx")),
    );
    assert_eq!(code, 2, "a target says the packing");
}

#[test]
fn a_group_that_was_broken_is_found_and_named() {
    let folder = tempfile::tempdir().expect("folder");
    let (dense, pruned) = (folder.path().join("dense.onnx"), folder.path().join("pruned.onnx"));
    write(&dense, "resnet20");
    json(sentei().args(["prune", "--method", "n-m", "--no-retrain", "--json"]).arg(&dense).arg("-o").arg(&pruned));
    let graph = read(&std::fs::read(&pruned).expect("a file"));
    let target = Target::OrtTensorrt;
    let options =
        CompileOptions { packing: target.packing(), keep_groups: target.keeps_groups(), ..CompileOptions::default() };
    let compiled = compile(&graph, &options).expect("compiles");
    let mut written = read(&compiled.bytes);
    check_kept(&graph, &written).expect("kept");

    // One zero of the last group of a middle layer is filled.
    let (_, node) = written.nodes().filter(|(_, n)| matches!(n.op, Op::Conv(_))).nth(7).expect("a layer");
    let (layer, weight) = (written.name(node.output).to_string(), node.inputs[1]);
    let mut tensor = written.initializer(weight).expect("constant").clone();
    let kernel: usize = tensor.shape[2..].iter().product();
    let (last, inputs) = (tensor.shape[0] - 1, tensor.shape[1]);
    let at = |i: usize| (last * inputs + i) * kernel + kernel - 1;
    let gap = (inputs - 4..inputs).find(|i| tensor.data[at(*i)] == 0.0).expect("two of four are zero");
    tensor.data[at(gap)] = 1e-30;
    written.set_initializer(weight, tensor);
    let found = check_kept(&graph, &read(&export(&written, ExportOptions::default()).expect("writes")));
    let error = found.expect_err("one group has three");
    let place =
        format!("output channel {last}, kernel position 8, input channels {} to {}: 3 of 4", inputs - 4, inputs - 1);
    assert!(error.is_mismatch(), "exit code 4");
    assert!(error.to_string().contains(&format!("`{layer}`")) && error.to_string().contains(&place), "{error}");
}
