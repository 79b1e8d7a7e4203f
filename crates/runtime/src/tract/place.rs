//! Puts regions into tract's graph, and makes constants of the packed weights that no region took.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sentei_kernels::team::Team;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;

use super::find::{Found, find};
use super::op::RegionOp;
use super::proto::PackedWeight;
use super::{failed, refused};
use crate::engine::{KernelChoice, LayerKernel, LoadOptions};
use crate::error::{Deadline, RuntimeError};
use crate::plan::{Machine, Plan};
use crate::region::{Built, Tuner, build};

/// What became of the layers of a graph.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Layers of regions, and packed weights that became dense, in the order they run.
    pub(super) kernels: Vec<LayerKernel>,
    /// Threads that run: 1 where there is no region.
    pub(super) threads: usize,
    /// The decisions, for the next load.
    pub(super) plan: Option<Plan>,
    pub(super) notes: Vec<String>,
}

/// Replaces every part of `model` that kernels can run by one operator each, and what is left of `weights` by constants.
pub(super) fn place(
    model: &mut TypedModel,
    weights: HashMap<String, PackedWeight>,
    options: &LoadOptions,
    deadline: &Deadline,
) -> Result<Placed, RuntimeError> {
    let order: HashMap<usize, usize> =
        model.eval_order().map_err(refused)?.into_iter().enumerate().map(|(at, id)| (id, at)).collect();
    let mut placed = Placed { threads: 1, ..Placed::default() };
    let mut kernels: Vec<(usize, LayerKernel)> = Vec::new();
    if options.kernel_choice != KernelChoice::AlwaysDense {
        for (at, of_region) in place_regions(model, &weights, options, deadline, &order, &mut placed)? {
            kernels.extend(of_region.into_iter().map(|kernel| (at, kernel)));
        }
    }
    kernels.extend(make_constants(model, weights, options, &order).map_err(refused)?);
    model.compact().map_err(refused)?;
    kernels.sort_by_key(|(at, _)| *at);
    placed.kernels = kernels.into_iter().map(|(_, kernel)| kernel).collect();
    Ok(placed)
}

type OfRegion = (usize, Vec<LayerKernel>);

fn place_regions(
    model: &mut TypedModel,
    weights: &HashMap<String, PackedWeight>,
    options: &LoadOptions,
    deadline: &Deadline,
    order: &HashMap<usize, usize>,
    placed: &mut Placed,
) -> Result<Vec<OfRegion>, RuntimeError> {
    let fed = model.inputs.iter().find(|input| !weights.contains_key(&model.node(input.node).name));
    let batch = fed.and_then(|input| model.outlet_fact(*input).ok()?.shape.first()?.to_usize().ok());
    let found = find(model, weights, batch.unwrap_or(1)).map_err(refused)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let threads = options.threads.max(1);
    let team = Team::new(threads, options.pin).map_err(|error| failed(error.into()))?;
    let stale = options.plan.as_ref().and_then(|plan| plan.stale(&Machine::here()));
    if let Some(why) = &stale {
        placed.notes.push(format!("the stored plan was not used: {why}"));
    }
    let plan = options.plan.as_ref().filter(|_| stale.is_none());
    let mut tuner = Tuner::new(options, plan);
    let (mut of_regions, mut built) = (Vec::new(), Vec::new());
    for Found { net, inputs, outputs } in found {
        let name = net.layers[0].name.clone();
        let at = outputs.iter().filter_map(|(outlet, _)| order.get(&outlet.node).copied()).max().unwrap_or(usize::MAX);
        match build(net, &mut tuner, threads) {
            Ok(region) => {
                of_regions.push((at, region.kernels.clone()));
                built.push((name, region, inputs, outputs));
            }
            Err(error) => placed.notes.push(format!("the layers from `{name}` on run in tract: {error}")),
        }
        deadline.check("choosing kernels")?;
    }
    let (decided, missed) = tuner.into_decided();
    if plan.is_some() && missed > 0 {
        placed
            .notes
            .push(format!("the stored plan does not fit {missed} of {} layers, which were timed", decided.len()));
    }
    if !built.is_empty() {
        placed.threads = threads;
        // a plan is followed by loads that measure, whose results must not be those of bytes
        placed.plan = (options.kernel_choice != KernelChoice::Int8).then(|| Plan::here(decided));
    }
    let team = Arc::new(team);
    // the last first, so that outlets of the others still exist
    for (name, region, inputs, outputs) in built.into_iter().rev() {
        replace(model, &name, region, &team, batch.unwrap_or(1), &inputs, &outputs).map_err(refused)?;
    }
    Ok(of_regions)
}

