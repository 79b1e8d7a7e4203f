//! Finds the parts of tract's typed graph that our kernels can run, as large as possible, as nets of layers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::source::TypedSource;

use super::constant::constant;
use super::proto::{Element, PackedWeight};
use super::step::{Step, step_at};
use crate::region::{Item, Kind, Layer, Net, Shape, Value, Weights, fuse, regions};

/// A part of the graph as a net, with the outlets of its values.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) net: Net,
    /// One per input of the net.
    pub(super) inputs: Vec<OutletId>,
    /// Every outlet that is read outside, and which output of the net it is.
    pub(super) outputs: Vec<(OutletId, usize)>,
}

/// What the recognition of single nodes asks about their surroundings.
pub(super) struct Graph<'a> {
    pub(super) model: &'a TypedModel,
    packed: &'a HashMap<String, PackedWeight>,
    /// Nodes that depend on what the caller of the model feeds.
    varying: Vec<bool>,
    /// Nodes that some output needs.
    alive: HashSet<usize>,
    batch: usize,
}

/// All regions of a graph whose inputs have `batch` samples, in the order they run.
///
/// * `packed`: weights by the name of the input that stands for them.
pub(super) fn find(
    model: &TypedModel,
    packed: &HashMap<String, PackedWeight>,
    batch: usize,
) -> TractResult<Vec<Found>> {
    let order = model.eval_order()?;
    let graph = Graph::new(model, packed, &order, batch);
    let (items, steps) = graph.items(&order);
    let mut found = Vec::new();
    for set in regions(&items) {
        let steps: Vec<&Step> = set.into_iter().filter_map(|item| steps[item].as_ref()).collect();
        found.extend(graph.region(steps));
    }
    Ok(found)
}

impl<'a> Graph<'a> {
    fn new(model: &'a TypedModel, packed: &'a HashMap<String, PackedWeight>, order: &[usize], batch: usize) -> Self {
        let mut varying = vec![false; model.nodes().len()];
        for id in order {
            let node = model.node(*id);
            varying[*id] = match node.op_is::<TypedSource>() {
                true => !packed.contains_key(&node.name),
                false => node.inputs.iter().any(|input| varying[input.node]),
            };
        }
        Self { model, packed, varying, alive: order.iter().copied().collect(), batch }
    }

    /// Whether an outlet depends on the inputs of the model.
    pub(super) fn varies(&self, outlet: OutletId) -> bool {
        self.varying[outlet.node]
    }

    /// Dimensions of an outlet; empty where they are not known.
    pub(super) fn dims(&self, outlet: OutletId) -> Vec<usize> {
        let fact = self.model.outlet_fact(outlet).ok();
        fact.and_then(|fact| fact.shape.as_concrete()).map_or(Vec::new(), <[usize]>::to_vec)
    }

    /// One sample of an outlet of f32 numbers.
    pub(super) fn shape(&self, outlet: OutletId) -> Option<Shape> {
        let float = self.model.outlet_fact(outlet).is_ok_and(|fact| fact.datum_type == f32::datum_type());
        let dims = self.dims(outlet);
        if !float || dims.first() != Some(&self.batch) || dims.contains(&0) {
            return None;
        }
        Some(match dims[1..] {
            [channels, height, width] => Shape::new(channels, height, width),
            _ => Shape::vector(dims[1..].iter().product()),
        })
    }

    /// The weights behind an outlet, packed or constant.
    pub(super) fn weights(&self, outlet: OutletId, bias: Option<Vec<f32>>) -> Option<Weights> {
        let node = self.model.node(outlet.node);
        if let Some(packed) = self.packed.get(&node.name).filter(|_| node.op_is::<TypedSource>()) {
            let chunks = Arc::clone(&packed.chunks);
            return (packed.element == Element::F32).then(|| Weights::packed(packed.shape.clone(), chunks, bias));
        }
        let tensor = constant(self.model, outlet)?;
        let numbers = Numbers::new(Arc::clone(&tensor))?;
        Some(Weights::shared(tensor.shape().to_vec(), Arc::new(numbers), bias))
    }

    /// The node that alone reads an outlet, and at which input.
    pub(super) fn sole_reader(&self, outlet: OutletId) -> Option<(&'a TypedNode, usize)> {
        let [reader] = self.readers(outlet)[..] else { return None };
        let free = !self.model.outputs.contains(&outlet);
        free.then(|| (self.model.node(reader.node), reader.slot))
    }

    fn readers(&self, outlet: OutletId) -> Vec<InletId> {
        let readers = self.model.outlet_successors(outlet).iter();
        readers.filter(|reader| self.alive.contains(&reader.node)).copied().collect()
    }

