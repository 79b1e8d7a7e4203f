//! Engines that run ONNX models, packed ones without ever making the dense weights, and the meters that time them.
//!
//! In: the bytes of an ONNX file, dense or packed, and tensors. Out: tensors, the [`Facts`] of what really ran, and
//! raw samples of time and memory in the records of the report room.
//!
//! ```
//! use sentei_runtime::{HostTensor, LoadOptions, RuntimeError, engine_named};
//!
//! fn classify(model: &[u8], image: HostTensor) -> Result<Vec<f32>, RuntimeError> {
//!     let mut session = engine_named("tract")?.load(model, &LoadOptions::default())?;
//!     for layer in &session.facts().kernels {
//!         println!("{} runs on {}: {}", layer.name, layer.kernel, layer.reason);
//!     }
//!     Ok(session.run(&[image])?.swap_remove(0).data)
//! }
//!
//! let hostile = [0u8; 16];
//! # #[cfg(feature = "tract")]
//! assert!(classify(&hostile, HostTensor::new(vec![1, 1], vec![0.0])?).is_err());
//! # Ok::<(), RuntimeError>(())
//! ```
//!
//! **Invariants**
//! - No training, no graph rewriting beyond what an engine needs, no knowledge of how a model was made.
//! - No engine sees bytes before every constant and every packed weight in them was checked against the byte budget.
//! - Where the tract engine runs a packed layer sparse, no dense copy of its weights exists after loading.
//! - An engine or provider that is absent is an error, never replaced by another one.
//! - Meters keep raw samples and decide nothing.

pub mod meter;
pub mod ort;
#[cfg(feature = "tract")]
pub mod tract;

mod engine;
mod error;
mod plan;
#[cfg(feature = "tract")]
mod region;
#[cfg(any(feature = "tract", feature = "ort"))]
mod screen;
#[cfg(all(test, feature = "tract"))]
mod testing;

pub use engine::{
    Engine, Facts, HostTensor, KernelChoice, LayerKernel, LoadOptions, NodeTime, Session, TensorFact, noise_inputs,
};
pub use error::RuntimeError;
pub use plan::{Choice, KERNEL_VERSION, Machine, Plan, Planned, Tile};
#[cfg(any(feature = "tract", feature = "ort"))]
pub use screen::metadata;

/// Engines that this build contains, fastest to start first.
pub const ENGINES: &[&str] = &[
    #[cfg(feature = "tract")]
    "tract",
    #[cfg(feature = "ort")]
    "ort",
];

/// The engine of that name: `tract` or `ort`.
///
/// # Errors
/// [`RuntimeError::EngineAbsent`] when this build does not contain it.
pub fn engine_named(name: &str) -> Result<Box<dyn Engine>, RuntimeError> {
    match name {
        #[cfg(feature = "tract")]
        "tract" => Ok(Box::new(tract::Tract)),
        #[cfg(feature = "ort")]
        "ort" => Ok(Box::new(ort::Ort)),
        _ if ["tract", "ort"].contains(&name) => Err(RuntimeError::EngineAbsent {
            what: format!("engine `{name}` is not in this build"),
            how_to_get_it: format!("build with --features {name}"),
        }),
        _ => Err(RuntimeError::EngineAbsent {
            what: format!("there is no engine `{name}`"),
            how_to_get_it: "--engine takes tract or ort".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_of_the_build_can_be_had_by_name() {
        for name in ENGINES {
            assert_eq!(engine_named(name).unwrap().name(), *name);
        }
        let error = engine_named("tensorflow").err().unwrap();
        assert_eq!(error.exit_code(), 5);
    }
}