fn replace(
    model: &mut TypedModel,
    name: &str,
    built: Built,
    team: &Arc<Team>,
    batch: usize,
    inputs: &[OutletId],
    outputs: &[(OutletId, usize)],
) -> TractResult<()> {
    let shape = |(outlet, output): &(OutletId, usize)| -> TractResult<(usize, TVec<usize>)> {
        let shape = model.outlet_fact(*outlet)?.shape.as_concrete().context("shapes of a region are known")?;
        Ok((*output, shape.into()))
    };
    let shapes = outputs.iter().map(shape).collect::<TractResult<_>>()?;
    let op = RegionOp::new(built.region, Arc::clone(team), built.ops, batch, shapes);
    let mut patch = TypedModelPatch::default();
    let taps = patch.taps(model, inputs)?;
    let wires = patch.wire_node(format!("{name}.region"), op, &taps)?;
    for ((outlet, _), wire) in outputs.iter().zip(wires) {
        patch.shunt_outside(model, *outlet, wire)?;
    }
    patch.apply(model)
}

/// Turns inputs that stand for packed weights into dense constants where somebody still reads them, and drops the others.
fn make_constants(
    model: &mut TypedModel,
    weights: HashMap<String, PackedWeight>,
    options: &LoadOptions,
    order: &HashMap<usize, usize>,
) -> TractResult<Vec<(usize, LayerKernel)>> {
    let alive: HashSet<usize> = model.eval_order()?.into_iter().collect();
    let lifted: Vec<usize> = model
        .inputs
        .iter()
        .map(|outlet| outlet.node)
        .filter(|id| weights.contains_key(&model.node(*id).name))
        .collect();
    let mut kernels = Vec::new();
    for id in &lifted {
        let readers = model.outlet_successors(OutletId::new(*id, 0)).iter().map(|reader| reader.node);
        let readers: Vec<usize> = readers.filter(|reader| alive.contains(reader)).collect();
        let is_output = model.outputs.contains(&OutletId::new(*id, 0));
        if readers.is_empty() && !is_output {
            continue;
        }
        let weight = &weights[&model.node(*id).name];
        for reader in readers {
            let node = model.node(reader);
            let op = node.op.name().into_owned();
            let reason = match options.kernel_choice {
                KernelChoice::AlwaysDense => "dense: asked for".to_owned(),
                _ => format!("dense: no sparse kernel for this {op}"),
            };
            let kernel = LayerKernel {
                name: node.name.strip_suffix(".ab").unwrap_or(&node.name).to_owned(),
                op,
                shape: weight.shape.clone(),
                kernel: "dense".into(),
                reason,
                nnz: weight.nnz() as u64,
                weight_bytes: weight.elements() as u64 * 4,
            };
            kernels.push((order.get(&reader).copied().unwrap_or(usize::MAX), kernel));
        }
        let tensor = weight.to_tensor();
        let fact = TypedFact::try_from(&tensor)?;
        let node = model.node_mut(*id);
        node.op = Box::new(Const::new(tensor)?);
        node.outputs[0].fact = fact;
    }
    let lifted: HashSet<usize> = lifted.into_iter().collect();
    let inputs: Vec<OutletId> = model.inputs.iter().copied().filter(|outlet| !lifted.contains(&outlet.node)).collect();
    model.set_input_outlets(&inputs)?;
    Ok(kernels)
}
