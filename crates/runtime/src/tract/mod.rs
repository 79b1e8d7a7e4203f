//! The tract engine: pure Rust, always there, runs packed layers sparse.
//!
//! Loading is a row of stages: screen the bytes, lift the packed weights out of the graph, let tract type it, replace every run
//! of layers that our kernels can take by one operator (a region), let tract optimise the rest. Threads: regions use as many
//! as are asked for, tract's own operators one; the facts say what runs.

mod constant;
mod find;
mod op;
mod place;
mod proto;
mod step;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use sentei_kernels::packed::Packed;
use sentei_report::record;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Framework, InferenceModelExt, onnx};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::matmul::optimized::{MatMulOperand, OptMatMul, ProtoFusedSpec};
use tract_onnx::tract_core::plan;

use crate::engine::{Engine, Facts, HostTensor, LoadOptions, NodeTime, Session, TensorFact, check_inputs};
use crate::error::{Deadline, RuntimeError};
use crate::ort::Provider;
use crate::screen::screen;
use op::RegionOp;
use place::{Placed, place};

const NAME: &str = "tract";
/// Version of the tract crates, which the workspace pins.
pub const VERSION: &str = "0.23.9";

/// Note of a file whose weights tract decodes by itself.
const PACKED_INLINE: &str = "packed inline: decoded to dense weights while loading; compile with --packing functions to save that time and memory";

/// The tract engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Box<dyn Session>, RuntimeError> {
        if options.ort.provider != Provider::Cpu {
            return Err(RuntimeError::EngineAbsent {
                what: format!("the tract engine has no provider `{}`", options.ort.provider),
                how_to_get_it: "tract runs on the CPU only, which is provider `cpu`".into(),
            });
        }
        // tract's parser has unwraps that a hostile but well-formed file can reach
        let load = AssertUnwindSafe(|| TractSession::load(bytes, options));
        let session = catch_unwind(load).unwrap_or_else(|_| Err(RuntimeError::Malformed("tract gave up on it".into())));
        // the file's graph, decoded weights and candidates that lost are several times what the session keeps; so is tract's code
        sentei_kernels::return_freed_memory();
        sentei_kernels::forget_idle_code();
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
        let proto: ModelProto = onnx().proto_model_for_read(&mut &*bytes).map_err(refused)?;
        Self::from_proto(proto, screened.packed, notes, options, &deadline)
    }

    /// * `packed`: the screened chunks of packed weights, by the name of their value.
    fn from_proto(
        mut proto: ModelProto,
        packed: HashMap<String, Packed>,
        mut notes: Vec<String>,
        options: &LoadOptions,
        deadline: &Deadline,
    ) -> Result<Self, RuntimeError> {
        let weights = proto::lift(&mut proto, packed, options.batch)?;
        let model = onnx().model_for_proto_model(&proto).map_err(refused)?;
        drop(proto);
        deadline.check("reading the graph")?;
        let mut model = model.into_typed().map_err(refused)?;
        check_sizes(&model, options.byte_budget)?;
        deadline.check("inferring shapes")?;
        let placed = place(&mut model, weights, options, deadline)?;
        let model = model.into_optimized().map_err(refused)?;
        deadline.check("optimising")?;

        let facts = |outlets: &[OutletId]| outlets.iter().map(|outlet| tensor_fact(&model, *outlet)).collect();
        let (inputs, outputs) = (facts(&model.inputs), facts(&model.outputs));
        let weight_bytes = Some(weight_bytes(&model));
        let regions: u64 = model.nodes().iter().filter_map(|node| node.op_as()).map(RegionOp::arena_bytes).sum();
        let plan = TypedSimplePlan::new(model).map_err(refused)?;
        let arena = activation_bytes(&plan);
        let state = TypedSimpleState::new(&plan).map_err(refused)?;
        let (name, version, provider) = (NAME.into(), VERSION.into(), "cpu".into());
        let engine = record::Engine { name, version, provider, threads: placed.threads };
        let Placed { kernels, plan, notes: more, .. } = placed;
        notes.extend(more);
        let arena_bytes = arena.map(|bytes| bytes + regions);
        Ok(Self {
            state,
            inputs,
            outputs,
            facts: Facts { engine, kernels, weight_bytes, arena_bytes, nodes: vec![], plan, notes },
        })
    }

    fn values(&self, inputs: &[HostTensor]) -> Result<TVec<TValue>, RuntimeError> {
        check_inputs(&self.inputs, inputs)?;
        let model = self.state.model();
        let value = |(index, input): (usize, &HostTensor)| -> TractResult<TValue> {
            let tensor = Tensor::from_shape_align(&input.shape, &input.data, op::ALIGNMENT)?;
            match model.input_fact(index)?.datum_type {
                kind if kind == f32::datum_type() => Ok(tensor.into_tvalue()),
                other => Ok(tensor.cast_to_dt(other)?.into_owned().into_tvalue()),
            }
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
        // of the first entry of every node of the plan; a region has one per layer
        let mut index_of: HashMap<usize, usize> = HashMap::new();
        for _ in 0..rounds.max(1) {
            let values = self.values(inputs)?;
            let timed = |ctx: &EvalContext<'_>,
                         state: Option<&mut (dyn OpState + 'static)>,
                         node: &TypedNode,
                         values|
             -> TractResult<_> {
                let (outputs, times) = match node.op_as::<RegionOp>() {
                    Some(region) => region.eval_timed(values)?,
                    None => {
                        let started = Instant::now();
                        let outputs = plan::eval(ctx, state, node, values)?;
                        let time_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        let (name, op) = (node.name.clone(), node.op.name().into_owned());
                        (outputs, vec![NodeTime { name, op, time_ns }])
                    }
                };
                let first = *index_of.entry(node.id).or_insert_with(|| {
                    samples.resize(nodes.len() + times.len(), Vec::new());
                    nodes.extend(times.iter().cloned());
                    nodes.len() - times.len()
                });
                samples[first..].iter_mut().zip(&times).for_each(|(samples, node)| samples.push(node.time_ns));
                Ok(outputs)
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
    let region = |node: &TypedNode| node.op_as().map(RegionOp::weight_bytes);
    model.nodes().iter().filter_map(|node| region(node).or(dense_bytes(node))).sum()
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
