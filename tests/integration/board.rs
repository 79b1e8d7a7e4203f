//! `bench --board`: the steps on this machine's own shell, and the same over real ssh to the emulated machine of `tools/board`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{QUICK, failure, json, sentei, write_images};
use sentei_convert::{CompileOptions, compile};
use sentei_graph::{Mask, Role};
use sentei_models::Spec;
use serde_json::Value;

/// The runner of this machine, as the workspace builds it.
fn host_runner() -> PathBuf {
    let program = assert_cmd::cargo::cargo_bin("sentei");
    let folder = program.parent().expect("programs lie in a folder");
    let out = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "sentei-runner", "--bin", "sentei-run", "--profile"])
        .arg(if folder.ends_with("debug") { "dev" } else { "release" })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    folder.join("sentei-run")
}

/// A dense model and the same one with nine of ten weights gone, packed; neither carries a self-test.
fn models(folder: &Path) -> [PathBuf; 2] {
    let spec = Spec { channels: 3, height: 32, width: 32, classes: 5, seed: 3 };
    let mut graph = sentei_models::build("resnet8", &spec).expect("builds");
    let dense = compile(&graph, &CompileOptions::default()).expect("compiles").dense_bytes;
    for (id, role) in graph.parameters() {
        let mut tensor = graph.initializer(id).expect("parameters are initializers").clone();
        if role == Role::Weight && tensor.len() > 256 {
            Mask::from_bits((0..tensor.len()).map(|i| i * 7919 % 10 == 0).collect()).apply(&mut tensor.data);
            graph.set_initializer(id, tensor);
        }
    }
    let packed = compile(&graph, &CompileOptions::default()).expect("compiles").bytes;
    [("dense.onnx", dense), ("packed.onnx", packed)].map(|(name, bytes)| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    })
}

fn bench(board: &str, runner: &Path, models: &[PathBuf], more: &[&str]) -> assert_cmd::Command {
    let mut command = sentei();
    command.args(["bench", "--json", "--board", board, "--seconds", "0.3", "--rounds", "8", "--runner"]).arg(runner);
    command.args(models).args(more);
    command
}

/// A shell script in place of the runner.
fn script(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
    path
}

#[test]
fn board_and_host_stand_side_by_side_and_the_board_is_left_clean() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let there = folder.path().join("board");
    let place = there.to_str().expect("plain path");
    let found = json(&mut bench("local:", &host_runner(), &models, &["--board-dir", place]));
    for side in [&found, &found["host"]] {
        let rows = side["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 2);
        assert!(rows[1]["model"].as_str().expect("name").ends_with("packed.onnx"), "names are those of the host");
        assert!(rows[1]["ratio"].as_f64().is_some() && rows[1]["samples"].as_u64() >= Some(8), "{side}");
        assert!(rows[1]["steady_rss_bytes"].as_u64() > Some(0) && rows[1]["gzip_bytes"].as_u64() > Some(0));
    }
    assert_eq!(found["board"]["address"], "local:");
    let file_bytes = std::fs::metadata(&models[1]).expect("there").len();
    assert_eq!(found["rows"][1]["file_bytes"], file_bytes, "without the self-test that was added for the board");
    for row in found["rows"].as_array().expect("rows") {
        assert!(row["self_test"]["difference"].as_f64().expect("tested") < 1e-4, "{row}");
    }
    assert!(!there.exists(), "nothing is left");
}

#[test]
fn kept_files_are_not_sent_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let place = folder.path().join("board").to_str().expect("plain path").to_owned();
    let runner = host_runner();
    let words = ["--board-dir", &place, "--keep", "--no-host"];
    let said = |out: std::process::Output| String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said(bench("local:", &runner, &models, &words).output().expect("runs")).contains("sent the runner"));
    let second = said(bench("local:", &runner, &models, &words).output().expect("runs"));
    assert!(second.contains("the runner is there already") && !second.contains("sent"), "{second}");
}

