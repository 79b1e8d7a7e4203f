//! `tools/bench-peers`: what it does without peers, and beside ONNX Runtime where `tools/test` has set that up.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

const TEST: &str = "bench-peers";

/// A folder with one small network at 0 and 90 % zeros, named as the tool wants it.
fn models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text =
        "x = input f32[1,3,9,7]\nc = Conv(x, w[16,3,3,3], b[16]) pad=1\nr = Relu(c)\nd = Conv(r, v[8,16,3,3]) pad=1";
    let graph = sentei_graph::Graph::parse(text).expect("parses");
    let bytes = sentei_convert::export(&graph, sentei_convert::ExportOptions::default()).expect("exports");
    std::fs::write(folder.path().join("small_s0.onnx"), bytes).expect("written");
    let mut prune = crate::support::sentei();
    prune.current_dir(folder.path()).args(["prune", "small_s0.onnx", "--method", "magnitude", "--density", "0.1"]);
    prune.args(["--no-retrain", "-o", "small_s90.onnx"]).assert().success();
    folder
}

/// The tool on `folder`, one short round after another; `None`, said loudly, where there is no Python 3.
fn tool(folder: &Path) -> Option<Command> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: {TEST}: no python3");
        return None;
    }
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bench-peers"));
    command.arg(folder).args(["--json", "--seconds", "0.02", "--rounds", "2"]);
    command.args(["--sentei", env!("CARGO_BIN_EXE_sentei")]);
    Some(command)
}

fn engine<'a>(row: &'a Value, name: &str) -> &'a Value {
    let engines = row["engines"].as_array().expect("engines");
    engines.iter().find(|engine| engine["engine"] == name).unwrap_or_else(|| panic!("{name} in {row}"))
}

#[test]
fn peers_that_are_absent_are_named_and_sentei_is_measured_all_the_same() {
    let folder = models();
    let Some(mut command) = tool(folder.path()) else { return };
    let output = folder.path().join("report.json");
    let json = crate::support::json(command.arg("--output").arg(&output));
    for peer in ["ort", "openvino", "tract", "mnn", "mnn-sparse", "deepsparse"] {
        let absent = json["engines"][peer]["absent"].as_str().unwrap_or_default();
        assert!(absent.contains("python given"), "{peer}: {}", json["engines"]);
    }
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| row["zeros"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(90)]);
    for row in rows {
        let ours = engine(row, "sentei");
        assert_eq!((&ours["same_bits"], &row["best"], &row["reference"]), (&true.into(), &Value::Null, &Value::Null));
        assert_eq!(ours["rounds"].as_array().map(Vec::len), Some(2));
        assert!(
            ours["p50_ms"]["median"].as_f64() > Some(0.0) && ours["ready_ms"]["median"].as_f64() > Some(0.0),
            "{ours}"
        );
    }
    assert!(
        folder.path().join("small_s90.sentei.onnx").is_file() && !folder.path().join("small_s0.sentei.onnx").exists()
    );
    let kept: Value = serde_json::from_slice(&std::fs::read(output).expect("report")).expect("JSON");
    assert_eq!(kept, json);
}

#[test]
fn a_model_that_is_not_there_is_named_with_those_that_are() {
    let folder = models();
    let Some(mut command) = tool(folder.path()) else { return };
    let (code, text) = crate::support::failure(command.args(["--models", "large"]));
    assert!(code == 1 && text.contains("large_sZEROS.onnx") && text.contains("small"), "{code} {text}");
}

#[test]
fn outputs_agree_with_onnx_runtime_and_a_peer_that_computes_something_else_is_never_the_best() {
    let python: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    if !python.is_file() {
        assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none(), "{} is missing", python.display());
        eprintln!("SKIPPED: {TEST}: no {} (tools/test makes it)", python.display());
        return;
    }
    let folder = models();
    let fake = tempfile::tempdir().expect("temporary folder");
    // stands for an engine that is very fast because it does nothing
    std::fs::write(
        fake.path().join("openvino.py"),
        "import numpy\nclass Core:\n    compile_model = lambda s, *a: s\n    create_infer_request = lambda s: s\n    \
         infer = lambda s, feed: [numpy.zeros((1, 8, 9, 7), 'f')]\n",
    )
    .expect("module");
    let about = fake.path().join("openvino-0.0.dist-info");
    std::fs::create_dir(&about).expect("folder");
    std::fs::write(about.join("METADATA"), "Metadata-Version: 2.1\nName: openvino\nVersion: 0.0\n").expect("metadata");
    let Some(mut command) = tool(folder.path()) else { return };
    command.arg("--python").arg(python).args(["--engines", "ort,openvino"]).env("PYTHONPATH", fake.path());
    let json = crate::support::json(&mut command);
    for row in json["rows"].as_array().expect("rows") {
        assert_eq!((&row["reference"], &row["best"]), (&"ort".into(), &"ort".into()));
        assert_eq!(engine(row, "sentei")["agrees"], true, "{row}");
        assert_eq!(engine(row, "openvino")["agrees"], false);
        assert_eq!(row["ratio_ort"], engine(row, "ort")["ratio"]);
        assert!(row["ratio_ort"]["low"].as_f64() <= row["ratio_ort"]["high"].as_f64());
    }
}
