//! Loads a model into ONNX Runtime, runs it, and sees to it that it ran where it was asked to.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ort::session::Session as OrtSession;
use ort::session::builder::SessionBuilder;
use ort::value::{TensorElementType, TensorRef, ValueType};
use sentei_report::record;

use super::absence::absent;
use super::options::{OrtOptions, Provider};
use super::profile::{self, Ran, Trace};
use super::{NAME, library, placement, probe, register};
use crate::engine::{
    Engine, Facts, HostTensor, KernelChoice, LoadOptions, NodeTime, Session, TensorFact, check_inputs, noise_inputs,
};
use crate::error::{Deadline, RuntimeError};
use crate::screen::screen;

/// The ONNX Runtime engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ort;

impl Engine for Ort {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError> {
        let asked = &options.ort;
        asked.check().map_err(|error| RuntimeError::Unsupported { engine: NAME, what: error.to_string() })?;
        if options.kernel_choice == KernelChoice::Int8 {
            let what = "`--kernels int8`, which is of the tract engine; it runs in bytes what the file says to, by QuantizeLinear".into();
            return Err(RuntimeError::Unsupported { engine: NAME, what });
        }
        let deadline = Deadline::start(options.time_budget);
        drop(screen(bytes, options.byte_budget)?);
        deadline.check("checking the file")?;
        let library = library::load(options.library.as_deref())?;
        let threads = options.threads.max(1);
        let trace = match options.profile || asked.shows_placement() {
            true => Some(Trace::start(asked.profile.as_deref())?),
            false => None,
        };
        let prefix = trace.as_ref().map(|trace| trace.prefix.as_path());
        let builder = register::builder(&library, asked, threads, prefix)?;
        let session = commit(builder, bytes, options.time_budget);
        deadline.check("reading and optimising the graph")?;
        let session = session.map_err(|reason| {
            // a device that is not there shows only now; a model that is at fault does not fail the probe
            let other = asked.provider != Provider::Cpu;
            match other.then(|| probe::refusal(&library, asked)).flatten() {
                Some(words) => absent(asked.provider, &library.info, &words),
                None => RuntimeError::Load { engine: NAME, reason },
            }
        })?;

        let batch = Some(options.batch);
        let inputs = session.inputs().iter().map(|input| tensor_fact(input.name(), input.dtype(), batch));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs = session.outputs().iter().map(|output| tensor_fact(output.name(), output.dtype(), None));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let (name, version, provider) = (NAME.into(), library.info.version, asked.provider.name().into());
        let facts = Facts { engine: record::Engine { name, version, provider, threads }, ..Facts::default() };
        let mut model = OrtModel { session, trace, asked: asked.clone(), inputs, outputs, facts };
        if !options.profile && model.trace.is_some() {
            let noise = noise_inputs(&model, 1);
            model.run(&noise)?;
            let runs = model.end_trace()?;
            model.place(&runs)?;
            deadline.check("running it once to see which provider runs each node")?;
        }
        Ok(Box::new(model))
    }
}

/// Reads the model; a second thread cancels when the time budget is spent. The error is in the library's words.
fn commit(mut builder: SessionBuilder, bytes: &[u8], time_budget: Duration) -> Result<OrtSession, String> {
    let canceler = builder.canceler();
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(time_budget) == Err(RecvTimeoutError::Timeout) {
                // the deadline that follows reports the spent budget
                let _ = canceler.cancel();
            }
        });
        let session = builder.commit_from_memory(bytes);
        drop(done);
        session.map_err(|error| error.to_string())
    })
}

/// A model loaded by ONNX Runtime.
struct OrtModel {
    session: OrtSession,
    /// Where the library notes the time of every node, until [`OrtModel::end_trace`].
    trace: Option<Trace>,
    asked: OrtOptions,
    inputs: Vec<TensorFact>,
    outputs: Vec<TensorFact>,
    facts: Facts,
}

impl OrtModel {
    /// The nodes of every run so far; from here on nothing is noted any more.
    fn end_trace(&mut self) -> Result<Vec<Vec<Ran>>, RuntimeError> {
        let Some(trace) = self.trace.take() else { return Ok(Vec::new()) };
        let file = self.session.end_profiling().map_err(failed)?;
        let runs = profile::read(file.as_ref());
        drop(trace);
        runs
    }

    /// Puts into the facts which provider ran each node, or fails if none ran where it was asked to.
    fn place(&mut self, runs: &[Vec<Ran>]) -> Result<(), RuntimeError> {
        let (asked, nodes) = (self.asked.provider, profile::places(runs));
        let note = placement::judge(asked, self.asked.allow_fallback == Some(true), &nodes)?;
        self.facts.notes.extend(note);
        self.facts.engine.provider = placement::joined(asked, &nodes);
        self.facts.nodes = nodes;
        Ok(())
    }
}

fn failed(error: ort::Error) -> RuntimeError {
    RuntimeError::Run { engine: NAME, reason: error.to_string() }
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

    /// Once per session, and only of one that was loaded with [`LoadOptions::profile`].
    fn profile(&mut self, inputs: &[HostTensor], rounds: usize) -> Result<Vec<NodeTime>, RuntimeError> {
        if self.trace.is_none() {
            let what =
                "time per layer of a session that was not loaded for it, or was asked before (LoadOptions::profile)";
            return Err(RuntimeError::Unsupported { engine: NAME, what: what.into() });
        }
        let rounds = rounds.max(1);
        // the first run allocates
        for _ in 0..=rounds {
            self.run(inputs)?;
        }
        let runs = self.end_trace()?;
        self.place(&runs)?;
        Ok(profile::times(&runs[runs.len().saturating_sub(rounds)..]))
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
