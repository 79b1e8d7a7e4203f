//! The plan of a model on this machine, as a JSON file beside it: `model.onnx` has `model.onnx.plan.json`.
//!
//! A plan saves the time of measuring at every load. One that is damaged, of another model or of another machine is not used,
//! and the user hears why; it is never an error. It is written only where that was asked for: `compile --tune`, `bench --tune`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sentei_runtime::{KernelChoice, LoadOptions, Plan};
use serde::{Deserialize, Serialize};

use crate::error::RunnerError;
use crate::files;

#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    /// SHA-256 of the model file.
    model: String,
    plan: Plan,
}

/// Where the plan of a model lies.
pub fn path_of(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".plan.json");
    name.into()
}

/// The plan beside `model`, whose file has `bytes`; or why the one that lies there cannot be used.
pub fn read(model: &Path, bytes: &[u8]) -> (Option<Plan>, Option<String>) {
    let path = path_of(model);
    let unused = |why: String| (None, Some(format!("{} was not used: {why}", path.display())));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return (None, None),
        Err(error) => return unused(error.to_string()),
    };
    match serde_json::from_slice::<Sidecar>(&text) {
        Ok(sidecar) if sidecar.model == files::sha256(bytes) => (Some(sidecar.plan), None),
        Ok(_) => unused("it is of another model".into()),
        Err(error) => unused(format!("it is damaged ({error})")),
    }
}

/// Options that follow the plan beside `model`, if the tract engine is going to run it; and the note about one that cannot be used.
pub fn follow(options: &LoadOptions, engine: &str, model: &Path, bytes: &[u8]) -> (LoadOptions, Option<String>) {
    let measured = engine == "tract" && options.kernel_choice == KernelChoice::Measure;
    let (plan, note) = if measured { read(model, bytes) } else { (None, None) };
    (LoadOptions { plan, ..options.clone() }, note)
}

/// Writes `plan` beside `model`, whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(model: &Path, bytes: &[u8], plan: &Plan) -> Result<PathBuf, RunnerError> {
    let path = path_of(model);
    let sidecar = Sidecar { model: files::sha256(bytes), plan: plan.clone() };
    let text = serde_json::to_string_pretty(&sidecar).expect("plans serialise");
    files::write_atomic(&path, text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use sentei_runtime::{KERNEL_VERSION, Machine};

    use super::*;

    fn plan() -> Plan {
        Plan { machine: Machine::here(), kernels: KERNEL_VERSION, layers: Vec::new() }
    }

    #[test]
    fn a_plan_comes_back_for_the_same_bytes_only() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        assert_eq!(read(&model, b"model"), (None, None));
        let path = write(&model, b"model", &plan()).unwrap();
        assert!(path.ends_with("m.onnx.plan.json"));
        assert_eq!(read(&model, b"model"), (Some(plan()), None));
        let (none, note) = read(&model, b"another");
        assert!(none.is_none() && note.unwrap().ends_with("it is of another model"));
    }

    #[test]
    fn a_damaged_plan_is_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        for damage in ["", "{", "{\"model\": 3}", "[]"] {
            std::fs::write(path_of(&model), damage).unwrap();
            let (none, note) = read(&model, b"model");
            assert!(none.is_none() && note.unwrap().contains("it is damaged"), "{damage}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_written_names_its_path() {
        let error = write(Path::new("/no/such/folder/m.onnx"), b"", &plan()).unwrap_err();
        assert!(format!("{error:#}").contains("m.onnx.plan.json"));
    }
}
