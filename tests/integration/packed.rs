//! Packed files in stock engines: the functions form in ONNX Runtime, the inline form in plain tract, both in ours.

use crate::support::has_onnx_runtime;
use sentei_convert::{CompileOptions, Packing, Values, compile};
use sentei_graph::{Graph, Mask, Role, Tensor};
use sentei_models::Spec;
use sentei_runtime::{HostTensor, KernelChoice, LoadOptions, engine_named};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, Tensor as TractTensor, tvec};

/// A fresh residual net with batch norm, every weight above 1 kB pruned to `density` by position.
fn pruned_net(density: f64) -> Graph {
    let spec = Spec { channels: 3, height: 17, width: 15, classes: 5, seed: 3 };
    let mut graph = sentei_models::build("resnet8", &spec).expect("builds");
    for (id, role) in graph.parameters() {
        let mut tensor: Tensor = graph.initializer(id).expect("parameters are initializers").clone();
        if role == Role::Weight && tensor.len() > 256 {
            // A stride that is coprime to every layer's row length spreads the survivors.
            let keep = (0..tensor.len()).map(|i| ((i * 7919) % 1000) as f64 / 1000.0 < density).collect();
            Mask::from_bits(keep).apply(&mut tensor.data);
            graph.set_initializer(id, tensor);
        }
    }
    graph
}

fn image() -> HostTensor {
    HostTensor::noise(&[1, 3, 17, 15], 5)
}

fn run(engine: &str, bytes: &[u8], kernel_choice: KernelChoice) -> Vec<f32> {
    let options = LoadOptions { kernel_choice, ..LoadOptions::default() };
    let mut session = engine_named(engine).expect("in this build").load(bytes, &options).expect("loads");
    session.run(&[image()]).expect("runs").remove(0).data
}

fn close(a: &[f32], b: &[f32]) {
    assert!(a.len() == b.len() && !a.is_empty(), "{} and {} outputs", a.len(), b.len());
    let scale = a.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-5 * scale, "{a:?}\n{b:?}");
    }
}

#[test]
fn stock_onnx_runtime_computes_the_packed_file_bit_for_bit_like_the_dense_one() {
    if !has_onnx_runtime("packed files in ONNX Runtime") {
        return;
    }
    for density in [0.5, 0.1, 0.02] {
        let graph = pruned_net(density);
        for values in [Values::F32, Values::F16, Values::I8] {
            for packing in [Packing::Functions, Packing::Inline] {
                let options = CompileOptions { packing, values, ..CompileOptions::default() };
                let compiled = compile(&graph, &options).expect("compiles");
                let packed = run("ort", &compiled.bytes, KernelChoice::Measure);
                let dense = run("ort", &compiled.dense_bytes, KernelChoice::Measure);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&packed), bits(&dense), "{values:?} {packing:?} at density {density}");
            }
        }
    }
}

#[test]
fn stock_tract_loads_the_inline_form() {
    for values in [Values::F32, Values::F16, Values::I8] {
        let options = CompileOptions { packing: Packing::Inline, values, ..CompileOptions::default() };
        let compiled = compile(&pruned_net(0.1), &options).expect("compiles");
        let stock = |bytes: &[u8]| -> Vec<f32> {
            let model = tract_onnx::onnx().model_for_read(&mut &bytes[..]).expect("parses");
            let plan = model.into_optimized().expect("optimises").into_runnable().expect("plans");
            let image = image();
            let input = TractTensor::from_shape(&image.shape, &image.data).expect("fits");
            let output = plan.run(tvec!(input.into())).expect("runs").remove(0);
            output.try_as_plain_ram().expect("plain").as_slice::<f32>().expect("f32").to_vec()
        };
        close(&stock(&compiled.dense_bytes), &stock(&compiled.bytes));
    }
}

#[test]
fn the_sparse_kernels_agree_with_the_dense_file() {
    for (density, values) in
        [(0.5, Values::F32), (0.1, Values::F32), (0.1, Values::F16), (0.1, Values::I8), (0.02, Values::I8)]
    {
        let compiled =
            compile(&pruned_net(density), &CompileOptions { values, ..CompileOptions::default() }).expect("compiles");
        let dense = run("tract", &compiled.dense_bytes, KernelChoice::Measure);
        close(&dense, &run("tract", &compiled.bytes, KernelChoice::AlwaysSparse));
        close(&dense, &run("tract", &compiled.bytes, KernelChoice::AlwaysDense));
        close(&dense, &run("tract", &compiled.bytes, KernelChoice::Measure));
    }
}

#[test]
fn packed_weights_are_never_made_dense_when_they_run_sparse() {
    let compiled = compile(&pruned_net(0.1), &CompileOptions::default()).expect("compiles");
    let packed: u64 = compiled.tensors.iter().filter(|t| t.encoding != "dense").map(|t| t.dense_bytes).sum();
    let load = |kernel_choice| {
        let options = LoadOptions { kernel_choice, ..LoadOptions::default() };
        engine_named("tract").expect("in this build").load(&compiled.bytes, &options).expect("loads")
    };
    let sparse = load(KernelChoice::AlwaysSparse).facts().weight_bytes.expect("tract tells");
    let dense = load(KernelChoice::AlwaysDense).facts().weight_bytes.expect("tract tells");
    assert!(sparse < packed / 2, "{sparse} bytes of weights sparse, the packed ones take {packed} dense");
    assert!(dense > packed, "{dense} bytes of weights dense, the packed ones alone take {packed}");
}
