//! The whole flow on small images: accuracy, density and bytes within bounds, every file of the run folder, and what
//! happens when the run is cut off, tampered with, or misses its gate.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{QUICK, failure, json, sentei, write_images};
use serde_json::Value;

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    write_images(&folder.path().join("images"), 60);
    std::fs::write(folder.path().join("quick.toml"), QUICK).expect("recipe");
    folder
}

fn shrink(folder: &Path, run: &str, more: &[&str]) -> assert_cmd::Command {
    let mut command = sentei();
    command.current_dir(folder).args([
        "shrink",
        "--recipe",
        "quick.toml",
        "--data",
        "images",
        "-o",
        run,
        "--json",
        "--quiet",
    ]);
    command.args(more);
    command
}

#[test]
fn images_become_a_small_proven_model_with_a_report() {
    let folder = workplace();
    let found = json(&mut shrink(folder.path(), "run", &["--int8"]));
    let number =
        |path: &str| found.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {found}"));

    assert!(number("/baseline/accuracy") >= 0.9, "{found}");
    assert!(number("/pruned/accuracy") >= number("/baseline/accuracy") - 0.12, "{found}");
    assert!((number("/sparsity") - 0.8).abs() < 1e-9);
    let (params, nonzero) = (number("/baseline/params"), number("/pruned/nonzero"));
    assert!(nonzero / params < 0.25, "{nonzero} of {params}");
    assert!(number("/baseline/file_bytes") / number("/pruned/file_bytes") > 3.5, "{found}");
    assert!(number("/variants/1/file_bytes") < number("/pruned/file_bytes"), "int8 is smaller");
    let in_bytes = &found["variants"][2];
    assert!(in_bytes["name"].as_str().is_some_and(|name| name.ends_with("zeros, f32 (int8)")), "{in_bytes}");
    assert_eq!(in_bytes["file_bytes"], found["pruned"]["file_bytes"], "the same file, run in another way");
    assert!(number("/variants/2/accuracy") >= number("/pruned/accuracy") - 0.05 && number("/variants/2/p50_ms") > 0.0);
    for key in
        ["gzip_bytes", "weight_bytes", "macs", "p50_ms", "steady_rss_bytes", "peak_rss_bytes", "balanced_accuracy"]
    {
        number(&format!("/baseline/{key}"));
        number(&format!("/pruned/{key}"));
    }

    let run = folder.path().join("run");
    let report: Value =
        serde_json::from_slice(&std::fs::read(run.join("report.json")).expect("report")).expect("report.json is JSON");
    for layer in report["pruned"][0]["layers"].as_array().expect("layers") {
        assert!(layer["time_ns"].as_u64().is_some_and(|ns| ns > 0), "{layer} has a time");
        assert!(layer["nonzero"].as_u64() <= layer["weights"].as_u64(), "{layer}");
    }
    for file in [
        "recipe.toml",
        "baseline.onnx",
        "pruned.onnx",
        "dense.onnx",
        "model.onnx",
        "model-i8.onnx",
        "events.jsonl",
        "lineage.json",
        "report.json",
        "report.md",
        "report.html",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    assert!(!run.join("unproven").exists() && !run.join("checkpoint.safetensors").exists());

    let verified = json(sentei().current_dir(folder.path()).args(["verify", "run", "--json"]));
    assert_eq!(verified["intact"], true);

    let verdicts = json(sentei().current_dir(folder.path()).args(["run", "run/model.onnx", "images/line", "--json"]));
    let lines = verdicts["verdicts"].as_array().expect("a list");
    let right = lines.iter().filter(|v| v["class"] == "line").count();
    assert!(right * 10 >= lines.len() * 8, "{right} of {} lines are recognised", lines.len());

    let again = json(sentei().current_dir(folder.path()).args(["report", "run", "--json"]));
    assert_eq!(again["written"].as_array().map(Vec::len), Some(4));
    json(sentei().current_dir(folder.path()).args(["verify", "run", "--json"]));

    let mut bytes = std::fs::read(run.join("model.onnx")).expect("model");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(run.join("model.onnx"), bytes).expect("written");
    let (code, text) = failure(sentei().current_dir(folder.path()).args(["verify", "run"]));
    assert_eq!(code, 1);
    assert!(text.contains("model.onnx was changed"), "{text}");
}

#[test]
fn a_missed_gate_is_exit_code_3_and_leaves_no_model() {
    let folder = workplace();
    let gate = format!("{QUICK}\n[gate]\nmin_size_ratio = 1000.0\n");
    std::fs::write(folder.path().join("quick.toml"), gate).expect("recipe");
    let (code, text) = failure(&mut shrink(folder.path(), "run", &["--epochs", "1", "--retrain-epochs", "1"]));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("1000"), "{text}");
    let run = folder.path().join("run");
    assert!(!run.join("model.onnx").exists() && run.join("report.html").exists() && run.join("pruned.onnx").exists());
}

