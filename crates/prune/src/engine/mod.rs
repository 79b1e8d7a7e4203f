//! A training step on the CPU, planned once for a net and a batch.
//!
//! The layout of the maps, the order of the layers, the place of every map and gradient and what the kernels need are found when
//! the engine is made; a step then takes no memory for maps. Maps lie as `sentei_kernels::training` says, images side by side, so
//! that pruned weights of any pattern are left out at full speed. Ops without a kernel there run through candle, converted on
//! the way. A step gives the same bits on every number of threads, and whether weights that are zero are left out or multiplied.
//!
//! Hessian-vector products, double precision, other devices and evaluation stay with [`Net::forward`].

mod bridge;
mod layer;
mod layers;
mod plan;
mod profile;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use sentei_graph::{Op, ValueId};
use sentei_kernels::Isa;
use sentei_kernels::team::Team;
use sentei_kernels::training::{Buffer, Lanes, add_assign, from_lanes, repeat_first, to_lanes};

use sentei_report::record::ProfileRow;

use crate::masks::Masks;
use crate::{Net, PruneError, threads};

use layer::{Context, Kept, Layer, Placement, Target};
use plan::{Draft, Flow, Part, Places};
use profile::Profile;

/// See the module.
pub(crate) struct Engine {
    team: Arc<Team>,
    lanes: Lanes,
    nodes: Vec<Node>,
    places: Places,
    buffers: Vec<Buffer>,
    input: ValueId,
    logits: ValueId,
    /// Shapes of all maps, batch included.
    shapes: HashMap<ValueId, Vec<usize>>,
    profile: Profile,
}

struct Node {
    /// Name of the output, and ops.
    name: String,
    op: String,
    layer: Box<dyn Layer>,
    inputs: Vec<ValueId>,
    output: ValueId,
}

impl Engine {
    /// An engine for `net` and batches of `batch` images; `None` for a net that only candle can train: one that is not f32 on the
    /// CPU, reuses a parameter, mixes the images of a batch, or has a layer too large for the kernels.
    ///
    /// # Errors
    /// [`PruneError`] when the graph's shapes cannot be found or memory for gradients cannot be had.
    pub fn new(net: &Net, batch: usize) -> Result<Option<Engine>, PruneError> {
        if !net.device().is_cpu() || net.dtype() != candle_core::DType::F32 || batch == 0 {
            return Ok(None);
        }
        let graph = net.graph();
        let Ok(facts) = graph.facts_for(batch) else { return Ok(None) };
        let (input, logits) = (graph.inputs()[0].0, net.logits());
        let is_map = |value: ValueId| graph.initializer(value).is_none();
        let parts = plan::parts(net.plan(), logits, is_map, |a, b| facts[&a] == facts[&b]);
        let mut shapes = HashMap::from([(input, facts[&input].shape.clone())]);
        let mut parameters = HashSet::new();
        for part in &parts {
            let maps: Vec<ValueId> = part.inputs.iter().copied().filter(|v| is_map(*v)).collect();
            let twice = maps.iter().collect::<HashSet<_>>().len() != maps.len();
            let shared = part.inputs.iter().any(|v| !is_map(*v) && !parameters.insert(*v));
            let shape = facts[&part.output].shape.clone();
            if maps.is_empty() || twice || shared || shape.first() != Some(&batch) {
                return Ok(None);
            }
            shapes.insert(part.output, shape);
        }
        if !shapes.contains_key(&logits) || shapes[&input].first() != Some(&batch) {
            return Ok(None);
        }
        let isa = Isa::best();
        let lanes = Lanes::new(isa, batch);
        let mut drafts = Vec::new();
        let mut names = Vec::new();
        for part in &parts {
            // What a kernel refuses, as maps beyond its offsets, candle may still train.
            let Ok(layer) = layers::layer(net, part, &shapes, (isa, lanes)) else { return Ok(None) };
            let inputs = part.inputs.iter().copied().filter(|v| is_map(*v)).collect();
            drafts.push(Draft { layer, inputs, output: part.output });
            names.push((graph.name(part.output).to_string(), op_name(net, part)));
        }
        let len = |value: ValueId| bridge::map_len(lanes, &shapes[&value]);
        let places = plan::places(&drafts, input, logits, len);
        let buffers = places.lengths.iter().map(|len| Buffer::zeros(*len)).collect();
        let nodes: Vec<Node> = (drafts.into_iter().zip(names))
            .map(|(Draft { layer, inputs, output }, (name, op))| Node { name, op, layer, inputs, output })
            .collect();
        let team = threads::team().map_err(candle_core::Error::wrap)?;
        let profile = Profile::new(nodes.len());
        Ok(Some(Engine { team, lanes, nodes, places, buffers, input, logits, shapes, profile }))
    }

