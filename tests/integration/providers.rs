//! Providers of ONNX Runtime at the command line: what is asked for and absent, what does not exist, what really ran.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{failure, has_onnx_runtime, json, sentei};

/// A small net with a branch, written with the library.
fn model(folder: &Path) -> PathBuf {
    let text = "x = input f32[1,3,9,9]\na = Conv(x, w1[5,3,3,3], b1[5]) pad=1\nb = Relu(a)\nc = Conv(b, w2[3,5,3,3], b2[3]) pad=1\n\
                d = Add(c, x)\ne = Relu(d)\nf = Flatten(e) axis=1\ny = Gemm(f, w3[7,243], b3[7])";
    let graph = sentei_graph::Graph::parse(text).expect("parses");
    let bytes = sentei_convert::export(&graph, sentei_convert::ExportOptions::default()).expect("exports");
    let path = folder.join("small.onnx");
    std::fs::write(&path, bytes).expect("written");
    path
}

/// `bench --engine ort` of a small model with these arguments.
fn bench(folder: &Path, args: &[&str]) -> assert_cmd::Command {
    let mut command = sentei();
    command.arg("bench").arg(model(folder)).args([
        "--engine",
        "ort",
        "--seconds",
        "0.05",
        "--rounds",
        "3",
        "--no-memory",
    ]);
    command.args(args);
    command
}

/// What `doctor` says of each provider of the library in use: its name, and whether it works.
fn providers() -> Vec<(String, bool)> {
    let found = json(sentei().args(["doctor", "--json"]));
    let library = found["onnxruntime_libraries"].as_array().expect("libraries").iter().find(|l| l["error"].is_null());
    let providers = library.expect("one that loads")["providers"].as_array().expect("providers").clone();
    providers.iter().map(|p| (p["provider"].as_str().expect("name").to_owned(), p["refused"].is_null())).collect()
}

#[test]
fn a_provider_that_is_not_there_is_exit_code_5_and_says_what_is_missing_and_how_to_get_it() {
    if !has_onnx_runtime("absent providers") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    for (provider, works) in providers() {
        if works {
            assert_eq!(
                provider, "cpu",
                "tests of absence need a machine without a GPU and a library without XNNPACK and ACL"
            );
            continue;
        }
        let (code, text) = failure(&mut bench(folder.path(), &["--provider", &provider]));
        assert_eq!(code, 5, "{text}");
        let named = match provider.as_str() {
            "cuda" => ["onnxruntime-gpu", "CUDA 13", "cuDNN 9", "lib"],
            "tensorrt" => ["onnxruntime-gpu", "TensorRT 10", "libnvinfer.so.10", "lib"],
            "xnnpack" => ["--use_xnnpack", "--ort-library", "not supported in this build", "libonnxruntime"],
            _ => ["--use_acl", "--ort-library", "Arm", "libonnxruntime"],
        };
        for part in named {
            assert!(text.contains(part), "{provider}: {part} in {text}");
        }
        assert!(text.contains(&format!("provider `{provider}`")), "{text}");
    }
}

#[test]
fn providers_and_options_that_do_not_exist_are_usage_errors_that_list_those_that_do() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (args, parts) in [
        (&["--provider", "gpu"][..], &["gpu", "cpu, cuda, tensorrt, xnnpack, acl"][..]),
        (&["--ort", "spin=true"], &["no option `spin`", "optimise", "spinning", "cpu_arena"]),
        (&["--ort", "spinning"], &["KEY=VALUE"]),
        (&["--ort", "spinning=maybe"], &["`spinning` expects true or false", "maybe"]),
        (&["--ort", "fp16=true"], &["`fp16` is for provider tensorrt", "asked for is cpu"]),
        (
            &["--provider", "cuda", "--ort", "sparsity=true"],
            &["`sparsity` is for provider tensorrt", "asked for is cuda"],
        ),
    ] {
        let (code, text) = failure(&mut bench(folder.path(), args));
        assert_eq!(code, 2, "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: {part} in {text}");
        }
    }
    for verb in ["bench", "run"] {
        let (code, text) = failure(sentei().arg(verb).arg(model(folder.path())).args(["x.png", "--provider", "cuda"]));
        assert!(code == 2 && text.contains("--engine ort"), "{verb}: {text}");
    }
}

