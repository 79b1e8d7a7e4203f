//! The tract engine: pure Rust, always there, runs packed layers sparse.
//!
//! Loading is a row of stages: screen the bytes, lift the packed weights out of the graph, let tract type it, replace each
//! layer around a lifted weight by one sparse operator (or make its dense weight, where that is faster), let tract optimise
//! the rest. Threads: tract and the sparse kernels run on one, whatever is asked for, and the facts say so.

mod choose;
mod op;
mod pattern;
mod proto;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use sentei_report::record;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Framework, InferenceModelExt, onnx};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::matmul::optimized::{MatMulOperand, OptMatMul, ProtoFusedSpec};
use tract_onnx::tract_core::plan;

use crate::engine::{Engine, Facts, HostTensor, LayerKernel, LoadOptions, NodeTime, Session, TensorFact, check_inputs};
use crate::error::{Deadline, RuntimeError};
use crate::screen::screen;
use choose::{Chooser, SparseOp};
use op::{ConvOp, LinearOp, Scratch};
use proto::PackedWeight;

const NAME: &str = "tract";
/// Version of the tract crates, which the workspace pins.
pub const VERSION: &str = "0.23.9";

/// Note of a file whose weights tract decodes by itself.
const PACKED_INLINE: &str =
    "packed inline: decoded while loading and run dense; compile with --packing functions for the sparse kernels";

/// The tract engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError> {
        if options.provider != "cpu" {
            return Err(RuntimeError::EngineAbsent {
                what: format!("the tract engine has no provider `{}`", options.provider),
                how_to_get_it: "tract runs on the CPU only, which is provider `cpu`".into(),
            });
        }
        // tract's parser has unwraps that a hostile but well-formed file can reach
        let load = AssertUnwindSafe(|| TractSession::load(bytes, options));
        let session = catch_unwind(load).unwrap_or_else(|_| Err(RuntimeError::Malformed("tract gave up on it".into())));
        Ok(Box::new(session?))
    }
}

/// A model loaded by tract.
struct TractSession {
    state: TypedSimpleState,
    inputs: Vec<TensorFact>,
    outputs: Vec<TensorFact>,
    facts: Facts,
}

fn refused(error: TractError) -> RuntimeError {
    RuntimeError::Load { engine: NAME, reason: format!("{error:#}") }
}

fn failed(error: TractError) -> RuntimeError {
    RuntimeError::Run { engine: NAME, reason: format!("{error:#}") }
}

impl TractSession {
    fn load(bytes: &[u8], options: &LoadOptions) -> Result<Self, RuntimeError> {
        let deadline = Deadline::start(options.time_budget);
        let screened = screen(bytes, options.byte_budget)?;
        deadline.check("checking the file")?;
        let notes = screened.packed_inline.then(|| PACKED_INLINE.to_owned()).into_iter().collect();
        let mut proto: ModelProto = onnx().proto_model_for_read(&mut &*bytes).map_err(refused)?;
        let weights = proto::lift(&mut proto, screened.packed, options.batch)?;
        let model = onnx().model_for_proto_model(&proto).map_err(refused)?;
        drop(proto);
        deadline.check("reading the graph")?;
        let mut model = model.into_typed().map_err(refused)?;
        check_sizes(&model, options.byte_budget)?;
        deadline.check("inferring shapes")?;
        let scratch = Scratch::default();
        let kernels = place_weights(&mut model, weights, options, &scratch, &deadline)?;
        let model = model.into_optimized().map_err(refused)?;
        deadline.check("optimising")?;

        let facts = |outlets: &[OutletId]| outlets.iter().map(|outlet| tensor_fact(&model, *outlet)).collect();
        let (inputs, outputs) = (facts(&model.inputs), facts(&model.outputs));
        let weight_bytes = Some(weight_bytes(&model));
        let plan = TypedSimplePlan::new(model).map_err(refused)?;
        let arena = activation_bytes(&plan);
        let state = TypedSimpleState::new(&plan).map_err(refused)?;
        let engine = record::Engine { name: NAME.into(), version: VERSION.into(), provider: "cpu".into(), threads: 1 };
        let arena_bytes = arena.map(|bytes| bytes + scratch.bytes());
        Ok(Self { state, inputs, outputs, facts: Facts { engine, kernels, weight_bytes, arena_bytes, notes } })
    }

