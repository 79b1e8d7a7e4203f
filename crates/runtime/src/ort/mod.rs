//! The ONNX Runtime engine, through a library found at run time.
//!
//! Packed files in function form are handed over as they are: ONNX Runtime inlines the functions and folds the decoding
//! away while loading, so it computes with dense weights.

mod library;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, ValueType};
use sentei_report::record;

pub use library::{LibraryInfo, library_info};

use crate::engine::{Engine, Facts, HostTensor, LoadOptions, NodeTime, Session, TensorFact, check_inputs};
use crate::error::{Deadline, RuntimeError};
use crate::screen::screen;

const NAME: &str = "ort";

/// The ONNX Runtime engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ort;

impl Engine for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError> {
        if options.provider != "cpu" {
            return Err(RuntimeError::EngineAbsent {
                what: format!("provider `{}` of the ort engine is not in this build", options.provider),
                how_to_get_it: "its provider is `cpu`".into(),
            });
        }
        let deadline = Deadline::start(options.time_budget);
        drop(screen(bytes, options.byte_budget)?);
        deadline.check("checking the file")?;
        let library = library::load(options.library.as_deref())?;
        let session = commit(&library.environment, bytes, options);
        deadline.check("reading and optimising the graph")?;
        let session = session?;

        let batch = Some(options.batch);
        let inputs = session.inputs().iter().map(|input| tensor_fact(input.name(), input.dtype(), batch));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs = session.outputs().iter().map(|output| tensor_fact(output.name(), output.dtype(), None));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let engine = record::Engine {
            name: NAME.into(),
            version: library.info.version,
            provider: "cpu".into(),
            threads: options.threads.max(1),
        };
        let facts = Facts { engine, ..Facts::default() };
        Ok(Box::new(OrtModel { session, inputs, outputs, facts }))
    }
}

/// Reads the model; a second thread cancels when the time budget is spent.
fn commit(
    environment: &ort::environment::Environment,
    bytes: &[u8],
    options: &LoadOptions,
) -> Result<OrtSession, RuntimeError> {
    let refused = |error: &dyn std::fmt::Display| RuntimeError::Load { engine: NAME, reason: error.to_string() };
    let builder = OrtSession::builder(environment).map_err(|error| refused(&error))?;
    let builder = builder.with_intra_threads(options.threads.max(1)).map_err(|error| refused(&error))?;
    let builder = builder.with_inter_threads(1).map_err(|error| refused(&error))?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All);
    let mut builder = builder.map_err(|error| refused(&error))?;
    let canceler = builder.canceler();
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(options.time_budget) == Err(RecvTimeoutError::Timeout) {
                // the deadline that follows reports the spent budget
                let _ = canceler.cancel();
            }
        });
        let session = builder.commit_from_memory(bytes);
        drop(done);
        session.map_err(|error| refused(&error))
    })
}

/// A model loaded by ONNX Runtime.
struct OrtModel {
    session: OrtSession,
    inputs: Vec<TensorFact>,
    outputs: Vec<TensorFact>,
    facts: Facts,
}

impl Session for OrtModel {
    fn inputs(&self) -> &[TensorFact] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorFact] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, RuntimeError> {
        check_inputs(&self.inputs, inputs)?;
        let failed = |error: ort::Error| RuntimeError::Run { engine: NAME, reason: error.to_string() };
        let mut named = Vec::with_capacity(inputs.len());
        for (fact, input) in self.inputs.iter().zip(inputs) {
            let value = TensorRef::from_array_view((input.shape.clone(), &input.data[..])).map_err(failed)?;
            named.push((fact.name.as_str(), value));
        }
        let outputs = self.session.run(named).map_err(failed)?;
        let host = |output: &TensorFact| {
            let (shape, data) = outputs[output.name.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
            let dim = |dim: &i64| usize::try_from(*dim).unwrap_or(0);
            Ok(HostTensor { shape: shape.iter().map(dim).collect(), data: data.to_vec() })
        };
        self.outputs.iter().map(host).collect()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn profile(&mut self, _: &[HostTensor], _: usize) -> Result<Vec<NodeTime>, RuntimeError> {
        let what = "time per layer (use --engine tract)".into();
        Err(RuntimeError::Unsupported { engine: NAME, what })
    }
}

/// * `batch`: what an open first axis becomes; `None` leaves it open.
fn tensor_fact(name: &str, value: &ValueType, batch: Option<usize>) -> Result<TensorFact, RuntimeError> {
    let ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } = value else {
        let what = format!("`{name}` is {value}, only f32 tensors are");
        return Err(RuntimeError::Unsupported { engine: NAME, what });
    };
    let axis = |(axis, dim): (usize, &i64)| usize::try_from(*dim).ok().or(batch.filter(|_| axis == 0));
    Ok(TensorFact { name: name.to_owned(), shape: shape.iter().enumerate().map(axis).collect() })
}
