//! What a person at the command line meets first: help, exit codes, errors that say what helps.

use crate::support::{failure, json, sentei};

#[test]
fn help_lists_every_verb_and_every_exit_code() {
    let out = sentei().arg("--help").output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    for verb in [
        "shrink", "train", "analyze", "prune", "sweep", "compile", "inspect", "run", "bench", "report", "verify",
        "doctor",
    ] {
        assert!(text.contains(&format!("\n  {verb} ")), "{verb} in {text}");
    }
    for code in ["0 ok", "3 gate", "4 outputs differ", "5 device", "6 limit"] {
        assert!(text.contains(code), "{code} in {text}");
    }
}

#[test]
fn a_flag_that_does_not_exist_is_a_usage_error() {
    assert_eq!(failure(sentei().args(["inspect", "--colour"])).0, 2);
}

#[test]
fn a_missing_file_is_named() {
    for verb in [
        &["inspect", "no.onnx"][..],
        &["bench", "no.onnx"],
        &["compile", "no.onnx", "-o", "x.onnx"],
        &["run", "no.onnx", "i.png"],
    ] {
        let (code, text) = failure(sentei().args(verb));
        assert!(code == 1 && text.contains("no.onnx"), "{verb:?}: {code} {text}");
    }
}

#[test]
fn an_unknown_recipe_key_is_refused_by_line() {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("r.toml"), "seed = 1\n\n[train]\nepocs = 3\n").expect("recipe");
    let (code, text) = failure(sentei().current_dir(folder.path()).args(["shrink", "--recipe", "r.toml"]));
    assert!(code == 1 && text.contains("line 4") && text.contains("epocs"), "{text}");
    assert!(!folder.path().join("runs").exists(), "nothing was begun");
}

#[test]
fn an_engine_that_is_not_there_is_exit_code_5_and_says_how_to_get_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = tiny_model(folder.path());
    let mut command = sentei();
    command.env("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so").arg("bench").arg(&model).args(["--engine", "ort"]);
    let (code, text) = failure(&mut command);
    assert!(code == 5 && text.contains("/no/such/libonnxruntime.so") && text.contains("pip install"), "{code} {text}");
}

#[test]
fn a_byte_budget_that_is_too_small_is_exit_code_6_and_names_the_flag() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = tiny_model(folder.path());
    let (code, text) = failure(sentei().arg("bench").arg(&model).args(["--byte-budget", "10"]));
    assert!(code == 6 && text.contains("--byte-budget"), "{code} {text}");
}

#[test]
fn a_method_that_finds_its_mask_while_training_cannot_go_without_retraining() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = tiny_model(folder.path());
    let mut command = sentei();
    command.arg("prune").arg(&model).args(["--method", "rigl", "--density", "0.5", "--no-retrain", "-o", "out.onnx"]);
    let (code, text) = failure(command.current_dir(folder.path()));
    assert!(code == 2 && text.contains("--no-retrain") && !folder.path().join("out.onnx").exists(), "{code} {text}");
}

#[test]
fn bytes_that_are_no_model_are_an_error_and_leave_no_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("bad.onnx"), [0x0f; 99]).expect("file");
    let (code, text) = failure(sentei().current_dir(folder.path()).args(["compile", "bad.onnx", "-o", "out.onnx"]));
    assert!(code == 1 && text.contains("bad.onnx"), "{text}");
    assert!(!folder.path().join("out.onnx").exists());
}

#[test]
fn images_of_different_sizes_name_the_flag_that_helps() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (class, side) in [("a", 4), ("b", 5)] {
        std::fs::create_dir_all(folder.path().join("d").join(class)).expect("folder");
        let mut image = format!("P5 {side} {side} 255\n").into_bytes();
        image.extend(vec![7u8; side * side]);
        std::fs::write(folder.path().join("d").join(class).join("x.pgm"), image).expect("image");
    }
    let (code, text) = failure(sentei().current_dir(folder.path()).args(["train", "--data", "d"]));
    assert!(code == 1 && text.contains("--size"), "{text}");
}

#[test]
fn doctor_tells_machine_features_and_kernels() {
    let found = json(sentei().args(["doctor", "--json"]));
    assert!(found["machine"]["cores"].as_u64().is_some_and(|n| n > 0), "{found}");
    let kernels = found["kernels"].as_array().expect("kernels");
    assert!(kernels.iter().any(|k| k["runs_here"] == true), "{found}");
}

#[test]
fn completions_are_printed_for_a_shell() {
    let out = sentei().args(["completions", "bash"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&out.stdout).contains("sentei"));
}

/// A pruned linear layer, written with the library.
pub fn tiny_model(folder: &std::path::Path) -> std::path::PathBuf {
    let graph = sentei_graph::Graph::parse("x = input f32[1,64]\ny = Gemm(x, w[32,64], b[32])").expect("parses");
    let bytes = sentei_convert::export(&graph, sentei_convert::ExportOptions::default()).expect("exports");
    let path = folder.join("tiny.onnx");
    std::fs::write(&path, bytes).expect("written");
    path
}
