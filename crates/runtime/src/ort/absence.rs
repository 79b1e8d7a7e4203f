//! The error of a provider that cannot be had: what is missing, in the library's words, and how to get it.

use super::library::LibraryInfo;
use super::needs;
use super::options::Provider;
use crate::error::RuntimeError;

/// Most of the library's words that an error repeats, in characters.
const SHORT: usize = 300;

/// [`RuntimeError::EngineAbsent`] for a provider that the library refused.
///
/// * `words`: what it said.
pub(super) fn absent(provider: Provider, library: &LibraryInfo, words: &str) -> RuntimeError {
    let missing = needs::missing(provider, &library.path);
    let (missing, doctor) = match missing.is_empty() {
        true => (String::new(), ""),
        false => {
            let names = missing.join(", ");
            (format!("; not found on this machine: {names}"), "; `sentei doctor` says what is still missing")
        }
    };
    RuntimeError::EngineAbsent {
        what: format!(
            "provider `{provider}` cannot be used by ONNX Runtime {} ({}): {}{missing}",
            library.version,
            library.path.display(),
            short(words)
        ),
        how_to_get_it: format!("{}{doctor}", how_to_get(provider)),
    }
}

/// What a user can do to have the provider.
pub(super) fn how_to_get(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "every ONNX Runtime library has it: `pip install onnxruntime`",
        Provider::Cuda => {
            "it takes an NVIDIA driver, `pip install onnxruntime-gpu`, and CUDA 13 and cuDNN 9 on LD_LIBRARY_PATH or from \
             `pip install onnxruntime-gpu[cuda,cudnn]`"
        }
        Provider::Tensorrt => {
            "it takes what provider cuda takes (NVIDIA driver, `pip install onnxruntime-gpu[cuda,cudnn]`: CUDA 13, cuDNN 9) \
             and TensorRT 10 from NVIDIA (libnvinfer.so.10) on LD_LIBRARY_PATH"
        }
        Provider::Xnnpack => {
            "the wheels of `pip install onnxruntime` are built without it: name a library built with --use_xnnpack in \
             ORT_DYLIB_PATH or --ort-library"
        }
        Provider::Acl => {
            "the wheels of `pip install onnxruntime` are built without it: on an Arm machine, name a library built with \
             --use_acl in ORT_DYLIB_PATH or --ort-library"
        }
    }
}

/// The library's words without the place in its source and on one line.
pub(super) fn short(words: &str) -> String {
    // "FILE:LINE FUNCTION [ONNXRuntimeError] : 1 : FAIL : what matters"
    let said = match words.rsplit_once("[ONNXRuntimeError]") {
        Some((_, rest)) => rest.splitn(4, " : ").last().unwrap_or(rest),
        None => words,
    };
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    match line.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_s_words_lose_their_place_in_its_source() {
        let words = "/onnxruntime_src/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& Get() \
                     [ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: \
                     libcublasLt.so.13: cannot open shared object file: No such file or directory\n";
        assert_eq!(
            short(words),
            "Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared \
             object file: No such file or directory"
        );
        assert_eq!(
            short("XNNPACK execution provider is not supported in this build. "),
            "XNNPACK execution provider is not supported in this build"
        );
        assert_eq!(short(&"ä ".repeat(400)).chars().count(), SHORT + 3);
    }

    #[test]
    fn every_provider_says_how_to_get_it() {
        assert!(
            how_to_get(Provider::Cuda).contains("onnxruntime-gpu") && how_to_get(Provider::Cuda).contains("cuDNN 9")
        );
        assert!(how_to_get(Provider::Tensorrt).contains("libnvinfer.so.10"));
        for provider in [Provider::Xnnpack, Provider::Acl] {
            assert!(how_to_get(provider).contains("--ort-library"));
        }
    }
}
