//! Turns `--device` into a candle device.

use candle_core::Device;

use crate::PruneError;

/// The device behind `spec`: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// # Errors
/// [`PruneError::UnknownDevice`] for any other text; [`PruneError::NoDevice`] when this build has no CUDA or the machine has no such
/// GPU. Never falls back to another device.
pub fn device(spec: &str) -> Result<Device, PruneError> {
    let unknown = || PruneError::UnknownDevice(spec.to_string());
    match spec.split_once(':') {
        None if spec == "cpu" => Ok(Device::Cpu),
        None if spec == "cuda" => cuda(spec, 0),
        Some(("cuda", index)) => cuda(spec, index.parse().map_err(|_| unknown())?),
        _ => Err(unknown()),
    }
}

fn cuda(spec: &str, index: usize) -> Result<Device, PruneError> {
    let absent = |why: String| PruneError::NoDevice { spec: spec.to_string(), why };
    if !cfg!(feature = "cuda") {
        return Err(absent("this build has no CUDA; build it with `--features cuda`, or use `--device cpu`".into()));
    }
    Device::new_cuda(index).map_err(|error| {
        // A backtrace may follow.
        let (error, why) =
            (error.to_string(), "CUDA cannot use that GPU; `nvidia-smi` lists those that are there, and the driver");
        absent(format!("{why} ({})", error.lines().next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_always_there_and_nonsense_is_named() {
        assert!(device("cpu").expect("cpu").is_cpu());
        for spec in ["", "CPU", "cuda:", "cuda:x", "cpu:0", "gpu"] {
            let error = device(spec).expect_err(spec);
            assert!(matches!(&error, PruneError::UnknownDevice(s) if s == spec), "{spec}: {error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_the_feature_says_how_to_get_it() {
        let error = device("cuda:1").expect_err("not in this build").to_string();
        assert!(error.contains("`cuda:1`") && error.contains("--features cuda"), "{error}");
    }
}
