//! Never slower than dense: decides per layer, by timing both candidates on this machine, which one is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentei_kernels::KernelError;
use sentei_kernels::conv::SparseConv;
use sentei_kernels::gemv::SparseLinear;
use tract_onnx::tract_core::internal::*;

use super::op::{ConvOp, LinearOp, Scratch};
use super::pattern::{Kind, Layer, constant};
use super::proto::PackedWeight;
use crate::engine::{HostTensor, KernelChoice};

/// Most runs of each candidate; the median of them counts.
const RUNS: usize = 7;
/// Most time for the runs of one layer, as a share of what is left of the whole budget.
const SHARE_OF_BUDGET: u32 = 4;
/// Density up to which a layer runs sparse when there was no time to measure it: at 50 % zeros the sparse kernels took
/// 1.2 (512 channels, 7x7) to 3 times (16 channels, 32x32) less time than tract's dense ones on an AVX-512 Xeon, one thread.
pub(super) const SPARSE_UNTIMED: f64 = 0.5;

/// A layer prepared for a sparse kernel.
#[derive(Clone, Debug)]
pub(super) enum SparseOp {
    Conv(ConvOp),
    Linear(LinearOp),
}

impl SparseOp {
    pub(super) fn prepare(layer: &Layer, weight: &PackedWeight, scratch: &Scratch) -> Result<Self, KernelError> {
        let bias = layer.bias.as_deref();
        let activation = layer.activation;
        Ok(match &layer.kind {
            Kind::Conv(geometry) => {
                let conv = Arc::new(SparseConv::prepare(geometry.clone(), weight.nonzeros(), bias)?);
                Self::Conv(ConvOp { conv, activation, scratch: scratch.clone() })
            }
            Kind::Linear { rows, cols, transposed: false } => {
                let linear = Arc::new(SparseLinear::prepare(*rows, *cols, weight.nonzeros(), bias)?);
                Self::Linear(LinearOp { linear, activation })
            }
            Kind::Linear { rows, cols, transposed: true } => {
                let turn = |(index, value): (u32, f32)| {
                    let (col, row) = (index as usize / rows, index as usize % rows);
                    // both layouts have the same number of elements, so the index stays in range
                    ((row * cols + col) as u32, value)
                };
                let mut turned: Vec<_> = weight.nonzeros().map(turn).collect();
                turned.sort_unstable_by_key(|(index, _)| *index);
                let linear = Arc::new(SparseLinear::prepare(*rows, *cols, turned, bias)?);
                Self::Linear(LinearOp { linear, activation })
            }
        })
    }

    pub(super) fn kernel_name(&self) -> &'static str {
        match self {
            Self::Conv(op) => op.conv.kernel_name(),
            Self::Linear(op) => op.linear.kernel_name(),
        }
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        match self {
            Self::Conv(op) => op.conv.weight_bytes() as u64,
            Self::Linear(op) => op.linear.weight_bytes() as u64,
        }
    }

    pub(super) fn boxed(&self) -> Box<dyn TypedOp> {
        match self {
            Self::Conv(op) => Box::new(op.clone()),
            Self::Linear(op) => Box::new(op.clone()),
        }
    }
}

/// Which candidate is kept, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) sparse: bool,
    pub(super) reason: String,
}

/// Makes the decisions of one load.
#[derive(Debug)]
pub(super) struct Chooser {
    choice: KernelChoice,
    left: Duration,
    /// Layers timed so far: geometry, non-zeros, decision.
    known: Vec<(String, usize, Decision)>,
}

impl Chooser {
    pub(super) fn new(choice: KernelChoice, budget: Duration) -> Self {
        Self { choice, left: budget, known: Vec::new() }
    }

    /// Decides about one layer; `sparse` is its sparse candidate.
    pub(super) fn decide(
        &mut self,
        model: &TypedModel,
        layer: &Layer,
        weight: &PackedWeight,
        sparse: &SparseOp,
    ) -> TractResult<Decision> {
        let asked = |sparse, reason: &str| Ok(Decision { sparse, reason: reason.into() });
        match self.choice {
            KernelChoice::AlwaysSparse => return asked(true, "sparse: asked for"),
            KernelChoice::AlwaysDense => return asked(false, "dense: asked for"),
            KernelChoice::Measure => {}
        }
        let x = model.outlet_fact(layer.x)?;
        let same = format!("{:?} {:?} {} {}", layer.kind, x.shape, layer.op, layer.residual.is_some());
        let nnz = weight.nnz();
        if let Some(decision) = self.known_for(&same, nnz) {
            return Ok(decision);
        }
        if self.left.is_zero() {
            let density = nnz as f64 / weight.elements() as f64;
            let percent = 100.0 - 100.0 * density;
            let sparse = density <= SPARSE_UNTIMED;
            let kernel = if sparse { "sparse" } else { "dense" };
            return asked(sparse, &format!("{kernel}: {percent:.0} % zeros, not timed (--choice-budget spent)"));
        }
        let started = Instant::now();
        let decision = self.race(model, layer, weight, sparse)?;
        self.left = self.left.saturating_sub(started.elapsed());
        self.known.push((same, nnz, decision.clone()));
        Ok(decision)
    }

    /// Fewer non-zeros make the sparse kernel faster and leave the dense one as it was.
    fn known_for(&self, same: &str, nnz: usize) -> Option<Decision> {
        let answers = |(layer, known, decision): &&(String, usize, Decision)| {
            layer == same && if decision.sparse { nnz <= *known } else { nnz >= *known }
        };
        let (_, _, decision) = self.known.iter().find(answers)?;
        Some(Decision {
            sparse: decision.sparse,
            reason: format!("{} (timed on a layer of this shape)", decision.reason),
        })
    }

