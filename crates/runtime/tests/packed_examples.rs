//! The files of an independent encoder, through both engines, against their dense twins.
//!
//! They are not part of the repository; where they are absent the tests say so and pass.

#![cfg(feature = "tract")]

use std::fs;
use std::path::{Path, PathBuf};

use sentei_runtime::{Facts, HostTensor, KernelChoice, LoadOptions, engine_named};

/// Sums of a few hundred products in another order: relative to the largest output.
const RELATIVE: f32 = 1e-5;

fn examples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/packed-examples");
    if folder.join("pairs.json").is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is absent", folder.display());
    None
}

/// `(packed, dense)` file names, read from `pairs.json`.
fn pairs(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join("pairs.json")).unwrap();
    let value =
        |line: &str, key: &str| line.trim().strip_prefix(key).map(|rest| rest.trim_matches([' ', '"', ',']).to_owned());
    let of = |key: &str| -> Vec<String> { text.lines().filter_map(|line| value(line, key)).collect() };
    let pairs: Vec<_> = of("\"packed\":").into_iter().zip(of("\"dense\":")).collect();
    assert!(pairs.len() >= 20, "{pairs:?}");
    pairs
}

fn input(folder: &Path) -> HostTensor {
    let bytes = fs::read(folder.join("input_1x3x13x11.f32")).unwrap();
    let data = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    HostTensor::new(vec![1, 3, 13, 11], data).unwrap()
}

fn run(engine: &str, file: &Path, options: &LoadOptions, input: &HostTensor) -> (Vec<f32>, Facts) {
    let bytes = fs::read(file).unwrap();
    let mut session = engine_named(engine).unwrap().load(&bytes, options).unwrap();
    let output = session.run(std::slice::from_ref(input)).unwrap().swap_remove(0).data;
    (output, session.facts().clone())
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    assert!(largest > 0.0, "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= RELATIVE * largest, "{what}: {a} and {b}");
    }
}

#[test]
fn every_example_gives_the_outputs_of_its_dense_twin() {
    let Some(folder) = examples() else { return };
    let input = input(&folder);
    for (packed, dense) in pairs(&folder) {
        let reference = LoadOptions { kernel_choice: KernelChoice::AlwaysDense, ..LoadOptions::default() };
        let (expected, facts) = run("tract", &folder.join(&dense), &reference, &input);
        assert!(facts.kernels.is_empty() && facts.notes.is_empty(), "{dense}");
        for kernel_choice in [KernelChoice::AlwaysSparse, KernelChoice::AlwaysDense, KernelChoice::Measure] {
            let options = LoadOptions { kernel_choice, ..LoadOptions::default() };
            let (found, facts) = run("tract", &folder.join(&packed), &options, &input);
            assert_close(&found, &expected, &format!("{packed} {kernel_choice:?}"));
            let kernels: Vec<_> = facts.kernels.iter().map(|layer| layer.kernel.as_str()).collect();
            let inline = facts.notes.iter().any(|note| note.contains("--packing functions"));
            assert_eq!(inline, packed.contains("inline"), "{packed}: {:?}", facts.notes);
            // where weights are decoded by standard operators, regions find their zeros all the same
            if packed.contains("inline") {
                assert_eq!(kernels.is_empty(), kernel_choice == KernelChoice::AlwaysDense, "{packed}: {kernels:?}");
            } else {
                assert!(kernels.len() >= 2, "{packed}: {kernels:?}");
                let sparse = kernels.iter().filter(|kernel| **kernel != "dense").count();
                match kernel_choice {
                    KernelChoice::AlwaysSparse => assert_eq!(sparse, kernels.len(), "{packed}: {kernels:?}"),
                    KernelChoice::AlwaysDense => assert_eq!(sparse, 0, "{packed}: {kernels:?}"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_sparse_plan_holds_less_than_the_dense_one() {
    let Some(folder) = examples() else { return };
    let bytes = |file: &str, kernel_choice| {
        let options = LoadOptions { kernel_choice, ..LoadOptions::default() };
        let bytes = fs::read(folder.join(file)).unwrap();
        let session = engine_named("tract").unwrap().load(&bytes, &options).unwrap();
        session.facts().weight_bytes.unwrap()
    };
    let dense = bytes("dense_95_f32.onnx", KernelChoice::AlwaysDense);
    let sparse = bytes("gap4_95_f32_functions.onnx", KernelChoice::AlwaysSparse);
    assert!(sparse * 4 < dense, "{sparse} of {dense} bytes");
}

#[cfg(feature = "ort")]
#[test]
fn onnx_runtime_gives_the_same_bits_for_packed_and_dense() {
    let Some(folder) = examples() else { return };
    if let Err(error) = sentei_runtime::ort::library_info(None) {
        assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none(), "{error}");
        eprintln!("SKIPPED: {error}");
        return;
    }
    let input = input(&folder);
    for (packed, dense) in pairs(&folder) {
        let (expected, _) = run("ort", &folder.join(&dense), &LoadOptions::default(), &input);
        let (found, _) = run("ort", &folder.join(&packed), &LoadOptions::default(), &input);
        assert_eq!(found, expected, "{packed}");
        let (tract, _) = run("tract", &folder.join(&packed), &LoadOptions::default(), &input);
        assert_close(&tract, &expected, &packed);
    }
}
