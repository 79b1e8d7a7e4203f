//! Studies of `analyze`: what is finished is never done again, and one failure does not take the rest along.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{QUICK, failure, json, sentei, write_images};

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    write_images(&folder.path().join("images"), 24);
    std::fs::write(folder.path().join("quick.toml"), QUICK).expect("recipe");
    folder
}

fn analyze(at: &Path, question: &str, more: &[&str]) -> assert_cmd::Command {
    let mut command = sentei();
    command.current_dir(at).args(arguments(question, more));
    command
}

fn arguments<'a>(question: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["analyze", question, "--recipe", "quick.toml", "--data", "images", "--epochs", "1"];
    [&fixed, more, &["--quiet", "--json"]].concat()
}

/// A report without what depends on the clock.
fn timeless(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("seconds");
                map.values_mut().for_each(walk);
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[test]
fn a_killed_study_of_initial_masks_goes_on_and_reports_the_same() {
    let folder = workplace();
    let at = folder.path();
    let settings = |output| {
        let few = ["--methods", "random-erk", "--variants", "original,shuffle", "--sparsity", "0.8", "--seeds", "1"];
        [&few[..], &["-o", output]].concat()
    };
    let whole = json(&mut analyze(at, "init", &settings("whole")));
    assert_eq!(whole["failed"], 0, "{whole}");

    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    command.current_dir(at).args(arguments("init", &settings("cut"))).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    let (first, last) = (at.join("cut/results/0000.json"), at.join("cut/results/0004.json"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while !first.exists() {
        assert!(Instant::now() < deadline, "no result came");
        std::thread::sleep(Duration::from_millis(3));
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(!last.exists() && !at.join("cut/report.json").exists(), "it was cut off in the middle");

    let written = || std::fs::metadata(&first).and_then(|file| file.modified()).expect("there");
    let before = (std::fs::read(&first).expect("there"), written());
    json(&mut analyze(at, "init", &settings("cut")));
    assert!((std::fs::read(&first).expect("there"), written()) == before, "the finished training was not done again");
    let read = |name: &str, file: &str| std::fs::read_to_string(at.join(name).join(file)).expect("there");
    let numbers = |name| timeless(serde_json::from_str(&read(name, "report.json")).expect("parses"));
    assert_eq!(numbers("cut"), numbers("whole"));
    assert_eq!(numbers("cut")["arms"].as_array().map(Vec::len), Some(5));
    assert_eq!(read("cut", "report.md"), read("whole", "report.md"));
}

#[test]
fn a_failed_training_of_the_limit_leaves_the_others_to_be_reported() {
    let folder = workplace();
    let at = folder.path();
    let study = || {
        let few = ["--seeds", "2", "--steps", "4", "--probes", "1", "--samples", "32", "--fine-tune-epochs", "0"];
        analyze(at, "limit", &[&few[..], &["-o", "limit"]].concat())
    };
    // The first training finds no file where its checkpoint would be.
    let in_the_way = at.join("limit").join("work").join("0000").join("train.safetensors");
    std::fs::create_dir_all(&in_the_way).expect("folder");
    let (code, text) = failure(&mut study());
    assert!(code == 1 && text.contains("1 trainings failed") && text.contains("recipe, seed 0"), "{text}");
    let report = || -> Value {
        serde_json::from_slice(&std::fs::read(at.join("limit/report.json")).expect("there")).expect("parses")
    };
    let seeds = |report: &Value| {
        let networks = report["networks"].as_array().expect("list");
        networks.iter().filter_map(|n| n["seed"].as_u64()).collect::<Vec<_>>()
    };
    let partial = report();
    assert_eq!((seeds(&partial), partial["failed"].as_array().map(Vec::len)), (vec![1], Some(1)), "{partial}");
    let page = std::fs::read_to_string(at.join("limit/report.md")).expect("there");
    assert!(page.contains("## Not finished (1)") && page.contains("- recipe, seed 0: "), "{page}");

    std::fs::remove_dir(&in_the_way).expect("removed");
    json(&mut study());
    let all = report();
    assert_eq!((seeds(&all), &all["failed"]), (vec![0, 1], &json!([])), "a second try heals");
}

#[test]
fn a_flag_without_effect_is_refused_by_its_name() {
    let folder = workplace();
    let at = folder.path();
    let refused = |command: &mut assert_cmd::Command, flag: &str| {
        let (code, text) = failure(command);
        assert!(code == 2 && text.contains(flag), "{flag}: {code} {text}");
    };
    for question in ["init", "limit", "signs"] {
        refused(&mut analyze(at, question, &["--ok-class", "good", "-o", "o"]), "--ok-class");
    }
    refused(&mut analyze(at, "init", &["--mean", "0.5", "--std", "0.5", "-o", "o"]), "--mean");
    refused(&mut analyze(at, "limit", &["--fine-tune-epochs", "0", "--fine-tune-points", "3"]), "--fine-tune-points");
    refused(
        &mut analyze(at, "signs", &["--mask", "random-erk", "--retrain-epochs", "2", "-o", "o"]),
        "--retrain-epochs",
    );
    let plan = |more: &[&str]| {
        let mut command = sentei();
        command.current_dir(at).args(["sweep", "plan", "--methods", "random-erk", "-o", "o"]).args(more);
        command
    };
    refused(&mut plan(&["--ok-class", "good"]), "--ok-class");
    refused(&mut plan(&["--retrain-epochs", "2"]), "--retrain-epochs");
    let on_model = |verb: &[&str], more: &[&str]| {
        let mut command = sentei();
        command.current_dir(at).args(verb).args(["resnet8", "--recipe", "quick.toml", "--data", "images"]).args(more);
        command
    };
    let (layers, sr_init) = (["analyze", "layers"], ["prune", "--method", "sr-init", "-o", "o.onnx"]);
    refused(&mut on_model(&layers, &["--rerank", "3"]), "--rerank");
    refused(&mut on_model(&layers, &["--ok-class", "good"]), "--ok-class");
    refused(&mut on_model(&layers, &["--train-limit", "9"]), "--train-limit");
    refused(&mut on_model(&["analyze", "sensitivity"], &["--train-limit", "9"]), "--train-limit");
    refused(&mut on_model(&sr_init, &["--blocks", "1", "--metric", "balanced"]), "--metric");
    refused(
        &mut on_model(&sr_init, &["--blocks", "1", "--seeds", "2", "--metric", "balanced", "--samples", "9"]),
        "--samples",
    );
    refused(&mut on_model(&sr_init, &["--blocks", "1", "--seeds", "2", "--resume"]), "--resume");
    refused(&mut on_model(&["prune", "-o", "o.onnx"], &["--density", "0.5", "--ok-class", "good"]), "--ok-class");
    assert!(!at.join("o").exists() && !at.join("o.onnx").exists(), "nothing was begun");
}