#[test]
fn a_run_that_is_killed_resumes_to_the_same_bytes() {
    let folder = workplace();
    json(&mut shrink(folder.path(), "whole", &["--bench-seconds", "0.05"]));

    let program = assert_cmd::cargo::cargo_bin("sentei");
    let mut child = std::process::Command::new(program)
        .current_dir(folder.path())
        .args([
            "shrink",
            "--recipe",
            "quick.toml",
            "--data",
            "images",
            "-o",
            "cut",
            "--bench-seconds",
            "0.05",
            "--quiet",
        ])
        .spawn()
        .expect("starts");
    let checkpoint = folder.path().join("cut/checkpoint.safetensors");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !checkpoint.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(checkpoint.exists(), "the run was cut off in the middle of its training");

    json(sentei().current_dir(folder.path()).args(["shrink", "--resume", "cut", "--json", "--quiet"]));
    for file in ["baseline.onnx", "pruned.onnx", "model.onnx", "model-i8.onnx"] {
        let read = |run: &str| std::fs::read(folder.path().join(run).join(file)).expect(file);
        assert!(read("whole") == read("cut"), "{file} differs after a kill and a resume");
    }
}

#[test]
fn a_folder_with_a_run_is_left_alone() {
    let folder = workplace();
    std::fs::create_dir(folder.path().join("run")).expect("folder");
    std::fs::write(folder.path().join("run/recipe.toml"), "seed = 77").expect("recipe");
    let (code, text) = failure(&mut shrink(folder.path(), "run", &[]));
    assert_eq!(code, 1);
    assert!(text.contains("--resume"), "{text}");
    assert_eq!(std::fs::read_to_string(folder.path().join("run/recipe.toml")).expect("recipe"), "seed = 77");
}

#[test]
fn a_profile_says_where_the_time_of_training_went() {
    let folder = workplace();
    let train = |more: &[&str]| {
        let args = ["train", "--recipe", "quick.toml", "--data", "images", "--epochs", "1", "-o", "a.onnx"];
        let done = sentei().current_dir(folder.path()).args(args).args(more).output().expect("sentei runs");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stderr).expect("text")
    };
    let text = train(&["--profile"]);
    let table = text.split_once("Where the time of `train` went").expect("a table").1;
    for part in ["Conv", "forward", "input gradient", "weight gradient", "BatchNorm", "optimiser", "loading", "%"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
    assert!(!train(&[]).contains("Where the time"));
}

