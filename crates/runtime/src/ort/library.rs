//! Finds and loads the ONNX Runtime library.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::RuntimeError;

/// The library that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryInfo {
    /// File it was loaded from.
    pub path: PathBuf,
    /// Version, for example `1.31.1`; `unknown` if neither the file name nor the build text tells.
    pub version: String,
    /// What the library says about its build.
    pub build: String,
}

#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) info: LibraryInfo,
}

/// A process can load one library once.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

const HOW_TO_GET_IT: &str = "`pip install onnxruntime` and run inside that environment, or point ORT_DYLIB_PATH at \
                             libonnxruntime.so (Linux), libonnxruntime.dylib (macOS) or onnxruntime.dll";

/// Finds and loads the library, for `doctor`.
///
/// * `explicit`: file to use instead of searching.
///
/// # Errors
/// [`RuntimeError::EngineAbsent`] when there is none, or it cannot be loaded, or it is too old.
pub fn library_info(explicit: Option<&Path>) -> Result<LibraryInfo, RuntimeError> {
    load(explicit).map(|loaded| loaded.info)
}

/// Libraries that `doctor` tells about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibrariesFound {
    /// In the order they are tried; the one that ORT_DYLIB_PATH names comes first, whether it is there or not.
    pub paths: Vec<PathBuf>,
    /// Whether ORT_DYLIB_PATH names the first; then no other is tried.
    pub named: bool,
}

impl LibrariesFound {
    /// Looks where [`library_info`] looks.
    pub fn here() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let named = variable("ORT_DYLIB_PATH");
        let is_named = named.is_some();
        Self { paths: once_each(named.into_iter().chain(search(&places(&variable)))), named: is_named }
    }
}

/// Without the paths that lead to a file that came before, as `libonnxruntime.so` does beside `libonnxruntime.so.1.31.1`.
fn once_each(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let is_new = |path: &PathBuf| {
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let new = !seen.contains(&file);
        if new {
            seen.push(file);
        }
        new
    };
    paths.filter(is_new).collect()
}

pub(super) fn load(explicit: Option<&Path>) -> Result<Loaded, RuntimeError> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = &*slot {
        if let Some(other) = explicit.filter(|path| *path != loaded.info.path) {
            return Err(RuntimeError::EngineAbsent {
                what: format!("{} cannot be used: this process runs {}", other.display(), loaded.info.path.display()),
                how_to_get_it: "use one ONNX Runtime library per process".into(),
            });
        }
        return Ok(loaded.clone());
    }
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = explicit.map(Path::to_owned).or_else(|| variable("ORT_DYLIB_PATH"));
    let candidates = match &named {
        Some(path) => vec![path.clone()],
        None => search(&places(&variable)),
    };
    let mut tried = Vec::new();
    for path in candidates {
        if !path.is_file() {
            tried.push(format!("{} is not a file", path.display()));
            continue;
        }
        match ort::init_from(&path)
            .map_err(|error| error.to_string())
            .and_then(|builder| builder.with_telemetry(false).build().map_err(|error| error.to_string()))
        {
            Ok(environment) => {
                let build = ort::info().to_owned();
                let version = version_of(&path, &build);
                let loaded = Loaded { environment, info: LibraryInfo { path, version, build } };
                return Ok(slot.insert(loaded).clone());
            }
            Err(error) => tried.push(error),
        }
    }
    let what = match tried.is_empty() {
        true => "the ONNX Runtime library was not found".to_owned(),
        false => format!("the ONNX Runtime library cannot be used ({})", tried.join("; ")),
    };
    Err(RuntimeError::EngineAbsent { what, how_to_get_it: HOW_TO_GET_IT.into() })
}

/// Folders that may hold the library, most specific first.
#[derive(Clone, Debug, Default)]
struct Places {
    /// Roots of Python environments: they have `lib/python3.*/site-packages`.
    environments: Vec<PathBuf>,
    /// Folders with shared libraries.
    libraries: Vec<PathBuf>,
}