#[test]
fn help_lists_the_options_of_every_provider() {
    let out = sentei().args(["bench", "--help"]).output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    for part in
        ["--provider", "fp16=VALUE", "sparsity=VALUE", "xnnpack_threads=VALUE", "fast_math=VALUE", "every provider:"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// The numbers of a NumPy file: what is left after its header.
fn numbers(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("saved");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

#[test]
fn the_processor_with_all_session_options_computes_the_same_and_says_that_it_did() {
    if !has_onnx_runtime("session options") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let every = [
        "optimise=extended",
        "inter_threads=2",
        "spinning=false",
        "memory_pattern=false",
        "prepacking=false",
        "cpu_arena=false",
        "placement=true",
    ];
    let options: Vec<&str> = every.iter().flat_map(|option| ["--ort", option]).collect();
    let measured = |name: &str, args: &[&str]| -> (Vec<f32>, Value) {
        let tensors = folder.path().join(name);
        std::fs::create_dir(&tensors).expect("folder");
        let saved = tensors.to_str().expect("UTF-8").to_owned();
        let found = json(bench(folder.path(), &[args, &["--json", "--save-tensors", &saved]].concat()).arg("--quiet"));
        (numbers(&tensors.join("output0.npy")), found["rows"][0].clone())
    };
    let (plain, row) = measured("plain", &[]);
    assert!(row["provider"] == "cpu" && row["nodes"].is_null(), "{row}");
    let (with_all, row) = measured("all", &[&["--provider", "cpu"][..], &options].concat());
    assert_eq!((row["provider"].as_str(), plain.len()), (Some("cpu"), 7));
    let nodes = row["nodes"]["all"].as_array().expect("nodes").len() as u64;
    assert!(nodes >= 4 && row["nodes"]["per_provider"]["cpu"] == nodes, "{row}");
    for (a, b) in plain.iter().zip(&with_all) {
        assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{plain:?}\n{with_all:?}");
    }
}

#[test]
fn the_table_of_layers_names_the_provider_of_each_node() {
    if !has_onnx_runtime("time per layer") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = bench(folder.path(), &["--per-layer"]).output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let layers = text.lines().filter(|line| line.contains("Conv") && line.contains("cpu")).count();
    assert_eq!(layers, 2, "{text}");
}

#[test]
fn the_child_that_measures_memory_is_given_the_options() {
    if !has_onnx_runtime("memory with options") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut command = sentei();
    command.arg("bench").arg(model(folder.path())).args([
        "--engine",
        "ort",
        "--seconds",
        "0.05",
        "--rounds",
        "3",
        "--json",
    ]);
    let found = json(command.args(["--ort", "cpu_arena=false", "--ort", "placement=true"]));
    assert!(found["rows"][0]["steady_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{found}");
}

#[test]
fn doctor_asks_every_provider_of_every_library() {
    if !has_onnx_runtime("doctor's providers") {
        return;
    }
    let names: Vec<String> = providers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cpu", "cuda", "tensorrt", "xnnpack", "acl"]);
    let out = sentei().arg("doctor").output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("works: it ran a convolution") && text.contains("compiled with"), "{text}");
    let elsewhere = json(sentei().env("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so").args(["doctor", "--json"]));
    assert!(elsewhere["onnxruntime"].is_null(), "no other library is used than the one that is named: {elsewhere}");
    assert!(elsewhere["onnxruntime_missing"].as_str().is_some_and(|text| text.contains("/no/such")), "{elsewhere}");
    let folder = tempfile::tempdir().expect("temporary folder");
    let broken = folder.path().join("libonnxruntime.so");
    std::fs::write(&broken, b"no library").expect("written");
    let found = json(sentei().args(["doctor", "--json", "--ort-library"]).arg(&broken));
    assert!(found["onnxruntime"].is_null() && found["onnxruntime_libraries"][0]["error"].is_string(), "{found}");
}

#[test]
fn a_recipe_whose_provider_is_not_there_ends_before_any_training() {
    if !has_onnx_runtime("a recipe's provider") || providers().contains(&("acl".to_owned(), true)) {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("r.toml"), "[bench.ort]\nprovider = \"acl\"\nfast_math = true\n")
        .expect("recipe");
    let (code, text) = failure(sentei().current_dir(folder.path()).args(["shrink", "--recipe", "r.toml"]));
    assert!(code == 5 && text.contains("[bench.ort]") && text.contains("provider `acl`"), "{code} {text}");
    assert!(!folder.path().join("runs").exists(), "nothing was begun");
}