#[test]
fn an_imported_onnx_file_goes_through_the_single_verbs() {
    let folder = workplace();
    let at = |args: &[&str]| {
        let mut command = sentei();
        command.current_dir(folder.path()).args(args).args(["--json", "--quiet"]);
        command
    };
    let data = ["--recipe", "quick.toml", "--data", "images"];
    json(&mut at(&[&["train", "-o", "a.onnx", "--initial", "i.onnx", "--epochs", "2"], &data[..]].concat()));
    let kept = |found: &serde_json::Value| (found["density"].as_f64().expect("density") - 0.2).abs() < 1e-3;
    for (model, method) in [("i.onnx", "snip"), ("i.onnx", "rigl"), ("a.onnx", "weight-rewind")] {
        let initial: &[&str] = if method == "weight-rewind" { &["--initial", "i.onnx"] } else { &[] };
        let args = ["prune", model, "--method", method, "--density", "0.2", "--epochs", "1", "-o", "m.onnx"];
        let found = json(&mut at(&[&args[..], initial, &data[..]].concat()));
        assert!(kept(&found) && found["method"] == method && found["history"][0]["accuracy_after"].is_f64(), "{found}");
    }
    let pruned = json(&mut at(&[
        "prune",
        "a.onnx",
        "--method",
        "magnitude",
        "--density",
        "0.1",
        "--no-retrain",
        "-o",
        "b.onnx",
    ]));
    assert!((pruned["density"].as_f64().expect("density") - 0.1).abs() < 1e-3, "{pruned}");
    let retrained =
        json(&mut at(
            &[&["prune", "a.onnx", "--density", "0.2", "--retrain-epochs", "1", "-o", "r.onnx"], &data[..]].concat()
        ));
    assert!((retrained["density"].as_f64().expect("density") - 0.2).abs() < 1e-3, "{retrained}");
    let scan = json(&mut at(&[&["analyze", "sensitivity", "a.onnx", "--samples", "10"], &data[..]].concat()));
    assert_eq!(scan["scans"].as_array().map(Vec::len), Some(5), "the first layer is left out by the recipe");
    let question =
        ["analyze", "limit", "a.onnx", "--samples", "40", "--fine-tune-epochs", "1", "--fine-tune-points", "1"];
    let limit = |steps: &'static str| [&question[..], &data[..], &["--steps", steps, "-o", "limit"]].concat();
    let limits = json(&mut at(&limit("8")));
    let network = &limits["networks"][0];
    let predicted = network["prediction"]["sparsity"].as_f64().expect("prediction");
    assert!(predicted > 0.0 && predicted < 1.0, "{network}");
    assert_eq!(network["at_prediction"]["sparsity"].as_f64(), Some(predicted), "the curve has a point there");
    assert!(network["tuned_limit"].as_f64() >= network["knee"]["accuracy"].as_f64(), "{network}");
    for file in ["report.md", "report.json", "limit.svg", "loss.svg"] {
        assert!(folder.path().join("limit").join(file).exists(), "{file}");
    }
    assert_eq!(json(&mut at(&limit("8"))), limits, "a finished study is read, not made again");
    let (code, why) = failure(&mut at(&limit("9")));
    assert!(code == 1 && why.contains("another plan"), "{why}");
    let compiled = json(&mut at(&["compile", "b.onnx", "-o", "c.onnx", "--values", "i8"]));
    assert!(compiled["file_bytes"].as_u64() < compiled["dense_bytes"].as_u64());
    let inspected = json(&mut at(&["inspect", "c.onnx"]));
    for key in ["opset", "params", "nonzero", "macs", "dense_macs", "unsupported", "layers"] {
        assert!(inspected.get(key).is_some(), "{key}");
    }
    let benched = json(&mut at(&[
        "bench",
        "a.onnx",
        "c.onnx",
        "--engine",
        "tract",
        "--threads",
        "1",
        "--seconds",
        "0.1",
        "--per-layer",
    ]));
    let row = &benched["rows"][1];
    for key in [
        "model",
        "engine",
        "provider",
        "load_ms",
        "first_ms",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "samples",
        "file_bytes",
        "weight_bytes",
        "arena_bytes",
        "peak_heap_bytes",
        "steady_rss_bytes",
        "ratio",
        "ratio_low",
        "ratio_high",
    ] {
        assert!(!row[key].is_null(), "{key} in {row}");
    }
}

