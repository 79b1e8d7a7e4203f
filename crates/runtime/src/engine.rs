//! What every engine does: load bytes, run tensors, say what really ran.

use std::time::Duration;

use sentei_report::record;
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::ort::{NodePlace, OrtOptions};
use crate::plan::Plan;

/// An inference engine that this build contains.
pub trait Engine {
    /// `tract` or `ort`.
    fn name(&self) -> &'static str;

    /// Checks `bytes` against the budgets of `options`, then makes a session of them.
    ///
    /// * `bytes`: a whole ONNX file, dense or packed; untrusted. External data is refused.
    ///
    /// # Errors
    /// [`RuntimeError::LimitExceeded`] before anything of the refused size is allocated,
    /// [`RuntimeError::Malformed`] for bytes that are no valid model, [`RuntimeError::EngineAbsent`] when the engine,
    /// its library or the provider that was asked for is missing, else [`RuntimeError::Load`].
    fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError>;
}

/// A loaded model.
pub trait Session {
    /// Inputs that [`Session::run`] expects, in order.
    fn inputs(&self) -> &[TensorFact];

    /// Outputs that [`Session::run`] gives, in order.
    fn outputs(&self) -> &[TensorFact];

    /// One inference. The same inputs give the same bits every time.
    ///
    /// # Errors
    /// [`RuntimeError::Input`] when number or shape of `inputs` differ from [`Session::inputs`], else
    /// [`RuntimeError::Run`].
    fn run(&mut self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, RuntimeError>;

    /// What was loaded and which kernel runs each packed layer.
    fn facts(&self) -> &Facts;

    /// Time of every node, in the order they run: the median over `rounds` (at least 1) runs.
    ///
    /// # Errors
    /// [`RuntimeError::Unsupported`] when the engine cannot tell, which ONNX Runtime can once after [`LoadOptions::profile`]; else as
    /// [`Session::run`].
    fn profile(&mut self, inputs: &[HostTensor], rounds: usize) -> Result<Vec<NodeTime>, RuntimeError>;
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Threads the engine may use, at least 1; [`Facts::engine`] says how many it does use.
    pub threads: usize,
    /// Most bytes that all decoded weights together, and any single activation, may take.
    pub byte_budget: u64,
    /// Most time that loading may take. It is checked between the stages of loading, so one stage may overrun it.
    pub time_budget: Duration,
    /// Size of the first axis of every input that leaves it open.
    pub batch: usize,
    /// Provider and options of the ort engine; another provider than was asked for is never used instead.
    pub ort: OrtOptions,
    /// Whether [`Session::profile`] is going to be called. ONNX Runtime then notes the time of every node of every run, which makes
    /// runs slower, and does not know before that call which provider runs each node.
    pub profile: bool,
    /// Who decides whether a packed layer runs sparse.
    pub kernel_choice: KernelChoice,
    /// Runs portable kernels for what [`KernelChoice::Int8`] computes in bytes. The bits are those of all others: what a processor's own
    /// ones are tested with.
    pub portable_int8: bool,
    /// Most time that [`KernelChoice::Measure`] may spend on timing, all layers together.
    pub choice_budget: Duration,
    /// Times kernels against each other that round differently too, for a plan that is going to be kept.
    ///
    /// Otherwise timing decides among those that give the same bits as the one that is fastest by rule, and the bits of two loads
    /// are the same however the timings fall out.
    pub tune: bool,
    /// Ties every thread to a core of its own.
    pub pin: bool,
    /// Decisions of an earlier load of the same file, which [`KernelChoice::Measure`] follows where they fit; those that do not are
    /// measured, and a note in [`Facts::notes`] says so.
    pub plan: Option<Plan>,
    /// ONNX Runtime library to use instead of searching for one.
    pub library: Option<std::path::PathBuf>,
}

impl Default for LoadOptions {
    /// One thread, batch 1, on the CPU, 1 GiB, one minute, kernels measured for at most 1.5 s.
    fn default() -> Self {
        Self {
            threads: 1,
            byte_budget: 1 << 30,
            time_budget: Duration::from_secs(60),
            batch: 1,
            ort: OrtOptions::default(),
            profile: false,
            kernel_choice: KernelChoice::Measure,
            portable_int8: false,
            choice_budget: Duration::from_millis(1500),
            tune: false,
            pin: false,
            plan: None,
            library: None,
        }
    }
}

/// Who decides whether a packed layer runs sparse or dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// Candidates are timed while loading and the fastest is kept, see [`LoadOptions::tune`].
    #[default]
    Measure,
    /// Sparse wherever a sparse kernel exists.
    AlwaysSparse,
    /// Dense everywhere: weights are decoded while loading.
    AlwaysDense,
    /// Convolutions in bytes where there is a kernel for that, see `sentei_kernels::int8`: weights as the file has them, or rounded to bytes
    /// by output, inputs rounded to bytes as they are read. The results are close to those of the other choices, and not the same. What
    /// else there is (depthwise and fully connected layers) is measured.
    Int8,
}

