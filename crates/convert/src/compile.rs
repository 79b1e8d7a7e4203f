//! From a graph to a packed file that is proven to compute the same.

use sentei_graph::Graph;
use sentei_graph::passes::{self, Step};

use crate::ConvertError;
use crate::equivalence::{Equivalence, Tolerance, Trace};
use crate::export::{ExportOptions, export};
use crate::import::{ImportOptions, import};
use crate::pack::{self, Packing, TensorRow, Values};
use crate::two_of_four::{self, LayerPattern, two_of_four};

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
    /// Keeps groups of 4 input channels whole where they keep to 2:4: dead channels go only if they tear none of them, and
    /// the written bytes are checked group by group.
    pub keep_groups: bool,
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
            keep_groups: false,
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
    /// Which layers of the written file keep to 2:4.
    pub patterns: Vec<LayerPattern>,
    /// Whether dead channels were left in, because without them groups of 4 would be torn.
    pub dead_channels_stay: bool,
}

/// Optimises, rounds and packs a graph, reads the bytes back and compares every layer.
///
/// # Errors
/// [`ConvertError::Mismatch`] when the passes or the packed bytes do not compute what the reference computes;
/// then nothing is returned. [`ConvertError::Pattern`] likewise, when a layer lost its groups. Other variants when the graph cannot be rewritten, rounded or written.
pub fn compile(graph: &Graph, options: &CompileOptions) -> Result<Compiled, ConvertError> {
    let trace = |graph| Trace::of(graph, options.seed, options.samples, options.max_bytes);
    let before = trace(graph)?;
    let (rewritten, dead_channels_stay) = match options.keep_groups {
        true => two_of_four::deploy_in_whole_groups(graph)?,
        false => (passes::for_deployment(graph.clone())?, false),
    };
    let deployed = trace(&rewritten.graph)?;
    let deployment = before.compare(&deployed, Tolerance::Rounding);
    accept("the graph after the deployment passes", &deployment)?;
    drop(before);

    let (bytes, twin, tensors) = pack::pack(&rewritten.graph, options.packing, options.values, options.export)?;
    let read_back = import(&bytes, &ImportOptions { directory: None, max_bytes: u64::MAX })?;
    if options.keep_groups {
        two_of_four::check_kept(graph, &read_back)?;
    }
    let patterns = two_of_four(&read_back);
    let packed = trace(&read_back)?;
    let equivalence = trace(&twin)?.compare(&packed, Tolerance::Exact);
    accept("the packed file", &equivalence)?;
    let rounding = (options.values != Values::F32).then(|| deployed.compare(&packed, Tolerance::Report));
    let dense_bytes = export(&twin, options.export)?;
    let done = rewritten.steps;
    let graph = twin;
    Ok(Compiled {
        bytes,
        dense_bytes,
        graph,
        tensors,
        equivalence,
        deployment,
        rounding,
        done,
        patterns,
        dead_channels_stay,
    })
}

fn accept(stage: &'static str, equivalence: &Equivalence) -> Result<(), ConvertError> {
    if equivalence.passed {
        return Ok(());
    }
    Err(ConvertError::Mismatch { stage, equivalence: Box::new(equivalence.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: &str = "x = input f32[1,2,6,6]
        a = Conv(x, w[5,2,3,3]) pad=1
        n = BatchNorm(a, g[5], s[5], m[5], v[5])
        r = Relu(n)
        d = Dropout(r) rate=0.5
        f = Flatten(d)
        y = Gemm(f, u[7,180], b[7])";

    #[test]
    fn the_same_graph_gives_the_same_bytes_and_says_what_was_done() {
        let graph = Graph::parse(NET).unwrap();
        let options = CompileOptions { values: Values::I8, ..Default::default() };
        let (first, second) = (compile(&graph, &options).unwrap(), compile(&graph, &options).unwrap());
        assert_eq!(first.bytes, second.bytes);
        assert_eq!(first.graph.nodes().len(), 4, "batch norm is folded and dropout dropped");
        assert!(first.done.iter().any(|s| s.pass == "fold_batch_norm"));
        assert_eq!(first.equivalence.max_ulp, 0);
        let rounding = first.rounding.unwrap();
        assert!(rounding.passed && rounding.max_abs > 0.0, "int8 weights change the outputs and that is reported");
        assert_eq!(first.tensors.iter().map(|t| t.dense_bytes).collect::<Vec<_>>(), [360, 5040]);
    }

    #[test]
    fn a_check_that_needs_too_much_memory_is_refused() {
        let options = CompileOptions { max_bytes: 1000, ..Default::default() };
        let error = compile(&Graph::parse(NET).unwrap(), &options).unwrap_err();
        assert!(error.is_limit(), "{error}");
    }

    #[test]
    fn a_comparison_that_failed_becomes_a_mismatch_that_names_the_layer() {
        let graph = Graph::parse(NET).unwrap();
        let other = Graph::parse(&NET.replace("pad=1", "pad=0,0,2,2")).unwrap();
        let trace = |graph| Trace::of(graph, 1, 1, u64::MAX).unwrap();
        let found = trace(&graph).compare(&trace(&other), Tolerance::Rounding);
        let error = accept("the packed file", &found).unwrap_err();
        assert!(error.is_mismatch() && error.to_string().contains("first at `a`"), "{error}");
    }
}