#[test]
fn blocks_leave_a_network_by_number_and_by_rank_and_the_controls_are_paired() {
    let folder = workplace();
    let at = |args: &[&str]| {
        let mut command = sentei();
        command.current_dir(folder.path()).args(args).args(["--json", "--quiet"]);
        command
    };
    let data = ["--recipe", "quick.toml", "--data", "images"];
    let with = |args: &[&'static str]| [args, &data[..]].concat();
    json(&mut at(&with(&["train", "-o", "a.onnx", "--model", "resnet20", "--epochs", "1"])));
    let prune = ["prune", "a.onnx", "--method", "sr-init"];
    let by = |args: &[&'static str]| [&prune[..], args].concat();

    let named = json(&mut at(&by(&["--blocks", "4,1", "--no-retrain", "-o", "n.onnx"])));
    assert_eq!((&named["removed"], &named["after"]["blocks"]), (&serde_json::json!([1, 4]), &serde_json::json!(7)));

    let ranking = json(&mut at(&with(&["analyze", "layers", "a.onnx", "--repeats", "2", "-o", "layers"])));
    assert_eq!(ranking["blocks"].as_array().map(Vec::len), Some(9));
    let cheapest = &ranking["cheapest"][2];
    let study = ["--drop-blocks", "2", "--repeats", "2", "--retrain-epochs", "1", "--controls", "1", "--seeds", "2"];
    let compare = by(&with(&[&study[..], &["-o", "s.onnx"]].concat()));
    let found = json(&mut at(&compare));
    assert_eq!((&found["removed"], &found["after"]["params"]), (&cheapest["removed"], &cheapest["params"]));
    let rows = found["comparison"]["rows"].as_array().expect("rows");
    let variants: Vec<&str> = rows.iter().map(|row| row["variant"].as_str().expect("name")).collect();
    assert_eq!(variants, ["ranked", "random", "dense", "scratch"]);
    assert!(rows[1..].iter().all(|row| row["chosen_ahead_by"]["n"] == 2), "{rows:?}");
    let runs = found["comparison"]["runs"].as_array().expect("runs");
    assert!(runs.len() == 8 && runs.iter().all(|run| run["split"] == "test"), "{runs:?}");
    let again = json(&mut at(&compare));
    assert_eq!(again["comparison"]["runs"], found["comparison"]["runs"], "what is trained is read, not made again");
    assert!(folder.path().join("s-study/report.md").exists() && folder.path().join("layers/drops.svg").exists());

    let refused = |args: &[&'static str], why: &str| {
        let (code, text) = failure(&mut at(&by(args)));
        assert!(code != 0 && text.contains(why), "{text}");
    };
    refused(&["--blocks", "3", "--no-retrain", "-o", "x.onnx"], "block 3");
    refused(&["--blocks", "1", "--no-retrain", "--study", "x", "-o", "x.onnx"], "--no-retrain");
    refused(&with(&["--drop-blocks", "2", "--retrain-epochs", "0", "-o", "x.onnx"]), "epochs");
    let beyond = ["--blocks", "1", "--seed", "18446744073709551615", "--seeds", "2", "-o", "x.onnx"];
    refused(&with(&beyond), "--seed and --seeds");
    assert!(!folder.path().join("x.onnx").exists());
}

#[test]
fn signs_and_magnitudes_are_told_apart_and_a_finished_study_is_read() {
    let folder = workplace();
    let at = |args: &[&str]| {
        let mut command = sentei();
        command.current_dir(folder.path()).args(["analyze", "signs", "--recipe", "quick.toml", "--data", "images"]);
        command.args(["--epochs", "1", "--retrain-epochs", "1", "--seeds", "2"]).args(args).args(["--json", "--quiet"]);
        command
    };
    let found = json(&mut at(&["--sparsity", "0.8", "-o", "signs"]));
    assert_eq!((&found["done"], &found["jobs"]), (&serde_json::json!(12), &serde_json::json!(12)));
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row["arm"] == "neither" || row["difference"]["n"] == 2), "{rows:?}");
    assert!(found["verdicts"][0].as_str().is_some_and(|v| v.contains("2 seeds")), "{found}");
    assert_eq!(json(&mut at(&["--sparsity", "0.8", "-o", "signs"])), found);
    let (code, why) = failure(&mut at(&["--sparsity", "0.8,0.8", "-o", "twice"]));
    assert!(code == 2 && why.contains("twice"), "{why}");
}
