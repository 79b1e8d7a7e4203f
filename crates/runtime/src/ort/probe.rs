//! What a library can really do here: every provider is asked to run one convolution.
//!
//! What a library says about itself is what it was compiled with, on a machine without a GPU too.

use std::path::{Path, PathBuf};

use ort::ep::ExecutionProvider;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use serde::{Deserialize, Serialize};

use super::absence::{how_to_get, short};
use super::library::{self, Loaded};
use super::options::{OrtOptions, Provider};
use super::{Ort, convolution, needs, register};
use crate::engine::{Engine, LoadOptions};
use crate::error::RuntimeError;

/// One ONNX Runtime library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LibraryReport {
    /// File it was loaded from.
    pub path: PathBuf,
    /// Version, for example `1.31.1`.
    pub version: String,
    /// Providers it was compiled with, as it names them.
    pub compiled_in: Vec<String>,
    /// Every provider of [`Provider`].
    pub providers: Vec<ProviderReport>,
}

/// What became of asking for one provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderReport {
    /// The provider.
    pub provider: Provider,
    /// Why it cannot be used, in the library's words; `None` if it ran a convolution.
    pub refused: Option<String>,
    /// Shared libraries it needs and the loader does not find.
    pub missing: Vec<String>,
    /// What a user can do, if it cannot be used.
    pub how_to_get_it: Option<String>,
}

/// Loads the library at `path` and asks every provider to run one convolution.
///
/// A process can load one library: `doctor` starts a process for each, so that one which crashes takes nothing with it.
///
/// # Errors
/// As [`super::library_info`].
pub fn probe(path: &Path) -> Result<LibraryReport, RuntimeError> {
    let library = library::load(Some(path))?;
    // a provider that cannot be loaded is the answer here, not a line on standard error
    library.environment.set_log_level(LogLevel::Fatal);
    let compiled_in = compiled_in();
    let providers = Provider::ALL.into_iter().map(|provider| ask(provider, &library, &compiled_in)).collect();
    Ok(LibraryReport { path: library.info.path, version: library.info.version, compiled_in, providers })
}

fn ask(provider: Provider, library: &Loaded, compiled_in: &[String]) -> ProviderReport {
    let refused = match compiled_in.iter().any(|name| name == provider.library_name()) {
        false => Some("not compiled into this library".to_owned()),
        true => {
            let options = LoadOptions {
                ort: OrtOptions { provider, placement: Some(true), ..OrtOptions::default() },
                library: Some(library.info.path.clone()),
                ..LoadOptions::default()
            };
            match Ort.load(&convolution::bytes(), &options) {
                Ok(_) => None,
                Err(RuntimeError::EngineAbsent { what, .. }) => Some(what),
                Err(other) => Some(other.to_string()),
            }
        }
    };
    let (missing, how) = match &refused {
        None => (Vec::new(), None),
        Some(_) => (needs::missing(provider, &library.info.path), Some(how_to_get(provider).to_owned())),
    };
    ProviderReport { provider, refused, missing, how_to_get_it: how }
}

/// Why the provider refuses a model that any provider runs; `None` if it does not, and the user's model is at fault.
pub(super) fn refusal(library: &Loaded, options: &OrtOptions) -> Option<String> {
    let bare = OrtOptions { provider: options.provider, device: options.device, ..OrtOptions::default() };
    let mut builder = register::builder(library, &bare, 1, None).ok()?;
    builder.commit_from_memory(&convolution::bytes()).err().map(|error| short(&error.to_string()))
}

/// Names that ONNX Runtime has for providers; it answers for one name at a time.
macro_rules! known {
    ($($marker:ident = $name:literal),+) => {
        $(struct $marker;

        impl ExecutionProvider for $marker {
            const NAME: &'static str = $name;

            fn register(&self, _: &mut SessionBuilder) -> ort::Result<()> {
                Err(ort::Error::new(concat!($name, " is only asked for, never used")))
            }
        })+

        fn compiled_in() -> Vec<String> {
            let names = [$(($name, $marker::is_available())),+];
            names.into_iter().filter(|(_, there)| matches!(there, Ok(true))).map(|(name, _)| name.to_owned()).collect()
        }
    };
}

known! {
    Tensorrt = "TensorrtExecutionProvider", Cuda = "CUDAExecutionProvider", NvTensorRtRtx = "NvTensorRTRTXExecutionProvider",
    MiGraphX = "MIGraphXExecutionProvider", Rocm = "ROCMExecutionProvider", OpenVino = "OpenVINOExecutionProvider",
    Dnnl = "DnnlExecutionProvider", Vitis = "VitisAIExecutionProvider", Qnn = "QNNExecutionProvider",
    Nnapi = "NnapiExecutionProvider", CoreMl = "CoreMLExecutionProvider", Acl = "ACLExecutionProvider",
    ArmNn = "ArmNNExecutionProvider", Dml = "DmlExecutionProvider", Rknpu = "RknpuExecutionProvider",
    WebGpu = "WebGpuExecutionProvider", Xnnpack = "XnnpackExecutionProvider", Cann = "CANNExecutionProvider",
    Azure = "AzureExecutionProvider", Cpu = "CPUExecutionProvider"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::HostTensor;

    #[test]
    fn the_probe_is_a_model_that_adds_up_nine_pixels_of_two_channels() {
        let facts = crate::screen::screen(&convolution::bytes(), 1 << 20);
        assert!(facts.is_ok());
        if let Err(missing) = library::library_info(None) {
            assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none(), "{missing}");
            eprintln!("SKIPPED: running the probe: {missing}");
            return;
        }
        let mut session = Ort.load(&convolution::bytes(), &LoadOptions::default()).unwrap();
        let ones = HostTensor::new(vec![1, 2, 8, 8], vec![1.0; 128]).unwrap();
        let found = session.run(&[ones]).unwrap();
        assert_eq!(found, [HostTensor::new(vec![1, 2, 6, 6], vec![4.5; 72]).unwrap()]);
    }

    #[test]
    fn the_processor_can_always_be_used_and_the_rest_says_how_to_get_it() {
        let Ok(info) = library::library_info(None) else {
            assert!(std::env::var_os("SENTEI_REQUIRE_ORT").is_none());
            eprintln!("SKIPPED: asking every provider: no ONNX Runtime");
            return;
        };
        let report = probe(&info.path).unwrap();
        assert!(report.compiled_in.contains(&"CPUExecutionProvider".to_owned()), "{report:?}");
        assert_eq!(report.providers.len(), Provider::ALL.len());
        assert_eq!(report.providers[0].refused, None);
        for asked in &report.providers {
            assert_eq!(asked.refused.is_some(), asked.how_to_get_it.is_some(), "{asked:?}");
        }
    }
}