impl KernelChoice {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Measure, Self::AlwaysSparse, Self::AlwaysDense, Self::Int8];

    /// The value of `--kernels` that means this choice: `measure`, `sparse`, `dense` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::AlwaysSparse => "sparse",
            Self::AlwaysDense => "dense",
            Self::Int8 => "int8",
        }
    }

    /// What follows a model's name where this choice gives other results than the file says.
    pub fn label(self) -> &'static str {
        if self == Self::Int8 { " (int8)" } else { "" }
    }

    /// The choice of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Name and shape of one input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFact {
    /// Name in the ONNX file.
    pub name: String,
    /// Shape after the batch is fixed; `None` is an axis that depends on the data.
    pub shape: Vec<Option<usize>>,
}

/// A dense f32 tensor in main memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` numbers.
    pub data: Vec<f32>,
}

impl HostTensor {
    /// A tensor of the given shape.
    ///
    /// # Errors
    /// [`RuntimeError::Input`] when `data` does not have as many numbers as `shape` says.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, RuntimeError> {
        let expected = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if expected == Some(data.len()) {
            return Ok(Self { shape, data });
        }
        Err(RuntimeError::Input(format!("tensor of shape {shape:?} has {} numbers", data.len())))
    }

    /// Deterministic noise in `[-1, 1)`, for measuring; the same `seed` gives the same bits on every machine.
    pub fn noise(shape: &[usize], seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        Self { shape: shape.to_vec(), data: (0..shape.iter().product()).map(|_| next()).collect() }
    }
}

/// Noise for every input of a session; an axis that depends on the data gets 1.
pub fn noise_inputs(session: &dyn Session, seed: u64) -> Vec<HostTensor> {
    let shapes = session.inputs().iter().map(|fact| fact.shape.iter().map(|dim| dim.unwrap_or(1)).collect::<Vec<_>>());
    shapes.enumerate().map(|(index, shape)| HostTensor::noise(&shape, seed + index as u64)).collect()
}

/// What a session consists of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Engine, version, provider and threads that really run.
    pub engine: record::Engine,
    /// One entry per layer that was packed in the file or runs in a region, in the order they run.
    pub kernels: Vec<LayerKernel>,
    /// Bytes of weights the plan keeps, packed and dense; `None` if the engine does not tell.
    pub weight_bytes: Option<u64>,
    /// Largest sum of live activations during a run, with the scratch of the kernels; `None` if the engine does not tell.
    pub arena_bytes: Option<u64>,
    /// Which provider of ONNX Runtime really ran each node; empty if the model was not run to find out, see
    /// [`OrtOptions::shows_placement`], and for other engines.
    pub nodes: Vec<NodePlace>,
    /// The decisions behind [`Facts::kernels`], for [`LoadOptions::plan`] of the next load; `None` if there were none.
    pub plan: Option<Plan>,
    /// What a user should know about how this file runs, one sentence each; mostly empty.
    pub notes: Vec<String>,
}

/// Which kernel runs one packed layer, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerKernel {
    /// Name of the node in the ONNX file.
    pub name: String,
    /// Operator with what was fused into it, for example `Conv+Add+Relu`.
    pub op: String,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Kernel, for example `f32_planes_112x1_avx2`, or `dense`.
    pub kernel: String,
    /// Why this kernel, for example `sparse 3.1x`.
    pub reason: String,
    /// Non-zero weights.
    pub nnz: u64,
    /// Bytes of weights this layer keeps in memory.
    pub weight_bytes: u64,
}

/// Time of one node of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTime {
    /// Name of the node.
    pub name: String,
    /// Operator as the engine calls it.
    pub op: String,
    /// Median over the rounds, in nanoseconds.
    pub time_ns: u64,
}

/// Refuses inputs that a session does not expect.
#[cfg(any(feature = "tract", feature = "ort"))]
pub(crate) fn check_inputs(facts: &[TensorFact], inputs: &[HostTensor]) -> Result<(), RuntimeError> {
    if facts.len() != inputs.len() {
        return Err(RuntimeError::Input(format!("the model has {} inputs, {} were given", facts.len(), inputs.len())));
    }
    for (fact, input) in facts.iter().zip(inputs) {
        let fits = fact.shape.len() == input.shape.len()
            && fact.shape.iter().zip(&input.shape).all(|(want, have)| want.is_none_or(|want| want == *have));
        let full = input.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if !fits || full != Some(input.data.len()) {
            let want: Vec<String> = fact.shape.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
            let (name, have, numbers) = (&fact.name, &input.shape, input.data.len());
            let want = want.join(", ");
            return Err(RuntimeError::Input(format!(
                "input `{name}` expects shape [{want}], found {have:?} with {numbers} numbers"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_needs_as_many_numbers_as_its_shape_says() {
        assert!(HostTensor::new(vec![2, 3], vec![0.0; 6]).is_ok());
        assert!(HostTensor::new(vec![2, 3], vec![0.0; 5]).is_err());
        assert!(HostTensor::new(vec![usize::MAX, 2], vec![]).is_err());
        assert!(HostTensor::new(vec![], vec![1.0]).is_ok());
    }

    #[test]
    fn noise_is_repeatable_and_inside_its_range() {
        let a = HostTensor::noise(&[3, 50], 7);
        assert_eq!(a, HostTensor::noise(&[3, 50], 7));
        assert_ne!(a, HostTensor::noise(&[3, 50], 8));
        assert!(a.data.iter().all(|x| (-1.0..1.0).contains(x)));
        let mean = a.data.iter().sum::<f32>() / 150.0;
        assert!(mean.abs() < 0.2, "{mean}");
    }
}