    fn values(&self, inputs: &[HostTensor]) -> Result<TVec<TValue>, RuntimeError> {
        check_inputs(&self.inputs, inputs)?;
        let model = self.state.model();
        let value = |(index, input): (usize, &HostTensor)| -> TractResult<TValue> {
            let tensor = Tensor::from_shape(&input.shape, &input.data)?;
            Ok(tensor.cast_to_dt(model.input_fact(index)?.datum_type)?.into_owned().into_tvalue())
        };
        inputs.iter().enumerate().map(value).collect::<TractResult<TVec<TValue>>>().map_err(failed)
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[TensorFact] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorFact] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, RuntimeError> {
        let values = self.values(inputs)?;
        let outputs = self.state.run(values).map_err(failed)?;
        let host = |value: TValue| -> TractResult<HostTensor> {
            let tensor = value.cast_to::<f32>()?;
            Ok(HostTensor {
                shape: tensor.shape().to_vec(),
                data: tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
            })
        };
        outputs.into_iter().map(host).collect::<TractResult<_>>().map_err(failed)
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn profile(&mut self, inputs: &[HostTensor], rounds: usize) -> Result<Vec<NodeTime>, RuntimeError> {
        let mut nodes: Vec<NodeTime> = Vec::new();
        let mut samples: Vec<Vec<u64>> = Vec::new();
        let mut index_of: HashMap<usize, usize> = HashMap::new();
        for _ in 0..rounds.max(1) {
            let values = self.values(inputs)?;
            let timed =
                |ctx: &EvalContext<'_>, state: Option<&mut (dyn OpState + 'static)>, node: &TypedNode, values| {
                    let started = Instant::now();
                    let outputs = plan::eval(ctx, state, node, values);
                    let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    let index = *index_of.entry(node.id).or_insert_with(|| {
                        nodes.push(NodeTime { name: node.name.clone(), op: node.op.name().into_owned(), time_ns: 0 });
                        samples.push(Vec::new());
                        nodes.len() - 1
                    });
                    samples[index].push(elapsed);
                    outputs
                };
            self.state.run_plan_with_eval(values, timed).map_err(failed)?;
        }
        for (node, samples) in nodes.iter_mut().zip(&mut samples) {
            samples.sort_unstable();
            node.time_ns = samples[samples.len() / 2];
        }
        Ok(nodes)
    }
}

/// Replaces every input that stands for a packed weight by a sparse operator or a constant.
fn place_weights(
    model: &mut TypedModel,
    weights: HashMap<String, PackedWeight>,
    options: &LoadOptions,
    scratch: &Scratch,
    deadline: &Deadline,
) -> Result<Vec<LayerKernel>, RuntimeError> {
    let mut chooser = Chooser::new(options.kernel_choice, options.choice_budget);
    let lifted: Vec<usize> = model
        .inputs
        .iter()
        .map(|outlet| outlet.node)
        .filter(|id| weights.contains_key(&model.node(*id).name))
        .collect();
    let order: HashMap<usize, usize> =
        model.eval_order().map_err(refused)?.into_iter().enumerate().map(|(at, id)| (id, at)).collect();
    let mut kernels: Vec<(usize, LayerKernel)> = Vec::new();
    for id in &lifted {
        let weight = &weights[&model.node(*id).name];
        let mut readers = model.outlet_successors(OutletId::new(*id, 0)).to_vec();
        readers.sort_by_key(|reader| order.get(&reader.node));
        let mut needs_dense = readers.is_empty();
        for reader in readers {
            let at = order.get(&reader.node).copied().unwrap_or(usize::MAX);
            let (sparse, kernel) = place_layer(model, reader, weight, &mut chooser, scratch)?;
            needs_dense |= !sparse;
            kernels.push((at, kernel));
            deadline.check("choosing kernels")?;
        }
        if needs_dense {
            make_constant(model, *id, weight).map_err(refused)?;
        }
    }
    let lifted: HashSet<usize> = lifted.into_iter().collect();
    let inputs: Vec<OutletId> = model.inputs.iter().copied().filter(|outlet| !lifted.contains(&outlet.node)).collect();
    model.set_input_outlets(&inputs).map_err(refused)?;
    model.compact().map_err(refused)?;
    kernels.sort_by_key(|(at, _)| *at);
    Ok(kernels.into_iter().map(|(_, kernel)| kernel).collect())
}

/// Decides how one reader of a packed weight runs, and replaces it if that is sparse.
fn place_layer(
    model: &mut TypedModel,
    reader: InletId,
    weight: &PackedWeight,
    chooser: &mut Chooser,
    scratch: &Scratch,
) -> Result<(bool, LayerKernel), RuntimeError> {
    let name = model.node(reader.node).name.clone();
    let name = name.strip_suffix(".ab").unwrap_or(&name).to_owned();
    let dense = |op: &str, reason: String| LayerKernel {
        name: name.clone(),
        op: op.to_owned(),
        shape: weight.shape.clone(),
        kernel: "dense".into(),
        reason,
        nnz: weight.nnz() as u64,
        weight_bytes: weight.elements() as u64 * 4,
    };
    let Some(layer) = pattern::layer_at(model, reader.node, reader.slot) else {
        let op = model.node(reader.node).op.name();
        return Ok((false, dense(&op, format!("dense: no sparse kernel for this {op}"))));
    };
    let sparse = match SparseOp::prepare(&layer, weight, scratch) {
        Ok(sparse) => sparse,
        Err(error) => return Ok((false, dense(&layer.op, format!("dense: {error}")))),
    };
    let decision = chooser.decide(model, &layer, weight, &sparse).map_err(refused)?;
    if !decision.sparse {
        return Ok((false, dense(&layer.op, decision.reason)));
    }
    if let SparseOp::Conv(op) = &sparse {
        scratch.reserve(op.conv.scratch_len());
    }
    let kernel = LayerKernel {
        kernel: sparse.kernel_name().into(),
        weight_bytes: sparse.weight_bytes(),
        ..dense(&layer.op, decision.reason)
    };
    replace(model, &layer, &name, sparse).map_err(refused)?;
    Ok((true, kernel))
}

