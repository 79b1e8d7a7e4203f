//! A sweep is numbered jobs in a folder: whoever runs them, in whatever order, killed or not, the results are the same.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{QUICK, failure, has_slurm, json, sentei, write_images};

/// Jobs of [`plan`], by index: the dense network, then `magnitude` and `random-erk` at 80 % and at 90 %.
const DENSE: usize = 0;
const MAGNITUDE: usize = 1;
const RANDOM: usize = 2;
const JOBS: usize = 5;

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    write_images(&folder.path().join("images"), 24);
    std::fs::write(folder.path().join("quick.toml"), QUICK).expect("recipe");
    folder
}

fn sweep(at: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = sentei();
    command.current_dir(at).arg("sweep").args(arguments);
    command
}

fn plan(at: &Path, folder: &str, epochs: &str, more: &[&str]) -> assert_cmd::Command {
    let fixed = ["plan", "--recipe", "quick.toml", "--data", "images", "--methods", "magnitude,random-erk"];
    let mut command = sweep(at, &fixed);
    command.args(["--sparsities", "0.8,0.9", "--seeds", "1", "--epochs", epochs, "--retrain-epochs", epochs]);
    command.args(["-o", folder, "--json", "--quiet"]).args(more);
    command
}

fn job(at: &Path, folder: &str, index: usize) -> Value {
    json(&mut sweep(at, &["run", folder, "--index", &index.to_string(), "--json", "--quiet"]))
}

fn collect(at: &Path, folder: &str) -> Value {
    json(&mut sweep(at, &["collect", folder, "--json", "--quiet"]))
}

/// The program in the background.
fn start(at: &Path, arguments: &[&str]) -> Child {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    command.current_dir(at).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("starts")
}

#[track_caller]
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !there() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A result without what depends on the clock.
fn timeless(mut result: Value) -> Value {
    result["seconds"] = json!(null);
    result
}

#[test]
fn jobs_run_in_any_order_once_and_are_collected_as_far_as_they_are() {
    let folder = workplace();
    let at = folder.path();
    let planned = json(&mut plan(at, "s", "2", &[]));
    assert_eq!(planned["jobs"], JOBS);
    assert!(planned["estimated_seconds"].as_f64().is_some_and(|s| s > 0.0), "{planned}");

    // Starts from the dense network, which it has to train by itself.
    let first = job(at, "s", MAGNITUDE);
    assert_eq!((&first["ran"], &first["result"]["parent_epochs"]), (&json!(true), &json!(2)), "{first}");
    let file = at.join("s/results/0001.json");
    let (bytes, written) = (std::fs::read(&file).expect("result"), std::fs::metadata(&file).expect("file").modified());
    assert_eq!(job(at, "s", MAGNITUDE)["ran"], false, "a second time there is nothing to do");
    assert!(std::fs::read(&file).expect("result") == bytes);
    assert_eq!(std::fs::metadata(&file).expect("file").modified().ok(), written.ok());
    job(at, "s", RANDOM);

    let some = collect(at, "s");
    assert_eq!((&some["done"], &some["missing"]), (&json!(2), &json!([0, 3, 4])), "{some}");
    let page = std::fs::read_to_string(at.join("s/report.md")).expect("report");
    assert!(page.contains("2 of 5 jobs") && page.contains("job 3 (magnitude at 90.0 %, seed 0) is not done"), "{page}");

    let all = json(&mut sweep(at, &["local", "s", "-j", "2", "--json", "--quiet"]));
    assert_eq!((&all["done"], &all["missing"], &all["failed"]), (&json!(JOBS), &json!([]), &json!([])), "{all}");
    let dense = all["jobs"][DENSE]["seconds"].as_f64().expect("seconds");
    let noted = std::fs::read_to_string(at.join("s/parents/seed-0.seconds.txt")).expect("written by another job");
    assert_eq!(noted.trim().parse().ok(), Some(dense), "the time of the training, not of reading its result");
    for result in all["jobs"].as_array().expect("jobs") {
        let asked = result["job"]["sparsity"].as_f64().expect("sparsity");
        let sum = |key: &str| {
            let layers = result["layers"].as_array().expect("layers");
            layers.iter().map(|layer| layer[key].as_u64().expect("count")).sum::<u64>() as f64
        };
        assert_eq!(sum("kept"), (sum("weights") * (1.0 - asked)).round(), "{result}");
        assert!(
            (result["density"].as_f64().expect("density") - sum("kept") / sum("weights")).abs() < 1e-12,
            "{result}"
        );
        for split in ["val", "test"] {
            let found = result[split]["balanced_accuracy"].as_f64();
            assert!(found.is_some_and(|a| (0.0..=1.0).contains(&a)), "{split} of {result}");
        }
    }
    let random = all["cells"].as_array().expect("cells").iter().find(|c| c["method"] == "random-erk").expect("a cell");
    assert_eq!(random["difference"]["n"], 1, "paired with magnitude by its seed: {random}");
    for name in ["report.md", "report.json", "jobs.csv", "accuracy.svg"] {
        assert!(at.join("s").join(name).exists(), "{name}");
    }
    let lines = std::fs::read_to_string(at.join("s/jobs.csv")).expect("csv").lines().count();
    assert_eq!(lines, JOBS + 1);
}

