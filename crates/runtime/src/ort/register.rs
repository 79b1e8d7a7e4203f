//! Turns [`OrtOptions`] into what ONNX Runtime is told before it reads a model.

use std::num::NonZeroU32;
use std::path::Path;

use ort::ep::{self, ArenaExtendStrategy, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::NAME;
use super::absence::absent;
use super::library::Loaded;
use super::needs;
use super::options::{OrtOptions, Provider};
use super::values::{Arena, ConvSearch, Optimise};
use crate::error::RuntimeError;

/// A session that has yet to be given a model.
///
/// * `threads`: of the processor, at least 1.
/// * `trace`: start of the file name that a profile of every run is written to.
///
/// # Errors
/// [`RuntimeError::EngineAbsent`] when the provider cannot be had.
pub(super) fn builder(
    library: &Loaded,
    options: &OrtOptions,
    threads: usize,
    trace: Option<&Path>,
) -> Result<SessionBuilder, RuntimeError> {
    let refused = |error: ort::Error<SessionBuilder>| load_error(error.to_string());
    let builder = Session::builder(&library.environment).map_err(|error| load_error(error.to_string()))?;
    let level = optimisation(options.optimise.unwrap_or_default());
    let mut builder = builder.with_optimization_level(level).map_err(refused)?;
    // XNNPACK has threads of its own; a second pool that spins beside them would take their cores
    let xnnpack = options.provider == Provider::Xnnpack;
    builder = builder.with_intra_threads(if xnnpack { 1 } else { threads }).map_err(refused)?;
    if let Some(on) = options.spinning.or(xnnpack.then_some(false)) {
        builder = builder.with_intra_op_spinning(on).map_err(refused)?;
        builder = builder.with_inter_op_spinning(on).map_err(refused)?;
    }
    let branches = options.inter_threads.map_or(1, usize::from);
    builder = builder.with_inter_threads(branches).map_err(refused)?;
    builder = builder.with_parallel_execution(branches > 1).map_err(refused)?;
    if let Some(on) = options.memory_pattern {
        builder = builder.with_memory_pattern(on).map_err(refused)?;
    }
    if let Some(on) = options.prepacking {
        builder = builder.with_prepacking(on).map_err(refused)?;
    }
    if let Some(prefix) = trace {
        builder = builder.with_profiling(prefix).map_err(refused)?;
    }
    if let Some(on) = options.cpu_arena {
        let processor = ep::CPU::default().with_arena_allocator(on).build().error_on_failure();
        builder = builder.with_execution_providers([processor]).map_err(refused)?;
    }
    needs::preload(options.provider, &library.info.path);
    let providers = providers(options, threads)?;
    builder
        .with_execution_providers(providers)
        .map_err(|error| absent(options.provider, &library.info, &error.to_string()))
}

/// The providers to register, most wanted first; what none of them takes runs on the processor.
fn providers(options: &OrtOptions, threads: usize) -> Result<Vec<ExecutionProviderDispatch>, RuntimeError> {
    let wanted = match options.provider {
        Provider::Cpu => vec![],
        Provider::Cuda => vec![cuda(options).build()],
        Provider::Tensorrt => vec![tensorrt(options)?.build(), cuda(options).build()],
        Provider::Xnnpack => {
            let threads = options.xnnpack_threads.or(threads.try_into().ok());
            let xnnpack = threads.into_iter().fold(ep::XNNPACK::default(), ep::XNNPACK::with_intra_op_num_threads);
            vec![xnnpack.build()]
        }
        Provider::Acl => vec![ep::ACL::default().with_fast_math(options.fast_math.unwrap_or(false)).build()],
    };
    Ok(wanted.into_iter().map(ExecutionProviderDispatch::error_on_failure).collect())
}

fn cuda(options: &OrtOptions) -> ep::CUDA {
    let mut cuda = ep::CUDA::default();
    if let Some(device) = options.device {
        cuda = cuda.with_device_id(device.into());
    }
    if let Some(limit) = options.memory_limit_mib {
        cuda = cuda.with_memory_limit(bytes(limit));
    }
    if let Some(arena) = options.arena {
        cuda = cuda.with_arena_extend_strategy(match arena {
            Arena::PowerOfTwo => ArenaExtendStrategy::NextPowerOfTwo,
            Arena::SameAsRequested => ArenaExtendStrategy::SameAsRequested,
        });
    }
    if let Some(search) = options.conv_search {
        cuda = cuda.with_conv_algorithm_search(match search {
            ConvSearch::Exhaustive => ep::cuda::ConvAlgorithmSearch::Exhaustive,
            ConvSearch::Heuristic => ep::cuda::ConvAlgorithmSearch::Heuristic,
            ConvSearch::Default => ep::cuda::ConvAlgorithmSearch::Default,
        });
    }
    if let Some(on) = options.tf32 {
        cuda = cuda.with_tf32(on);
    }
    if let Some(on) = options.nhwc {
        cuda = cuda.with_prefer_nhwc(on);
    }
    cuda
}

fn tensorrt(options: &OrtOptions) -> Result<ep::TensorRT, RuntimeError> {
    let mut tensorrt = ep::TensorRT::default();
    if let Some(device) = options.device {
        tensorrt = tensorrt.with_device_id(device.into());
    }
    if let Some(on) = options.fp16 {
        tensorrt = tensorrt.with_fp16(on);
    }
    if let Some(on) = options.int8 {
        tensorrt = tensorrt.with_int8(on);
    }
    if let Some(on) = options.sparsity {
        tensorrt = tensorrt.with_sparsity(on);
    }
    if let Some(folder) = &options.engine_cache {
        tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(cache("engine_cache", folder)?);
    }
    if let Some(folder) = &options.timing_cache {
        tensorrt = tensorrt.with_timing_cache(true).with_timing_cache_path(cache("timing_cache", folder)?);
    }
    if let Some(level) = options.builder_level {
        tensorrt = tensorrt.with_builder_optimization_level(level.into());
    }
    if let Some(limit) = options.workspace_mib {
        tensorrt = tensorrt.with_max_workspace_size(bytes(limit));
    }
    if let Some(nodes) = options.min_subgraph {
        tensorrt = tensorrt.with_min_subgraph_size(usize::try_from(nodes.get()).unwrap_or(usize::MAX));
    }
    if let Some(core) = options.dla_core {
        tensorrt = tensorrt.with_dla(true).with_dla_core(core.into());
    }
    Ok(tensorrt)
}

/// The folder of a cache, made if it is not there, as the library wants it. A path with a zero byte cannot be made.
fn cache(key: &str, folder: &Path) -> Result<String, RuntimeError> {
    let failed = |why: String| load_error(format!("the folder {} of option `{key}` {why}", folder.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(format!("cannot be made: {error}")))?;
    folder.to_str().map(str::to_owned).ok_or_else(|| failed("is not UTF-8".into()))
}

fn bytes(mebibytes: NonZeroU32) -> usize {
    usize::try_from(u64::from(mebibytes.get()) << 20).unwrap_or(usize::MAX)
}

fn optimisation(level: Optimise) -> GraphOptimizationLevel {
    match level {
        Optimise::None => GraphOptimizationLevel::Disable,
        Optimise::Basic => GraphOptimizationLevel::Level1,
        Optimise::Extended => GraphOptimizationLevel::Level2,
        Optimise::Layout => GraphOptimizationLevel::Level3,
        Optimise::All => GraphOptimizationLevel::All,
    }
}

fn load_error(reason: String) -> RuntimeError {
    RuntimeError::Load { engine: NAME, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_folder_is_made_and_one_that_cannot_be_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        assert_eq!(cache("engine_cache", &folder).unwrap(), folder.to_str().unwrap());
        assert!(folder.is_dir());
        std::fs::write(root.path().join("file"), b"").unwrap();
        let error = cache("timing_cache", &root.path().join("file/x")).unwrap_err().to_string();
        assert!(error.contains("timing_cache") && error.contains("file/x"), "{error}");
    }

    #[test]
    fn limits_in_mebibytes_become_bytes() {
        assert_eq!(bytes(NonZeroU32::MIN), 1 << 20);
    }
}