    fn race(
        &self,
        model: &TypedModel,
        layer: &Layer,
        weight: &PackedWeight,
        sparse: &SparseOp,
    ) -> TractResult<Decision> {
        let (dense, inputs) = dense_alone(model, layer, weight)?;
        let mut dense = Candidate::new(dense.into_optimized()?)?;
        let mut sparse = Candidate::new(sparse_alone(model, layer, sparse)?)?;
        let limit = self.left / SHARE_OF_BUDGET;
        let started = Instant::now();
        // the first run of each is not counted: it warms caches and allocates
        for candidate in [&mut dense, &mut sparse] {
            candidate.run(&inputs)?;
            candidate.times.clear();
        }
        while dense.times.len() < RUNS && (dense.times.is_empty() || started.elapsed() < limit) {
            dense.run(&inputs)?;
            sparse.run(&inputs)?;
        }
        let ratio = dense.median() / sparse.median();
        Ok(match ratio >= 1.0 {
            true => Decision { sparse: true, reason: format!("sparse {ratio:.1}x") },
            false => Decision { sparse: false, reason: format!("dense: sparse was {ratio:.2}x") },
        })
    }
}

struct Candidate {
    state: TypedSimpleState,
    times: Vec<Duration>,
}

impl Candidate {
    fn new(model: TypedModel) -> TractResult<Self> {
        Ok(Self { state: TypedSimpleState::new(&TypedSimplePlan::new(model)?)?, times: Vec::new() })
    }

    fn run(&mut self, inputs: &TVec<TValue>) -> TractResult<()> {
        let inputs = inputs.clone();
        let started = Instant::now();
        self.state.run(inputs)?;
        self.times.push(started.elapsed());
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.times.sort_unstable();
        self.times[self.times.len() / 2].as_secs_f64().max(1e-9)
    }
}

/// Sources for the activations of a layer, with noise to feed them.
fn sources(model: &TypedModel, layer: &Layer, alone: &mut TypedModel) -> TractResult<(TVec<OutletId>, TVec<TValue>)> {
    let (mut wires, mut noise) = (tvec!(), tvec!());
    for (index, outlet) in std::iter::once(layer.x).chain(layer.residual).enumerate() {
        let fact = model.outlet_fact(outlet)?;
        let shape = fact.shape.as_concrete().context("the batch is fixed, so shapes are known")?;
        let tensor = HostTensor::noise(shape, index as u64);
        noise.push(Tensor::from_shape(&tensor.shape, &tensor.data)?.into_tvalue());
        wires.push(alone.add_source(format!("source{index}"), fact.without_value())?);
    }
    Ok((wires, noise))
}

/// The nodes of the layer with a dense weight, and noise inputs.
fn dense_alone(model: &TypedModel, layer: &Layer, weight: &PackedWeight) -> TractResult<(TypedModel, TVec<TValue>)> {
    let mut alone = TypedModel::default();
    let (wires, noise) = sources(model, layer, &mut alone)?;
    let mut mapping: HashMap<OutletId, OutletId> = HashMap::new();
    for (outlet, wire) in std::iter::once(layer.x).chain(layer.residual).zip(wires) {
        mapping.insert(outlet, wire);
    }
    let weight_outlet = model.node(layer.nodes[0]).inputs[1];
    mapping.insert(weight_outlet, alone.add_const("weight", weight.to_tensor())?);
    for id in &layer.nodes {
        let node = model.node(*id);
        let mut inputs: TVec<OutletId> = tvec!();
        for input in &node.inputs {
            let wire = match mapping.get(input) {
                Some(wire) => *wire,
                None => {
                    let value = constant(model, *input).context("a layer reads its input, its weight and constants")?;
                    alone.add_const(format!("constant.{}.{}", input.node, input.slot), value)?
                }
            };
            inputs.push(wire);
        }
        let outputs = alone.wire_node(&node.name, node.op.clone(), &inputs)?;
        mapping.insert(OutletId::new(*id, 0), outputs[0]);
    }
    alone.select_output_outlets(&[mapping[&layer.output()]])?;
    Ok((alone, noise))
}

fn sparse_alone(model: &TypedModel, layer: &Layer, sparse: &SparseOp) -> TractResult<TypedModel> {
    let mut alone = TypedModel::default();
    let (wires, _) = sources(model, layer, &mut alone)?;
    let outputs = alone.wire_node("layer", sparse.boxed(), &wires)?;
    alone.select_output_outlets(&outputs)?;
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(sparse: bool) -> Chooser {
        let decision = Decision { sparse, reason: "r".into() };
        Chooser { choice: KernelChoice::Measure, left: Duration::ZERO, known: vec![("a".into(), 100, decision)] }
    }

    #[test]
    fn a_sparser_layer_of_the_same_shape_needs_no_timing() {
        assert!(knowing(true).known_for("a", 90).unwrap().sparse);
        assert_eq!(knowing(true).known_for("a", 110), None);
        assert_eq!(knowing(true).known_for("b", 90), None);
    }

    #[test]
    fn where_dense_won_a_denser_layer_runs_dense_too() {
        assert!(!knowing(false).known_for("a", 110).unwrap().sparse);
        assert_eq!(knowing(false).known_for("a", 90), None);
    }
}