#[test]
fn another_plan_or_other_images_are_refused() {
    let folder = workplace();
    let at = folder.path();
    json(&mut plan(at, "s", "1", &[]));
    json(&mut plan(at, "s", "1", &[]));
    let (code, text) = failure(&mut plan(at, "s", "3", &[]));
    assert!(code == 1 && text.contains("recipe.prune.retrain.epochs") && text.contains("1 there, 3 now"), "{text}");
    let (code, text) = failure(&mut plan(at, "t", "1", &["--methods", "magnitud"]));
    assert!(code == 2 && text.contains("magnitud") && text.contains("random-erk"), "{text}");
    assert!(!at.join("t").exists(), "nothing was begun");
    for (method, why) in [("dense", "no method to compare"), ("sr-init", "prune --method sr-init")] {
        let (code, text) = failure(&mut sweep(at, &["plan", "--methods", method, "-o", "t"]));
        assert!(code == 2 && text.contains(why), "{method}: {text}");
    }
    let (code, text) = failure(&mut sweep(at, &["plan", "--methods", "magnitude", "--seeds", "2000000000", "-o", "t"]));
    assert!(code == 2 && text.contains("--seeds") && text.contains("1 to 1000"), "{text}");
    let (code, text) = failure(&mut plan(at, "t", "1", &["--model", "vgg16", "--size", "3"]));
    assert!(code == 1 && !text.is_empty(), "{text}");
    assert!(!at.join("t").exists(), "a network that does not fit leaves no plan behind");
    let (_, text) = failure(&mut sweep(at, &["run", "s", "--index", "5"]));
    assert!(text.contains("jobs 0 to 4"), "{text}");

    std::fs::remove_file(at.join("images/good/000.pgm")).expect("removed");
    let (code, text) = failure(&mut sweep(at, &["run", "s", "--index", "0"]));
    assert!(code == 1 && text.contains("are not those of the plan"), "{text}");
}