fn places(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Places {
    let mut environments: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)).collect();
    environments.push(PathBuf::from(".venv"));
    environments.extend(variable("HOME").map(|home| home.join(".local")));
    environments.extend(["/usr/local", "/usr"].map(PathBuf::from));
    let mut libraries: Vec<PathBuf> = Vec::new();
    libraries.extend(env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)));
    libraries.extend(variable("LD_LIBRARY_PATH").iter().flat_map(|paths| env::split_paths(paths.as_os_str())));
    let triple = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    libraries.extend(["/usr/local/lib", "/usr/lib", "/usr/lib64", &triple, "/opt/onnxruntime/lib"].map(PathBuf::from));
    Places { environments, libraries }
}

/// Every library under `places`, in order; newest first within one folder.
fn search(places: &Places) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in &places.environments {
        let mut pythons = entries(&root.join("lib"), |name| name.starts_with("python3"));
        pythons.push(root.join("Lib"));
        for packages in
            pythons.iter().flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)))
        {
            found.extend(libraries_in(&packages.join("onnxruntime/capi")));
        }
    }
    for folder in &places.libraries {
        found.extend(libraries_in(folder));
    }
    found
}

fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = entries(folder, is_library);
    files.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
    files
}

fn is_library(name: &str) -> bool {
    let linux = name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let mac = name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
    linux || mac || name == "onnxruntime.dll"
}

fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = list
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// The numbers in the version part of a file name.
fn numbers(path: &Path) -> Vec<u64> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

fn version_of(path: &Path, build: &str) -> String {
    let resolved = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let numbers = numbers(&resolved);
    if numbers.len() >= 2 {
        return numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    }
    let branch = build.split("git-branch=rel-").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    branch.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    #[test]
    fn a_pip_wheel_comes_before_the_system_and_newer_before_older() {
        let root = tempfile::tempdir().unwrap();
        let capi = root.path().join("venv/lib/python3.11/site-packages/onnxruntime/capi");
        let (old, new) = (capi.join("libonnxruntime.so.1.9.0"), capi.join("libonnxruntime.so.1.31.1"));
        let system = root.path().join("usr/lib/libonnxruntime.so");
        for path in [&old, &new, &system, &capi.join("libonnxruntime_providers_shared.so")] {
            touch(path);
        }
        let places = Places {
            environments: vec![root.path().join("absent"), root.path().join("venv")],
            libraries: vec![root.path().join("usr/lib")],
        };
        assert_eq!(search(&places), [new, old, system]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_library_is_not_a_second_library() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("libonnxruntime.so.1.31.1"), root.path().join("libonnxruntime.so"));
        touch(&file);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(once_each([file.clone(), link].into_iter()), [file]);
    }

    #[test]
    fn the_active_environment_is_looked_at_first() {
        let variable = |name: &str| (name == "VIRTUAL_ENV").then(|| PathBuf::from("/env"));
        assert_eq!(places(&variable).environments[..2], [PathBuf::from("/env"), PathBuf::from(".venv")]);
    }

    #[test]
    fn versions_come_from_the_file_name_or_the_build_text() {
        let build = "ORT Build Info: git-branch=rel-1.19.0, git-commit-id=26250ae";
        assert_eq!(version_of(Path::new("/x/libonnxruntime.so.1.31.1"), build), "1.31.1");
        assert_eq!(version_of(Path::new("/x/libonnxruntime.so"), build), "1.19.0");
        assert_eq!(version_of(Path::new("/x/libonnxruntime.so"), ""), "unknown");
    }

    #[test]
    fn a_named_library_that_is_no_file_says_how_to_get_one() {
        let error = load(Some(Path::new("/nowhere/libonnxruntime.so"))).err().unwrap();
        assert_eq!(error.exit_code(), 5);
        assert!(
            error.to_string().contains("pip install onnxruntime") || error.to_string().contains("this process runs")
        );
    }
}