fn replace(model: &mut TypedModel, layer: &pattern::Layer, name: &str, sparse: SparseOp) -> TractResult<()> {
    let mut patch = TypedModelPatch::default();
    let inputs: Vec<OutletId> = std::iter::once(layer.x).chain(layer.residual).collect();
    let taps = patch.taps(model, &inputs)?;
    let wires = patch.wire_node(format!("{name}.sparse"), sparse.boxed(), &taps)?;
    patch.shunt_outside(model, layer.output(), wires[0])?;
    patch.apply(model)
}

/// Turns an input that stands for a packed weight into the dense constant.
fn make_constant(model: &mut TypedModel, id: usize, weight: &PackedWeight) -> TractResult<()> {
    let tensor = weight.to_tensor();
    let fact = TypedFact::try_from(&tensor)?;
    let node = model.node_mut(id);
    node.op = Box::new(Const::new(tensor)?);
    node.outputs[0].fact = fact;
    Ok(())
}

/// Refuses a graph in which some value alone is above the byte budget.
fn check_sizes(model: &TypedModel, byte_budget: u64) -> Result<(), RuntimeError> {
    for node in model.nodes() {
        for output in &node.outputs {
            let needed = output.fact.shape.iter().try_fold(output.fact.datum_type.size_of() as u64, |bytes, dim| {
                dim.as_i64().map_or(Some(bytes), |dim| bytes.checked_mul(dim.max(1) as u64))
            });
            let needed = needed.unwrap_or(u64::MAX);
            if needed > byte_budget {
                let what = format!("the result of node `{}`", node.name);
                return Err(RuntimeError::too_many_bytes(what, needed, byte_budget));
            }
        }
    }
    Ok(())
}

fn tensor_fact(model: &TypedModel, outlet: OutletId) -> TensorFact {
    let name = model.outlet_label(outlet).unwrap_or(&model.node(outlet.node).name).to_owned();
    let shape = model.outlet_fact(outlet).map(|fact| fact.shape.iter().map(|dim| dim.to_usize().ok()).collect());
    TensorFact { name, shape: shape.unwrap_or_default() }
}

/// Bytes of every weight in the plan: constants, and what the sparse operators and tract's matrix products hold.
fn weight_bytes(model: &TypedModel) -> u64 {
    let sparse = |node: &TypedNode| {
        let conv = node.op_as::<ConvOp>().map(|op| op.conv.weight_bytes() as u64);
        conv.or(node.op_as::<LinearOp>().map(|op| op.linear.weight_bytes() as u64))
    };
    model.nodes().iter().filter_map(|node| sparse(node).or(dense_bytes(node))).sum()
}

/// Bytes of the dense weights that a node holds, if it is of a kind that can.
fn dense_bytes(node: &TypedNode) -> Option<u64> {
    let constant = node.op_as::<Const>().map(|op| tensor_bytes(op.val()));
    constant.or(node.op_as::<OptMatMul>().map(baked_bytes))
}

/// Bytes of the packed matrices that tract moved from the graph into a matrix product.
fn baked_bytes(product: &OptMatMul) -> u64 {
    let of_operand = |operand: &MatMulOperand| match operand {
        MatMulOperand::Const(value) => fact_bytes(value.exotic_fact()),
        MatMulOperand::Input(_) => 0,
    };
    let of_step = |step: &ProtoFusedSpec| match step {
        ProtoFusedSpec::AddMatMul { a, b, .. } => of_operand(a) + of_operand(b),
        _ => 0,
    };
    product.micro_ops.iter().map(of_step).sum()
}

/// Bytes of a constant; matrices that tract packed for its kernels look like scalars and have their own size.
fn tensor_bytes(tensor: &Tensor) -> u64 {
    match tensor.as_plain_ram() {
        Some(plain) => plain.as_bytes().len() as u64,
        None => tensor.exotic_fact().ok().flatten().map_or(0, |fact| fact_bytes(&*fact)),
    }
}

fn fact_bytes(fact: &dyn ExoticFact) -> u64 {
    fact.mem_size().to_i64().ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// Largest sum of values that are alive at the same time, constants not counted.
fn activation_bytes(plan: &TypedSimplePlan) -> Option<u64> {
    let model = plan.model();
    let steps = model.eval_tmp_memory_usage(plan.order_without_consts(), |node| !node.op_is::<Const>()).ok()?;
    steps.iter().map(|(_, bytes)| bytes.to_i64().ok().and_then(|bytes| u64::try_from(bytes).ok())).max()?
}

#[cfg(test)]
mod tests;