    /// The logits of `images` `[batch, ..]`, as a variable: what the loss is differentiated by. Running statistics move.
    ///
    /// * `net`: the one that the engine was made for.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when the images do not fit, [`PruneError::Node`] when a node cannot be computed.
    pub fn forward(&mut self, net: &Net, images: &Tensor, seed: u64) -> Result<Var, PruneError> {
        if images.dims() != self.shapes[&self.input] {
            let name = net.graph().name(self.input).to_string();
            return Err(PruneError::Shape {
                name,
                expected: self.shapes[&self.input].clone(),
                found: images.dims().to_vec(),
            });
        }
        let at = self.places.maps[&self.input];
        let pixels = images.elem_count() / self.lanes.batch;
        {
            let images = images.contiguous()?;
            let (storage, layout) = images.storage_and_layout();
            let values = floats(&storage, layout)?;
            let map = &mut self.buffers[at][..self.lanes.len(pixels)];
            to_lanes(&self.team, self.lanes, pixels, values, map);
            // Sums over all lanes meet gradients of 0 there, and 0 times infinity would be no number.
            repeat_first(self.lanes, pixels, map);
        }
        for row in 0..self.nodes.len() {
            self.run(row, net, seed).map_err(|source| self.blame(row, source))?;
        }
        let shape = &self.shapes[&self.logits];
        let mut logits = vec![0.0; shape.iter().product()];
        let pixels = logits.len() / self.lanes.batch;
        from_lanes(&self.team, self.lanes, pixels, self.map(self.logits), &mut logits);
        Ok(Var::from_vec(logits, shape.as_slice(), net.device())?)
    }

    /// Adds the gradient of every parameter to `grads`; the forward pass of the same step came before.
    ///
    /// * `gradient`: of the logits.
    /// * `dense`: whether gradients of removed weights are wanted; otherwise those of a layer that leaves weights out may have one
    ///   number per kept weight, in the order of the file.
    ///
    /// The tensors in `grads` are written again by the next step.
    ///
    /// # Errors
    /// [`PruneError::Node`] when a node cannot be computed.
    pub fn backward(
        &mut self,
        net: &Net,
        gradient: &Tensor,
        dense: bool,
        grads: &mut GradStore,
    ) -> Result<(), PruneError> {
        if let Some(at) = self.places.gradients.get(&self.logits) {
            let values = gradient.flatten_all()?.to_vec1::<f32>()?;
            let pixels = values.len() / self.lanes.batch;
            to_lanes(&self.team, self.lanes, pixels, &values, &mut self.buffers[*at][..self.lanes.len(pixels)]);
        }
        for row in (0..self.nodes.len()).rev() {
            self.pull(row, net, dense).map_err(|source| self.blame(row, source))?;
            for trained in self.nodes[row].layer.trained() {
                grads.insert(trained.value.as_tensor(), trained.gradient.as_tensor().clone());
            }
        }
        Ok(())
    }

    /// Leaves out the weights that `masks` remove, where that is faster.
    pub fn follow(&mut self, masks: &Masks) {
        self.nodes.iter_mut().for_each(|node| node.layer.follow(masks));
    }

    /// Where the time went since the engine was made.
    pub fn profile(&self) -> Vec<ProfileRow> {
        self.profile.rows(self.nodes.iter().map(|node| (node.name.as_str(), node.op.clone())))
    }

    fn map(&self, value: ValueId) -> &[f32] {
        &self.buffers[self.places.maps[&value]][..self.len(value)]
    }

    fn len(&self, value: ValueId) -> usize {
        bridge::map_len(self.lanes, &self.shapes[&value])
    }