#[test]
fn a_runner_that_hangs_is_stopped_and_one_that_fails_is_quoted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let place = folder.path().join("board").to_str().expect("plain path").to_owned();
    let started = Instant::now();
    let hangs = script(folder.path(), "sleep 600");
    let words = ["--board-dir", &place, "--no-host", "--board-timeout", "3"];
    let (code, text) = failure(&mut bench("local:", &hangs, &models, &words));
    assert!(code == 6 && text.contains("--board-timeout") && started.elapsed() < Duration::from_secs(30), "{text}");

    let words = ["--board-dir", &place, "--no-host"];
    let fails = script(folder.path(), "echo 'error: no such processor' >&2; exit 4");
    let (code, text) = failure(&mut bench("local:", &fails, &models, &words));
    assert!(code == 4 && text.contains("on the board: no such processor"), "{code} {text}");

    // as the system does when memory runs out, and as a restart does
    for body in ["kill -9 $$", "kill -9 $PPID"] {
        let dies = script(folder.path(), body);
        let (code, text) = failure(&mut bench("local:", &dies, &models, &words));
        assert!(code == 1 && text.contains("was killed on the board"), "{code} {text}");
    }
    let (code, text) = failure(&mut bench("local:", &script(folder.path(), "exit 6"), &models, &words));
    assert!(code == 6 && text.contains("on the board"), "{code} {text}");
    let (code, text) = failure(&mut bench("local:", &script(folder.path(), "exit 127"), &models, &words));
    assert!(code == 1 && text.contains("cannot execute the runner"), "{code} {text}");
    assert!(!Path::new(&place).exists(), "nothing is left");
}

#[test]
fn what_ssh_says_on_the_side_is_no_failure() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    // the script is the last word of ssh's command line
    let ssh =
        script(folder.path(), "for last; do :; done; echo 'Warning: something about keys' >&2; exec sh -c \"$last\"");
    std::fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let runner = host_runner();
    let mut command = bench("ssh://root@camera", &runner, &models, &["--no-host", "--board-dir", "relative/board"]);
    command.env("SENTEI_SSH", &ssh).env("HOME", folder.path());
    assert_eq!(json(&mut command)["board"]["address"], "ssh://root@camera");
    assert!(!folder.path().join("relative/board").exists(), "nothing is left");
}

#[test]
fn a_board_that_cannot_be_reached_or_is_none_is_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let runner = script(folder.path(), "exit 0");
    let mut command = bench("ssh://root@camera", &runner, &models, &[]);
    let (code, text) = failure(command.env("SENTEI_SSH", "/no/such/ssh"));
    assert!(
        code == 5 && text.contains("ssh://root@camera cannot be reached") && text.contains("/no/such/ssh"),
        "{text}"
    );
    let (code, text) = failure(&mut bench("camera", &runner, &models, &[]));
    assert!(code == 2 && text.contains("ssh://[user@]host[:port]"), "{text}");
    let (code, text) = failure(&mut bench("local:", &runner, &models, &["--engine", "ort"]));
    assert!(code == 2 && text.contains("--board measures the engine tract"), "{text}");
}

/// The emulated machine of `tools/board run` and a runner for it; says loudly that `test` is skipped when there is none, and fails
/// where it is required.
fn emulated(test: &str) -> Option<(String, PathBuf)> {
    let variable = |name: &str| std::env::var(name).ok();
    match (variable("BOARD_URL"), variable("SENTEI_BOARD_RUNNER")) {
        (Some(url), Some(runner)) => Some((url, runner.into())),
        _ => {
            assert!(
                std::env::var_os("SENTEI_REQUIRE_BOARD").is_none(),
                "BOARD_URL and SENTEI_BOARD_RUNNER are not set"
            );
            eprintln!("SKIPPED: {test}: no emulated board (tools/test-board starts one)");
            None
        }
    }
}

