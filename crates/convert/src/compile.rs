//! From a graph to a packed file that is proven to compute the same.

use sentei_graph::Graph;
use sentei_graph::passes::{self, Step};

use crate::ConvertError;
use crate::equivalence::{Equivalence, Tolerance, Trace};
use crate::export::{ExportOptions, export};
use crate::import::{ImportOptions, import};
use crate::pack::{self, Packing, TensorRow, Values};

/// How a graph is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Form of packed weights.
    pub packing: Packing,
    /// Type of stored weights.
    pub values: Values,
    /// How the signature is written.
    pub export: ExportOptions,
    /// Seed of the inputs of the equivalence check.
    pub seed: u64,
    /// Number of inputs of the equivalence check.
    pub samples: usize,
    /// Most bytes the check may hold per evaluated graph.
    pub max_bytes: u64,
}

impl Default for CompileOptions {
    fn default() -> Self {
        CompileOptions {
            packing: Packing::default(),
            values: Values::default(),
            export: ExportOptions::default(),
            seed: 1,
            samples: 1,
            max_bytes: 4 << 30,
        }
    }
}

/// A compiled model and the proof that it is right.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The packed file.
    pub bytes: Vec<u8>,
    /// Its dense twin: the same weights, bit for bit, as plain `f32` initializers.
    pub dense_bytes: Vec<u8>,
    /// The graph of both.
    pub graph: Graph,
    /// What became of each prunable weight.
    pub tensors: Vec<TensorRow>,
    /// The packed file, read back, against its dense twin: exact.
    pub equivalence: Equivalence,
    /// The graph after the deployment passes against the graph before them: within rounding.
    pub deployment: Equivalence,
    /// What rounding the weights to `values` does to each layer; `None` with `f32`, which rounds nothing.
    pub rounding: Option<Equivalence>,
    /// What the deployment passes did.
    pub done: Vec<Step>,
}

/// Optimises, rounds and packs a graph, reads the bytes back and compares every layer.
///
/// # Errors
/// [`ConvertError::Mismatch`] when the passes or the packed bytes do not compute what the reference computes;
/// then nothing is returned. Other variants when the graph cannot be rewritten, rounded or written.
pub fn compile(graph: &Graph, options: &CompileOptions) -> Result<Compiled, ConvertError> {
    let trace = |graph| Trace::of(graph, options.seed, options.samples, options.max_bytes);
    let before = trace(graph)?;
    let rewritten = passes::for_deployment(graph.clone())?;
    let deployed = trace(&rewritten.graph)?;
    let deployment = before.compare(&deployed, Tolerance::Rounding);
    accept("the graph after the deployment passes", &deployment)?;
    drop(before);

    let (bytes, twin, tensors) = pack::pack(&rewritten.graph, options.packing, options.values, options.export)?;
    let read_back = import(&bytes, &ImportOptions { directory: None, max_bytes: u64::MAX })?;
    let packed = trace(&read_back)?;
    let equivalence = trace(&twin)?.compare(&packed, Tolerance::Exact);
    accept("the packed file", &equivalence)?;
    let rounding = (options.values != Values::F32).then(|| deployed.compare(&packed, Tolerance::Report));
    let dense_bytes = export(&twin, options.export)?;
    Ok(Compiled { bytes, dense_bytes, graph: twin, tensors, equivalence, deployment, rounding, done: rewritten.steps })
}

fn accept(stage: &'static str, equivalence: &Equivalence) -> Result<(), ConvertError> {
    if equivalence.passed {
        return Ok(());
    }
    Err(ConvertError::Mismatch { stage, equivalence: Box::new(equivalence.clone()) })
}
