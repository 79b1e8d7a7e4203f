//! The program as a board has it: models named, a model inside, and what it says when something is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sentei_runner::self_test::SelfTest;
use sentei_runner::{embedded, files};
use sentei_runtime::engine_named;
use serde_json::Value;

/// A packed model of the runtime room, with a self-test.
fn model() -> Vec<u8> {
    fixture("residual_packed.onnx")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures").join(name);
    let bytes = files::read(&path).unwrap();
    SelfTest::expected(&*engine_named("tract").unwrap(), &bytes).unwrap().append_to(bytes)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    files::write_atomic(&path, bytes).unwrap();
    path
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    Command::new(program.as_ref()).args(arguments).output().unwrap()
}

fn runner(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_sentei-run"), arguments)
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(output.stdout.is_empty(), "no number is given");
}

#[test]
fn a_model_passes_its_self_test_and_a_changed_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.onnx", &model());
    let found = json(&runner(&["self-test", good.to_str().unwrap(), "--json"]));
    assert_eq!(found["passed"], true);
    assert!(found["difference"].as_f64().unwrap() < 1e-5);

    // the expectation of another model
    let bytes = files::read(&good).unwrap();
    let mut other = SelfTest::expected(&*engine_named("tract").unwrap(), &bytes).unwrap();
    other.outputs[0].values[0] += 1.0;
    let wrong = write(folder.path(), "wrong.onnx", &other.append_to(bytes));
    refused(&runner(&["self-test", wrong.to_str().unwrap()]), 4, "wrong.onnx: self-test failed");
    refused(&runner(&["bench", wrong.to_str().unwrap(), "--seconds", "0.1"]), 4, "no number is reported");
}

#[test]
fn bench_gives_what_the_contract_names_and_keeps_raw_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "m.onnx", &model());
    let samples = folder.path().join("samples.json");
    let model = path.to_str().unwrap();
    let words =
        ["bench", model, model, "--seconds", "0.1", "--rounds", "12", "--json", "--output", samples.to_str().unwrap()];
    let found = json(&runner(&words));
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for key in ["p50_ms", "load_ms", "first_ms", "steady_rss_bytes", "peak_heap_bytes", "weight_bytes", "file_bytes"] {
        assert!(rows[1][key].as_f64().is_some_and(|value| value > 0.0), "{key} in {}", rows[1]);
    }
    assert!(rows[1]["self_test"]["difference"].as_f64().is_some());
    assert!(found["board"]["runner"].is_string() && found["machine"]["libc"].is_string());
    let raw: sentei_report::record::Bench = serde_json::from_slice(&files::read(&samples).unwrap()).unwrap();
    assert!(raw.rows[0].latency.samples_ns.len() >= 12);
}

#[test]
fn convolutions_in_bytes_prove_themselves_and_are_measured_beside_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "m.onnx", &fixture("bytes_packed.onnx"));
    let model = path.to_str().unwrap();
    let found = json(&runner(&["self-test", model, "--kernels", "int8", "--json"]));
    let kernels = found["kernels"].as_array().unwrap();
    let in_bytes = kernels.iter().filter(|layer| layer["kernel"].as_str().unwrap().starts_with("i8_dot")).count();
    assert!(found["passed"] == true && in_bytes == 2, "{found}");
    let words = ["bench", model, "--kernels", "measure,int8", "--seconds", "0.1", "--rounds", "5", "--json"];
    let found = json(&runner(&words));
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["model"].as_str().unwrap()).collect();
    assert_eq!(names, [format!("{model} (measure)"), format!("{model} (int8)")]);
    // a byte and its place instead of a number and its place
    let bytes = |row: usize| rows[row]["weight_bytes"].as_u64().unwrap();
    assert!(bytes(1) > 0 && bytes(1) != bytes(0), "{} and {}", bytes(0), bytes(1));
}

#[test]
fn a_program_with_a_model_inside_needs_no_file_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = files::read(Path::new(env!("CARGO_BIN_EXE_sentei-run"))).unwrap();
    let model = model();
    let path = write(folder.path(), "camera", &embedded::attach(&program, &model));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let found = json(&run(&path, &["info", "--json"]));
    assert_eq!(found["model"]["sha256"], files::sha256(&model));
    assert_eq!(json(&run(&path, &["self-test", "--json"]))["passed"], true);
    let found = json(&run(&path, &["bench", "--seconds", "0.1", "--rounds", "5", "--json"]));
    assert!(found["rows"][0]["steady_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn what_is_wrong_is_said_with_a_code_and_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    refused(&runner(&["bench"]), 2, "name an .onnx file");
    refused(&runner(&["bench", "/no/such.onnx"]), 1, "/no/such.onnx");
    refused(&runner(&["dance"]), 2, "dance");
    let broken = write(folder.path(), "broken.onnx", b"no model at all");
    refused(&runner(&["bench", broken.to_str().unwrap()]), 1, "broken.onnx");
    let mut cut = model();
    cut.truncate(cut.len() / 2);
    let cut = write(folder.path(), "cut.onnx", &cut);
    refused(&runner(&["self-test", cut.to_str().unwrap()]), 1, "cut.onnx");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures/residual_packed.onnx");
    refused(&runner(&["self-test", path.to_str().unwrap()]), 1, "carries no self-test");
    let whole = write(folder.path(), "m.onnx", &model());
    let image = write(folder.path(), "x.png", b"");
    refused(&runner(&["run", whole.to_str().unwrap(), image.to_str().unwrap()]), 1, "classes and pixel scaling");
    refused(&runner(&["bench", whole.to_str().unwrap(), "--byte-budget", "100"]), 6, "--byte-budget");
}
