//! Turns `--device` into a candle device.

use candle_core::{DType, Device, Tensor};

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
    works(index).map_err(|error| {
        // A backtrace may follow.
        let error = error.to_string();
        absent(format!(
            "CUDA cannot compute on that GPU ({}); `nvidia-smi` lists those that are there and the driver, which must be 580 or \
             newer; for another GPU than it was built for, build again with its CUDA_COMPUTE_CAP",
            error.lines().next().unwrap_or_default()
        ))
    })
}

/// The GPU, after it has added 1 to 0: a driver may be too old for the kernels, or they for another GPU.
fn works(index: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda(index)?;
    Tensor::zeros(1, DType::F32, &device)?.affine(1.0, 1.0)?.to_vec1::<f32>()?;
    Ok(device)
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