    fn run(&mut self, row: usize, net: &Net, seed: u64) -> candle_core::Result<()> {
        let output = self.nodes[row].output;
        if self.nodes[row].layer.placement() == Placement::Same {
            return Ok(());
        }
        let (at, len) = (self.places.maps[&output], self.len(output));
        let mut own = take(&mut self.buffers[at]);
        let cx = Context {
            team: &self.team,
            lanes: self.lanes,
            net,
            seed,
            dense_gradients: false,
            profile: &self.profile,
            row,
        };
        let node = &mut self.nodes[row];
        let map = |value: &ValueId| {
            let len = bridge::map_len(self.lanes, &self.shapes[value]);
            &self.buffers[self.places.maps[value]][..len]
        };
        let inputs: Vec<&[f32]> = node.inputs.iter().map(map).collect();
        let done = node.layer.forward(&cx, &inputs, &mut own[..len]);
        self.buffers[at] = own;
        done
    }

    fn pull(&mut self, row: usize, net: &Net, dense: bool) -> candle_core::Result<()> {
        let output = self.nodes[row].output;
        let Some(from) = self.places.gradients.get(&output).copied() else { return Ok(()) };
        let len = self.len(output);
        let mut gradient = take(&mut self.buffers[from]);
        let flows = &self.places.flows[row];
        let place = |index: usize| self.places.gradients[&self.nodes[row].inputs[index]];
        let mut taken: Vec<Option<(usize, Buffer)>> = Vec::with_capacity(flows.len());
        for (index, flow) in flows.iter().enumerate() {
            let target = matches!(flow, Flow::Write | Flow::Add).then(|| place(index));
            taken.push(target.map(|at| (at, take(&mut self.buffers[at]))));
        }
        let cx = Context {
            team: &self.team,
            lanes: self.lanes,
            net,
            seed: 0,
            dense_gradients: dense,
            profile: &self.profile,
            row,
        };
        let node = &mut self.nodes[row];
        let map = |value: &ValueId| {
            let len = bridge::map_len(self.lanes, &self.shapes[value]);
            &self.buffers[self.places.maps[value]][..len]
        };
        let needs = node.layer.needs();
        let kept = Kept {
            inputs: if needs.inputs { node.inputs.iter().map(map).collect() } else { Vec::new() },
            output: if needs.output { map(&node.output) } else { &[] },
        };
        let mut targets: Vec<Option<Target>> = Vec::with_capacity(flows.len());
        for (index, (slot, flow)) in taken.iter_mut().zip(flows).enumerate() {
            let len = bridge::map_len(self.lanes, &self.shapes[&node.inputs[index]]);
            targets.push(slot.as_mut().map(|(_, buffer)| match flow {
                Flow::Add => Target::Add(&mut buffer[..len]),
                _ => Target::Write(&mut buffer[..len]),
            }));
        }
        let done = match node.layer.placement() {
            Placement::Same => Ok(()),
            _ => node.layer.backward(&cx, kept, &mut gradient[..len], &mut targets),
        };
        for (at, buffer) in taken.into_iter().flatten() {
            self.buffers[at] = buffer;
        }
        for (index, flow) in flows.iter().enumerate() {
            if *flow == Flow::AddPassed {
                let at = self.places.gradients[&self.nodes[row].inputs[index]];
                add_assign(&self.team, &mut self.buffers[at][..len], &gradient[..len]);
            }
        }
        self.buffers[from] = gradient;
        done
    }

    fn blame(&self, row: usize, source: candle_core::Error) -> PruneError {
        let node = &self.nodes[row];
        PruneError::Node { node: node.name.clone(), op: "training step", source }
    }
}

/// The ops of a part, in the order in which they run.
fn op_name(net: &Net, part: &Part) -> String {
    let mut names = vec![net.plan()[part.position].node.op.name()];
    let fused = net.plan()[part.position].activation.is_some();
    names.extend(part.joined.iter().map(|position| net.plan()[*position].node.op.name()));
    if fused && matches!(net.plan()[part.position].node.op, Op::BatchNorm(_)) {
        names.push("activation");
    }
    names.join("+")
}

/// The numbers of a contiguous f32 tensor on the CPU.
pub(crate) fn floats<'a>(
    storage: &'a candle_core::Storage,
    layout: &candle_core::Layout,
) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(storage), Some((start, end))) => Ok(&storage.as_slice::<f32>()?[start..end]),
        _ => candle_core::bail!("a training step on the CPU met a tensor elsewhere, or one with gaps"),
    }
}