fn tool(words: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/board");
    let out = Command::new(path).args(words).output().expect("tools/board runs");
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Cuts every connection to the board and returns how many there were.
fn cut_links() -> u32 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/board");
    let out = Command::new(path).arg("cut").output().expect("tools/board runs");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    said.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn over_ssh_a_run_gets_the_boards_figures_into_its_report() {
    let Some((url, runner)) = emulated("board over ssh") else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    write_images(&folder.path().join("images"), 30);
    std::fs::write(folder.path().join("quick.toml"), QUICK).expect("recipe");
    let words = ["shrink", "--recipe", "quick.toml", "--data", "images", "-o", "run", "--json", "--quiet"];
    json(sentei().current_dir(folder.path()).args(words));

    let found =
        json(sentei().current_dir(folder.path()).args(["bench", "--json", "--run", "run", "--board", &url]).args([
            "--runner".as_ref(),
            runner.as_os_str(),
            "--seconds".as_ref(),
            "1".as_ref(),
            "--rounds".as_ref(),
            "8".as_ref(),
            "--kernels".as_ref(),
            "measure,int8".as_ref(),
        ]));
    let rows = found["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["model"].as_str()).collect();
    let of = |name: &str| ["measure", "int8"].map(|kernels| format!("{name} ({kernels})"));
    assert_eq!(names, [of("dense"), of("80 % zeros, f32")].concat());
    for row in rows {
        assert!(row["self_test"]["difference"].as_f64().expect("tested") < 1e-4, "{row}");
        assert!(row["samples"].as_u64() >= Some(8) && row["steady_rss_bytes"].as_u64() > Some(0), "{row}");
        assert!(row["ratio"].is_null(), "emulated timings are not compared: {row}");
    }
    assert!(found["machine"]["emulated"].is_string() && found["machine"]["arch"] == "aarch64", "{}", found["machine"]);
    let page = std::fs::read_to_string(folder.path().join("run/report.html")).expect("report");
    // addresses have slashes, which the page escapes
    let page = page.replace("&#x2f;", "/");
    for part in ["Measured on", ">host<", &format!("{url} (emulated: no timings of a board)"), "sentei-run"] {
        assert!(page.contains(part), "{part}");
    }
    json(sentei().current_dir(folder.path()).args(["verify", "run", "--json"]));
    assert_eq!(tool(&["ssh", "find ~/.sentei-board 2>/dev/null; ls /tmp"]), "", "nothing is left on the board");
}

#[test]
fn over_ssh_a_killed_link_is_taken_up_again() {
    let Some((url, runner)) = emulated("a killed link") else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    command
        .args(["bench", "--json", "--no-host", "--board", &url, "--seconds", "8", "--runner"])
        .arg(&runner)
        .args(&models);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("starts");
    let mut cuts = 0;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(250));
        cuts += cut_links();
        if cuts >= 2 {
            break;
        }
    }
    assert!(cuts >= 2, "links were cut");
    let out = child.wait_with_output().expect("ends");
    let (text, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("the link was lost"), "{said}");
    let found: Value = serde_json::from_str(text.lines().last().expect("an object")).expect("JSON");
    assert_eq!(found["rows"].as_array().expect("rows").len(), 2);
}

#[test]
fn over_ssh_a_second_call_takes_up_what_a_killed_one_began() {
    let Some((url, runner)) = emulated("a killed host") else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let words = |command: &mut Command| {
        command.args(["bench", "--json", "--no-host", "--board", &url, "--seconds", "12", "--rounds", "8", "--runner"]);
        command.arg(&runner).args(&models);
    };
    let mut first = Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    words(&mut first);
    let mut first =
        first.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("starts");
    let started = Instant::now();
    while tool(&["ssh", "cat ~/.sentei-board/jobs/*/pid 2>/dev/null; true"]).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "the measurement begins");
    }
    first.kill().expect("killed");
    first.wait().expect("ended");
    let mut second = Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    words(&mut second);
    let out = second.output().expect("runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("taking it up"), "{said}");
    assert!(said.contains("the runner is there already"), "{said}");
}

#[test]
fn over_ssh_a_full_disk_and_a_hung_board_are_errors_with_a_way_out() {
    let Some((url, runner)) = emulated("a full disk") else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = models(folder.path());
    let (code, text) = failure(&mut bench(&url, &runner, &models, &["--no-host", "--board-dir", "/small/x"]));
    assert!(code == 6 && text.contains("the board's disk is full") && text.contains("--board-dir"), "{code} {text}");
    assert_eq!(tool(&["ssh", "ls -A /small"]), "", "no part of a file is left");

    tool(&["hang"]);
    let started = Instant::now();
    let (code, text) = failure(&mut bench(&url, &runner, &models, &["--no-host", "--board-timeout", "8"]));
    tool(&["resume"]);
    assert!(
        code == 5 && text.contains("cannot be reached") && started.elapsed() < Duration::from_secs(40),
        "{code} {text}"
    );

    // one that hangs while it measures
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("sentei"));
    command.args(["bench", "--no-host", "--board", &url, "--seconds", "100", "--board-timeout", "45", "--runner"]);
    command.arg(&runner).args(&models).stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let child = command.spawn().expect("starts");
    let started = Instant::now();
    while tool(&["ssh", "cat ~/.sentei-board/jobs/*/pid 2>/dev/null; true"]).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(40), "the measurement begins");
    }
    tool(&["hang"]);
    let out = child.wait_with_output().expect("ends");
    tool(&["resume"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(6) && said.contains("--board-timeout"), "{said}");
    // its wrapper first, which would write down how the measurement ended
    tool(&[
        "ssh",
        "kill -9 $(cat ~/.sentei-board/jobs/*/pid ~/.sentei-board/jobs/*/runner); sleep 1; rm -rf ~/.sentei-board",
    ]);
}