#[test]
fn a_job_that_fails_is_named_and_leaves_the_others_alone() {
    let folder = workplace();
    let at = folder.path();
    json(&mut plan(at, "s", "1", &[]));
    // Whoever starts from the dense network fails on this.
    std::fs::create_dir(at.join("s/parents")).expect("folder");
    std::fs::write(at.join("s/parents/seed-0.onnx"), [0x0f; 99]).expect("file");
    let (code, text) = failure(&mut sweep(at, &["local", "s", "-j", "2"]));
    assert!(code == 1 && text.contains("3 jobs failed"), "{text}");
    let some = collect(at, "s");
    assert_eq!(some["done"], 2, "{some}");
    assert!(!at.join("s/parents/seed-0.seconds.txt").exists(), "nobody trained it");
    let failed = some["failed"].as_array().expect("list");
    assert_eq!(failed.iter().map(|f| f["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(3)]);
    assert!(failed[0]["error"].as_str().is_some_and(|e| e.contains("seed-0.onnx")), "{some}");

    std::fs::remove_file(at.join("s/parents/seed-0.onnx")).expect("removed");
    let all = json(&mut sweep(at, &["local", "s", "--json", "--quiet"]));
    assert_eq!((&all["done"], &all["failed"]), (&json!(JOBS), &json!([])), "a second try heals: {all}");
}

#[test]
fn a_job_that_is_killed_goes_on_and_ends_in_the_same_result() {
    let folder = workplace();
    let at = folder.path();
    for name in ["whole", "cut"] {
        json(&mut plan(at, name, "8", &[]));
    }
    let whole = job(at, "whole", MAGNITUDE);

    // Once while the dense network is being trained, once while the pruned one is.
    let (parents, unfinished) = (at.join("cut").join("parents"), at.join("cut").join("work").join("0001"));
    for checkpoint in [parents.join("seed-0.checkpoint.safetensors"), unfinished.join("checkpoint.safetensors")] {
        let mut child = start(at, &["sweep", "run", "cut", "--index", "1", "--quiet"]);
        wait_for("a checkpoint", || checkpoint.exists());
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(checkpoint.exists(), "it was cut off in the middle");
        assert!(!at.join("cut/results/0001.json").exists());
    }
    let cut = job(at, "cut", MAGNITUDE);
    assert_eq!(cut["ran"], true);
    assert_eq!(timeless(cut["result"].clone()), timeless(whole["result"].clone()));
    assert!(!unfinished.exists(), "the checkpoint has served");
}

#[test]
fn jobs_end_with_the_runner_that_started_them() {
    let folder = workplace();
    let at = folder.path();
    json(&mut plan(at, "s", "500", &[]));
    let mut runner = start(at, &["sweep", "local", "s", "--quiet"]);
    let lock = at.join("s/locks/0000");
    let is_free = || std::fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_ok());
    wait_for("the first job", || lock.exists() && !is_free());
    runner.kill().expect("killed");
    runner.wait().expect("reaped");
    let killed = Instant::now();
    wait_for("the end of the first job", is_free);
    assert!(killed.elapsed() < Duration::from_secs(5), "500 epochs were not waited for");
    assert!(!at.join("s/results/0000.json").exists());
}

#[test]
fn the_kubernetes_manifest_is_an_indexed_job_that_calls_the_same_run() {
    let folder = workplace();
    let at = folder.path();
    json(&mut plan(at, "s", "1", &[]));
    let arguments =
        ["k8s", "s", "--image", "registry/sentei:1", "--parallelism", "3", "--claim", "shared", "--cpus", "2"];
    let text = sweep(at, &arguments).output().expect("runs").stdout;
    let manifest: Value = serde_json::from_slice(&text).expect("parses");
    let spec = &manifest["spec"];
    assert_eq!((&manifest["apiVersion"], &manifest["kind"]), (&json!("batch/v1"), &json!("Job")));
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(JOBS), &json!(3)));
    assert_eq!(spec["completionMode"], "Indexed");
    assert!(spec["backoffLimitPerIndex"].as_u64().is_some_and(|n| n > 0), "one index may fail without the others");
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never", "what backoffLimitPerIndex demands");
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry/sentei:1");
    let real = at.canonicalize().expect("there");
    let command: Vec<&str> = container["command"].as_array().expect("list").iter().filter_map(Value::as_str).collect();
    assert_eq!(command[..3], ["sentei", "sweep", "run"]);
    assert_eq!(Path::new(command[3]).canonicalize().expect("there"), real.join("s"));
    assert_eq!(command[4..], ["--index", "$(JOB_COMPLETION_INDEX)"]);
    let index = &container["env"][0];
    assert_eq!(index["name"], "JOB_COMPLETION_INDEX");
    let field = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    assert_eq!(index["valueFrom"]["fieldRef"]["fieldPath"], field);
    assert_eq!(container["env"][1], json!({ "name": "RAYON_NUM_THREADS", "value": "2" }));
    let (mount, volume) = (&container["volumeMounts"][0], &pod["volumes"][0]);
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(volume["persistentVolumeClaim"]["claimName"], "shared");
    assert!(Path::new(command[3]).starts_with(mount["mountPath"].as_str().expect("path")), "{manifest}");

    let (code, text) = failure(&mut sweep(at, &["k8s", "s", "--image", "i", "--mount", "/elsewhere"]));
    assert!(code == 2 && text.contains("--mount"), "{text}");
}

