//! Models of other tools, with the outputs that ONNX Runtime gave for them.

use std::path::{Path, PathBuf};

use prost::Message;
use sentei_convert::{
    CompileOptions, ConvertError, ExportOptions, ImportOptions, Packing, Tolerance, Values, compare, compile, export,
    import, inspect,
};
use sentei_graph::Tensor;
use sentei_graph::blocks::blocks;
use sentei_graph::passes::remove_blocks;

/// An ONNX tensor file, as far as these tests read it.
#[derive(Clone, PartialEq, Message)]
struct TensorFile {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(bytes = "vec", tag = "9")]
    raw: Vec<u8>,
}

fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    if !folder.is_dir() {
        eprintln!("SKIPPED: the models of other tools are not here");
        return None;
    }
    Some(folder)
}

fn tensor(path: &Path) -> Tensor {
    let file = TensorFile::decode(&std::fs::read(path).unwrap()[..]).unwrap();
    let shape: Vec<usize> = file.dims.iter().map(|d| *d as usize).collect();
    Tensor::new(shape, file.raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

const IMPORTABLE: [&str; 6] = [
    "mnist_cntk",
    "mlperf_tiny_resnet8",
    "mlperf_tiny_kws_dscnn",
    "mlperf_tiny_ad_autoencoder",
    "cifar_resnet20",
    "cifar_resnet56",
];

#[test]
fn imported_models_give_the_outputs_of_onnx_runtime() {
    let Some(folder) = models() else { return };
    for name in IMPORTABLE {
        let bytes = std::fs::read(folder.join(name).join("model.onnx")).unwrap();
        let graph = import(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let data = folder.join(name).join("test_data_set_0");
        let (input, expected) = (tensor(&data.join("input_0.pb")), tensor(&data.join("output_0.pb")));
        let found = graph.eval(&[input]).unwrap().remove(0);
        assert_eq!(found.shape, expected.shape, "{name}");
        let largest = expected.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let error = found.data.iter().zip(&expected.data).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        // sums of up to 640 terms in f32 on their side, through up to 56 layers
        let tolerance = 640.0 * f32::EPSILON * largest;
        assert!(error <= tolerance, "{name}: {error} of {largest}");
        eprintln!("{name}: largest error {error:e} of {largest}");
    }
}

#[test]
fn what_is_imported_survives_export_and_import() {
    let Some(folder) = models() else { return };
    for name in ["mnist_cntk", "mlperf_tiny_kws_dscnn", "cifar_resnet20"] {
        let bytes = std::fs::read(folder.join(name).join("model.onnx")).unwrap();
        let graph = import(&bytes, &ImportOptions::default()).unwrap();
        let dense = export(&graph, ExportOptions { dynamic_batch: true }).unwrap();
        let again = import(&dense, &ImportOptions::default()).unwrap();
        assert_eq!(graph, again, "{name}");
    }
}

#[test]
fn a_real_model_compiles_in_every_packing_and_value_type() {
    let Some(folder) = models() else { return };
    let bytes = std::fs::read(folder.join("mlperf_tiny_kws_dscnn/model.onnx")).unwrap();
    let mut graph = import(&bytes, &ImportOptions::default()).unwrap();
    let weights: Vec<_> = graph.parameters().into_iter().filter(|(_, r)| *r == sentei_graph::Role::Weight).collect();
    for (id, _) in weights {
        let mut weight = graph.initializer(id).unwrap().clone();
        let mut order: Vec<f32> = weight.data.iter().map(|v| v.abs()).collect();
        order.sort_by(f32::total_cmp);
        let cut = order[order.len() * 9 / 10];
        weight.data.iter_mut().filter(|v| v.abs() < cut).for_each(|v| *v = 0.0);
        graph.set_initializer(id, weight);
    }
    for packing in [Packing::Functions, Packing::Inline, Packing::Dense] {
        for values in [Values::F32, Values::F16, Values::I8] {
            let options = CompileOptions { packing, values, ..Default::default() };
            let compiled = compile(&graph, &options).unwrap_or_else(|e| panic!("{packing:?} {values:?}: {e}"));
            assert!(compiled.equivalence.passed && compiled.deployment.passed);
            assert_eq!(compiled.equivalence.max_ulp, 0);
            eprintln!("{packing:?} {values:?}: {} of {} bytes", compiled.bytes.len(), compiled.dense_bytes.len());
            // the long names of this model take a good part of the file
            assert!(packing != Packing::Functions || compiled.bytes.len() < compiled.dense_bytes.len() * 6 / 10);
            let twin = import(&compiled.dense_bytes, &ImportOptions::default()).unwrap();
            let packed = import(&compiled.bytes, &ImportOptions::default()).unwrap();
            assert!(compare(&twin, &packed, Tolerance::Exact, 9, 1).unwrap().passed);
        }
    }
}

#[test]
fn every_model_can_be_inspected() {
    let Some(folder) = models() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path().join("model.onnx");
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let found = inspect(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!found.layers.is_empty() && found.params > 0, "{}", path.display());
        assert_eq!(found.notes, Vec::<String>::new(), "{}", path.display());
        eprintln!(
            "{}: opset {} params {} macs {:?} unsupported {:?} layers {}",
            path.display(),
            found.opset,
            found.params,
            found.dense_macs,
            found.unsupported,
            found.layers.len()
        );
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn inspection_counts_what_the_model_cards_say() {
    let Some(folder) = models() else { return };
    let look = |name: &str| {
        let bytes = std::fs::read(folder.join(name).join("model.onnx")).unwrap();
        inspect(&bytes, &ImportOptions::default()).unwrap()
    };
    // parameter counts of the checkpoints these were exported from
    assert_eq!(look("cifar_resnet20").params, 269_722);
    assert_eq!(look("cifar_resnet56").params, 853_018);
    // 9 convolutions and one dense layer of the published network
    assert_eq!(look("mlperf_tiny_resnet8").layers.len(), 10);
    let yunet = look("yunet_n_320");
    assert_eq!((yunet.layers.len(), &yunet.unsupported[..]), (59, &["Resize".to_string()][..]));
    assert!(yunet.dense_macs.is_some());
    let int8 = look("mlperf_tiny_resnet8_int8_qdq");
    assert_eq!(int8.dense_macs, look("mlperf_tiny_resnet8").dense_macs);
    // weights are one byte each there
    assert!(int8.layers.iter().map(|l| l.bytes).sum::<u64>() < 90_000);
}

#[test]
fn all_unsupported_operators_are_listed_at_once() {
    let Some(folder) = models() else { return };
    let bytes = std::fs::read(folder.join("mlperf_tiny_resnet8_int8_qdq/model.onnx")).unwrap();
    let Err(ConvertError::Unsupported { ops }) = import(&bytes, &ImportOptions::default()) else {
        panic!("the int8 model must be refused");
    };
    let names: Vec<&str> = ops.iter().map(|o| o.op.as_str()).collect();
    assert_eq!(names, ["DequantizeLinear", "QuantizeLinear"]);
    assert_eq!(ops[1].count, 15);
}

#[test]
fn sr_init_oracle_6_the_imported_resnet56_loses_the_papers_blocks_to_the_last_parameter() {
    let Some(folder) = models() else { return };
    let bytes = std::fs::read(folder.join("cifar_resnet56").join("model.onnx")).unwrap();
    let graph = import(&bytes, &ImportOptions::default()).unwrap();
    assert_eq!(blocks(&graph).unwrap().len(), 27);
    let small = remove_blocks(graph, &[1, 8, 17, 19, 21, 22, 23, 24, 25, 26]).unwrap().graph;
    let bytes = export(&small, ExportOptions { dynamic_batch: true }).unwrap();
    let found = inspect(&bytes, &ImportOptions::default()).unwrap();
    assert_eq!((found.params, found.dense_macs), (307_226, Some(78_299_776)));
}