    /// Steps and other nodes in the order they run; constant nodes are none.
    fn items(&self, order: &[usize]) -> (Vec<Item>, Vec<Option<Step>>) {
        let (mut items, mut steps): (Vec<Item>, Vec<Option<Step>>) = (Vec::new(), Vec::new());
        let mut item_of: HashMap<usize, usize> = HashMap::new();
        for id in order.iter().filter(|id| self.varying[**id]) {
            if item_of.contains_key(id) {
                continue;
            }
            let step = step_at(self, self.model.node(*id));
            let nodes = step.as_ref().map_or(vec![*id], |step| step.nodes.clone());
            let reads = nodes.iter().flat_map(|node| &self.model.node(*node).inputs);
            let after = reads.filter_map(|input| item_of.get(&input.node).copied()).collect();
            nodes.iter().for_each(|node| {
                item_of.insert(*node, items.len());
            });
            items.push(Item { fits: step.is_some(), after });
            steps.push(step);
        }
        (items, steps)
    }

    /// The net of some steps, unless nothing in it is worth a region.
    fn region(&self, mut steps: Vec<&Step>) -> Option<Found> {
        loop {
            let found = self.net(&steps);
            // a value that goes through with another shape only is left to tract
            let through = found.outputs.iter().find(|(_, value)| found.net.inputs.contains(value));
            let Some((outlet, _)) = through else { return finish(found) };
            let outlet = *outlet;
            steps.retain(|step| step.y() != outlet);
        }
    }

    /// The net of some steps; outputs go with their values.
    fn net(&self, steps: &[&Step]) -> Found {
        let (mut net, mut inputs, mut outputs) = (Net::default(), Vec::new(), Vec::new());
        let mut value_of: HashMap<OutletId, Value> = HashMap::new();
        let inside: HashSet<usize> = steps.iter().flat_map(|step| step.nodes.iter().copied()).collect();
        for step in steps {
            let mut value = |outlet: OutletId| {
                *value_of.entry(outlet).or_insert_with(|| {
                    let value = net.value(self.shape(outlet).expect("steps read and write known shapes"));
                    if !inside.contains(&outlet.node) {
                        net.inputs.push(value);
                        inputs.push(outlet);
                    }
                    value
                })
            };
            let (x, y) = (value(step.x), step.y());
            let residual = step.residual.map(&mut value);
            match &step.layer {
                None => {
                    value_of.insert(y, x);
                }
                Some((kind, activation)) => {
                    let node = self.model.node(step.nodes[0]);
                    let name = node.name.strip_suffix(".ab").unwrap_or(&node.name).to_owned();
                    let (kind, activation, op) = (kind.clone(), *activation, step.op.to_owned());
                    let mut layer = Layer { name, op, kind, x, residual, y: 0, activation };
                    layer.y = net.value(layer.output());
                    value_of.insert(y, layer.y);
                    net.layers.push(layer);
                }
            }
            let read_outside = self.readers(y).iter().any(|reader| !inside.contains(&reader.node));
            if read_outside || self.model.outputs.contains(&y) {
                outputs.push((y, value_of[&y]));
            }
        }
        Found { net, inputs, outputs }
    }
}

/// Fuses, numbers the outputs, and drops a net that saves nothing.
fn finish(mut found: Found) -> Option<Found> {
    let heavy = |layer: &Layer| matches!(layer.kind, Kind::Conv { .. } | Kind::Linear { .. } | Kind::Pool { .. });
    if !found.net.layers.iter().any(heavy) {
        return None;
    }
    for (_, output) in &mut found.outputs {
        let value = *output;
        let known = found.net.outputs.iter().position(|known| *known == value);
        *output = known.unwrap_or_else(|| {
            found.net.outputs.push(value);
            found.net.outputs.len() - 1
        });
    }
    fuse(&mut found.net);
    let fault = found.net.fault();
    debug_assert_eq!(fault, None);
    fault.is_none().then_some(found)
}

/// The numbers of a tensor of f32, without a copy.
struct Numbers(Arc<Tensor>);

impl Numbers {
    fn new(tensor: Arc<Tensor>) -> Option<Self> {
        let readable = tensor.try_as_plain_ram().is_ok_and(|plain| plain.as_slice::<f32>().is_ok());
        readable.then_some(Self(tensor))
    }
}

impl AsRef<[f32]> for Numbers {
    fn as_ref(&self) -> &[f32] {
        self.0.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>()).expect("`new` read it")
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