/// Submits the plan as an array, cancels the task that trains the dense network in the middle of it, waits, and submits
/// what is left.
const ON_SLURM: &str = r#"
set -eu
"$SENTEI" sweep slurm s --array-limit 2 --mem 100 >first.sh
first=$(sbatch --parsable first.sh)
for _ in $(seq 600); do [ -e s/parents/seed-0.checkpoint.safetensors ] && break; sleep 0.05; done
scancel "${first}_0"
ended() { for _ in $(seq 600); do [ -n "$(squeue -h -j "$1" 2>/dev/null)" ] || return 0; sleep 0.2; done; return 1; }
ended "$first"
"$SENTEI" sweep collect s --json --quiet >between.json
"$SENTEI" sweep slurm s >second.sh
second=$(sbatch --parsable second.sh)
ended "$second"
"$SENTEI" sweep collect s --json --quiet >after.json
"#;

#[test]
fn a_slurm_array_does_the_plan_and_a_cancelled_task_is_done_by_the_next_array() {
    if !has_slurm("a_slurm_array_does_the_plan") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = folder.path();
    let fixed = ["plan", "--methods", "magnitude,random-erk", "--sparsities", "0.8,0.9", "--seeds", "1", "-o", "s"];
    let small =
        ["--size", "16", "--train-limit", "64", "--batch-size", "16", "--epochs", "10", "--retrain-epochs", "1"];
    json(sweep(at, &fixed).args(small).args(["--json", "--quiet"]));

    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/slurm-on-one-machine");
    let mut command = std::process::Command::new(tool);
    command.current_dir(at).args(["bash", "-c", ON_SLURM]).env("SENTEI", assert_cmd::cargo::cargo_bin("sentei"));
    let out = command.output().expect("runs");
    let logs = || {
        let files = std::fs::read_dir(at.join("s/logs")).into_iter().flatten().flatten();
        files.map(|f| std::fs::read_to_string(f.path()).unwrap_or_default()).collect::<String>()
    };
    assert!(out.status.success(), "{}\n{}\n{}", out.status, String::from_utf8_lossy(&out.stderr), logs());
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(at.join(name)).expect(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let (between, after) = (read("between.json"), read("after.json"));
    assert_eq!(between["missing"], json!([DENSE]), "only the cancelled task is open: {between}\n{}", logs());
    assert_eq!(between["done"], JOBS - 1, "the others did not need it: {between}");
    let second = std::fs::read_to_string(at.join("second.sh")).expect("script");
    assert!(second.contains("--array=\"0\"\n"), "the second array holds what is left: {second}");
    assert_eq!((&after["done"], &after["missing"]), (&json!(JOBS), &json!([])), "{after}\n{}", logs());
}

#[test]
fn a_number_of_nothing_is_refused_and_not_taken_for_one() {
    let place = workplace();
    let at = place.path();
    json(&mut plan(at, "s", "1", &[]));
    for arguments in [
        &["slurm", "s", "--array-limit", "0"][..],
        &["slurm", "s", "--cpus", "0"],
        &["k8s", "s", "--image", "i", "--parallelism", "0"],
        &["k8s", "s", "--image", "i", "--cpus", "0"],
    ] {
        let (code, text) = failure(&mut sweep(at, arguments));
        let flag = arguments[arguments.len() - 2];
        assert!(code == 2 && text.contains(flag) && text.contains("at least 1"), "{arguments:?}: {code} {text}");
    }
}

#[test]
fn a_mask_that_cannot_be_made_is_refused_before_a_folder_is_made_and_anything_is_trained() {
    let place = workplace();
    let at = place.path();
    let images = ["--recipe", "quick.toml", "--data", "images", "--epochs", "1", "-o", "f"];
    for (arguments, names) in [
        (
            &["sweep", "plan", "--methods", "magnitude", "--sparsities", "0.5,0.9999"][..],
            "magnitude at sparsity 0.9999",
        ),
        (&["analyze", "init", "--methods", "snip", "--floor", "0.5"], "--floor"),
        (&["analyze", "init", "--fine-tune-epochs", "0"], "--fine-tune-epochs"),
        (&["analyze", "signs", "--mask", "n-m"], "--mask n-m"),
        (&["analyze", "signs", "--sparsity", "0.5,0.9999"], "--sparsity 0.9999"),
    ] {
        let (_, text) = failure(sentei().current_dir(at).args(arguments).args(images));
        assert!(text.contains("error: ") && text.contains(names), "{arguments:?}: {text}");
        assert!(!at.join("f").exists(), "{arguments:?} left a folder");
    }
}
