//! The CUDA trainer: this program built with the feature `cuda`, a file of its own beside it.
//!
//! What links CUDA does not start where there is no NVIDIA driver, so this program links nothing of it in its default build and
//! becomes the trainer when a verb is to compute on a GPU: same arguments, same files, same exit code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Result;
use sentei_prune::{Device, PruneError};

use crate::exit::Failure;

/// The trainer's file name, beside this program.
const NAME: &str = "sentei-cuda";
/// Names the trainer's file when it lies elsewhere.
const NAMED_BY: &str = "SENTEI_CUDA_TRAINER";
/// Set for a program that was started as the trainer.
const STARTED: &str = "SENTEI_CUDA_TRAINER_STARTED";

const BUILD: &str = "in sentei's source by `eval \"$(tools/cuda-toolkit)\" && cargo build --release --features cuda --bin \
                     sentei-cuda`";

/// The device behind `spec`. For a GPU this process becomes the trainer, unless it is one.
///
/// # Errors
/// When the device or the trainer is not there (exit code 5).
pub fn device(spec: &str) -> Result<Device> {
    match sentei_prune::device(spec) {
        Err(PruneError::NoDevice { .. }) if cfg!(not(feature = "cuda")) => Err(become_trainer(spec)),
        found => Ok(found?),
    }
}

/// The trainer's file, or what is missing and how to get it.
pub fn find() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    if cfg!(feature = "cuda") {
        return Ok(program);
    }
    if std::env::var_os(STARTED).is_some() {
        return Err(format!("CUDA in {}, which was started as the trainer; build it {BUILD}", program.display()));
    }
    let file = file(std::env::var_os(NAMED_BY), &program)?;
    let started = Command::new(&file).arg("--version").stdin(Stdio::null()).output();
    let out = started.map_err(|error| format!("a CUDA trainer that starts: {}: {error}", file.display()))?;
    verdict(&file, &out)?;
    Ok(file)
}

/// Returns only when there is no trainer to become.
fn become_trainer(spec: &str) -> anyhow::Error {
    let file = match find() {
        Ok(file) => file,
        Err(missing) => return Failure::Missing { what: format!("device `{spec}`"), missing: vec![missing] }.into(),
    };
    let mut command = Command::new(&file);
    command.args(std::env::args_os().skip(1)).env(STARTED, "1");
    anyhow::Error::from(replace(command)).context(format!("starting {}", file.display()))
}

#[cfg(unix)]
fn replace(mut command: Command) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(&mut command)
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> std::io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// * `named`: the value of [`NAMED_BY`].
fn file(named: Option<OsString>, program: &Path) -> Result<PathBuf, String> {
    let (file, hint) = match named {
        Some(file) => (PathBuf::from(file), format!(", which {NAMED_BY} names")),
        None => (program.with_file_name(format!("{NAME}{}", std::env::consts::EXE_SUFFIX)), String::new()),
    };
    if file.is_file() {
        return Ok(file);
    }
    Err(format!(
        "the CUDA trainer {}{hint}: build it {BUILD}, and put target/release/{NAME} beside this program, or its path into {NAMED_BY}",
        file.display()
    ))
}

/// What `file --version` tells.
fn verdict(file: &Path, out: &Output) -> Result<(), String> {
    let ours = concat!("sentei ", env!("CARGO_PKG_VERSION"));
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() {
        return match said.trim() {
            same if same == ours => Ok(()),
            other => Err(format!("the CUDA trainer of {ours}: {} is `{other}`; build it {BUILD}", file.display())),
        };
    }
    // glibc's loader: "FILE: error while loading shared libraries: NAME: cannot open shared object file: ..."
    let library = complained.split_once("loading shared libraries: ").and_then(|(_, rest)| rest.split_once(':'));
    Err(match library {
        Some((library, _)) if library.starts_with("libcuda.so") => {
            format!(
                "{library}, without which {} does not start: it comes with NVIDIA's driver, 580 or newer",
                file.display()
            )
        }
        Some((library, _)) => format!(
            "{library}, without which {} does not start: it is part of CUDA 13, whose folder of libraries belongs into \
             LD_LIBRARY_PATH (`eval \"$(tools/cuda-toolkit)\"` in sentei's source gets it and does that)",
            file.display()
        ),
        None => {
            format!("a CUDA trainer that starts: {} ended with {}: {}", file.display(), out.status, complained.trim())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trainer_lies_beside_the_program_or_where_the_variable_says() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (program, beside) = (folder.path().join("sentei"), folder.path().join(NAME));
        let missing = file(None, &program).expect_err("there is none");
        for part in [&*beside.to_string_lossy(), "tools/cuda-toolkit", "--features cuda --bin sentei-cuda", NAMED_BY] {
            assert!(missing.contains(part), "{part} in {missing}");
        }
        std::fs::write(&beside, "").expect("file");
        assert_eq!(file(None, &program), Ok(beside));
        let elsewhere = folder.path().join("elsewhere");
        let missing = file(Some(elsewhere.clone().into()), &program).expect_err("not there");
        assert!(missing.contains("elsewhere, which SENTEI_CUDA_TRAINER names"), "{missing}");
        std::fs::write(&elsewhere, "").expect("file");
        assert_eq!(file(Some(elsewhere.clone().into()), &program), Ok(elsewhere));
    }
}
