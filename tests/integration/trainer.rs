//! `--device cuda` in a program without CUDA: the trainer takes over, or what is missing is said. A script stands in for it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

use crate::cli::tiny_model;
use crate::support::{failure, json, sentei};

/// A trainer that answers `--version` with `version` and does `otherwise` with everything else.
fn trainer(folder: &Path, version: &str, otherwise: &str) -> PathBuf {
    let file = folder.join("trainer");
    let script = format!("#!/bin/sh\nif [ \"$1\" = --version ]; then {version}; fi\n{otherwise}\n");
    std::fs::write(&file, script).expect("script");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    file
}

/// `version` of [`trainer`] for the real one.
const SAME: &str = concat!("echo sentei ", env!("CARGO_PKG_VERSION"), "; exit 0");

fn with(trainer: &Path, folder: &Path) -> Command {
    let mut command = sentei();
    command.env("SENTEI_CUDA_TRAINER", trainer).current_dir(folder);
    command
}

#[test]
fn every_verb_with_a_device_hands_its_arguments_over_and_ends_as_the_trainer_does() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let here = folder.path();
    let trainer = trainer(here, SAME, "printf '%s\\n' \"$@\" > \"$PWD/arguments\"; echo said; exit 42");
    tiny_model(here);
    for line in [
        &["train", "--device", "cuda:1", "-o", "a b.onnx"][..],
        &["prune", "tiny.onnx", "--density", "0.5", "--device", "cuda", "-o", "p.onnx"],
        &["shrink", "--device", "cuda", "--json", "-o", "run"],
        &["sweep", "plan", "--device", "cuda", "--methods", "magnitude", "-o", "sweep"],
        &["analyze", "limit", "--device", "cuda", "-o", "limit"],
        &["analyze", "sensitivity", "tiny.onnx", "--device", "cuda"],
    ] {
        let out = with(&trainer, here).args(line).output().expect("runs");
        let complaint = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(42), "{line:?}: {complaint}");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "said\n", "{line:?}");
        let arguments = std::fs::read_to_string(here.join("arguments")).expect("the trainer was started");
        assert_eq!(arguments.lines().collect::<Vec<_>>(), line);
        std::fs::remove_file(here.join("arguments")).expect("removed");
    }
}

#[test]
fn a_recipe_that_names_a_gpu_starts_the_trainer_too() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let trainer = trainer(folder.path(), SAME, "exit 43");
    std::fs::write(folder.path().join("r.toml"), "device = \"cuda\"\n").expect("recipe");
    assert_eq!(failure(with(&trainer, folder.path()).args(["train", "--recipe", "r.toml"])).0, 43);
    assert_ne!(failure(with(&trainer, folder.path()).args(["train", "--device", "cuda:x"])).0, 43);
}

#[test]
fn without_a_trainer_the_error_is_exit_code_5_and_says_how_to_build_one() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (code, text) = failure(with(&folder.path().join("none"), folder.path()).args(["train", "--device", "cuda"]));
    assert_eq!(code, 5, "{text}");
    for part in ["`cuda`", "none", "tools/cuda-toolkit", "cargo build --release --features cuda --bin sentei-cuda"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_trainer_that_finds_no_library_is_exit_code_5_and_the_library_is_named_with_where_it_comes_from() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (library, from) in [("libcuda.so.1", "driver"), ("libcublas.so.13", "LD_LIBRARY_PATH")] {
        let loader = format!(
            "echo \"$0: error while loading shared libraries: {library}: cannot open shared object file: No such file or \
             directory\" >&2; exit 127"
        );
        let trainer = trainer(folder.path(), &loader, "exit 44");
        let (code, text) = failure(with(&trainer, folder.path()).args(["train", "--device", "cuda"]));
        assert!(code == 5 && text.contains(library) && text.contains(from), "{code} {text}");
    }
}

#[test]
fn a_trainer_of_another_version_or_without_cuda_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let other = trainer(folder.path(), "echo sentei 0.0.1; exit 0", "exit 44");
    let (code, text) = failure(with(&other, folder.path()).args(["train", "--device", "cuda"]));
    assert!(code == 5 && text.contains("`sentei 0.0.1`"), "{code} {text}");
    let itself = PathBuf::from(sentei().get_program());
    let (code, text) = failure(with(&itself, folder.path()).args(["train", "--device", "cuda"]));
    assert!(code == 5 && text.contains("was started as the trainer"), "{code} {text}");
}

#[test]
fn doctor_has_a_row_for_the_trainer() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let trainer = trainer(folder.path(), SAME, "exit 44");
    let found = json(with(&trainer, folder.path()).args(["doctor", "--json"]));
    assert_eq!(found["cuda_trainer"]["file"], trainer.display().to_string(), "{found}");
    let none = folder.path().join("none");
    let found = json(with(&none, folder.path()).args(["doctor", "--json"]));
    assert!(found["cuda_trainer"]["missing"][0].as_str().is_some_and(|m| m.contains("tools/cuda-toolkit")), "{found}");
    let out = with(&none, folder.path()).arg("doctor").output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.lines().any(|line| line.contains("CUDA trainer") && line.contains("missing")), "{text}");
}
