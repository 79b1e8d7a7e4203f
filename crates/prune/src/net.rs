//! A graph lowered to candle: variables by initializer name, a forward pass, and the way back to a graph.

mod partial;

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{DType, Device, Tensor, Var};
use sentei_graph::{Graph, Node, NodeId, Op, Role, ValueId};

use crate::PruneError;
use crate::lower::{Dual, Lower, Piecewise, Step, as_piecewise};

pub(crate) use partial::{Moments, Overrides};

/// How a forward pass treats batch norm and dropout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, running statistics updated, dropout active, gradients tracked.
    Train {
        /// Seed of the dropout masks of this pass; give each step another one.
        seed: u64,
    },
    /// Running statistics, no dropout, no gradients tracked (activations are freed after their last use).
    Eval,
    /// Gradients tracked, no dropout, and nothing in the network moves.
    Probe {
        /// Whether batch norm takes the statistics of the batch, as in training, and not the running ones.
        batch_statistics: bool,
    },
}

/// What [`Net::push`] differentiates along and by.
pub(crate) struct Direction<'a> {
    /// How fast each parameter moves, by name; the others stand still.
    pub tangents: &'a HashMap<String, Tensor>,
    /// Names of the parameters whose gradients are wanted; the others are constants.
    pub tracked: &'a HashSet<&'a str>,
    /// As in [`Mode::Probe`].
    pub batch_statistics: bool,
}

/// One forward pass.
struct Pass<'a> {
    seed: Option<u64>,
    batch_statistics: bool,
    /// Whether the running statistics follow the batch.
    moves: bool,
    gradients: Gradients<'a>,
    tangents: Option<&'a HashMap<String, Tensor>>,
}

/// Which initializers a pass is differentiated by.
enum Gradients<'a> {
    All,
    None,
    Of(&'a HashSet<&'a str>),
}

/// One trainable initializer.
#[derive(Clone, Debug)]
pub struct Param {
    /// Name of the initializer.
    pub name: String,
    /// What it is to the op that reads it.
    pub role: Role,
    /// Its current value; look its gradient up by this.
    pub var: Var,
}

/// A graph lowered to candle.
///
/// The graph computes output 0 from its one input. When a `Softmax` produces output 0, [`Net::forward`] stops before it and
/// returns the logits, because the losses of this crate work on logits.
#[derive(Debug)]
pub struct Net {
    graph: Graph,
    device: Device,
    dtype: DType,
    params: Vec<Param>,
    buffers: BTreeMap<String, Var>,
    /// Where the value of an initializer lives.
    values: HashMap<ValueId, Tensor>,
    /// Nodes that the logits depend on, in topological order.
    plan: Vec<Planned>,
    logits: ValueId,
    rates: HashMap<NodeId, f32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub id: NodeId,
    pub node: Node,
    /// The activation after a batch norm, computed with it; `node.output` is then the activation's value.
    pub activation: Option<Piecewise>,
    /// Values that no later node reads.
    dead_after: Vec<ValueId>,
}

impl Net {
    /// Lowers `graph` to `device`; the initial values are those of the graph.
    ///
    /// # Errors
    /// [`PruneError::Graph`] when the graph is not sound, [`PruneError::Interface`] when it has not one input and an output.
    pub fn new(graph: &Graph, device: &Device) -> Result<Net, PruneError> {
        Net::with_dtype(graph, device, DType::F32)
    }

    /// As [`Net::new`] in the precision `dtype`: `F32`, or `F64` for analysis where rounding matters.
    ///
    /// A network in `F64` convolves with products of candle's and is many times slower. The optimisers of this crate step networks
    /// in `F32` only.
    ///
    /// # Errors
    /// As [`Net::new`], and [`PruneError::Precision`] for any other `dtype`.
    pub fn with_dtype(graph: &Graph, device: &Device, dtype: DType) -> Result<Net, PruneError> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(PruneError::Precision(dtype.as_str()));
        }
        graph.check()?;
        let (inputs, outputs) = (graph.inputs().len(), graph.outputs().len());
        if inputs != 1 || outputs == 0 {
            return Err(PruneError::Interface { inputs, outputs });
        }
        let mut values = HashMap::new();
        let mut params = Vec::new();
        let mut buffers = BTreeMap::new();
        let mut structure = graph.clone();
        for (id, role) in graph.parameters() {
            let tensor = graph.initializer(id).expect("parameters are initializers");
            let value = Tensor::from_slice(&tensor.data, tensor.shape.as_slice(), device)?.to_dtype(dtype)?;
            let name = graph.name(id).to_string();
            if role == Role::Data {
                values.insert(id, value);
                continue;
            }
            structure.forget(id);
            let var = Var::from_tensor(&value)?;
            values.insert(id, var.as_tensor().clone());
            if role.is_trainable() {
                params.push(Param { name, role, var });
            } else {
                buffers.insert(name, var);
            }
        }
        let logits = logits_of(graph);
        let plan = plan(graph, logits);
        Ok(Net {
            graph: structure,
            device: device.clone(),
            dtype,
            params,
            buffers,
            values,
            plan,
            logits,
            rates: HashMap::new(),
        })
    }

    /// Output 0 before a final `Softmax`, for `x` of shape `[N, C, H, W]` or `[N, F]` with the graph's own lengths after axis 0.
    ///
    /// `x` may come in any precision. In [`Mode::Train`] the running statistics of batch norm move.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when `x` does not fit, [`PruneError::Node`] when a node cannot be computed.
    pub fn forward(&mut self, x: &Tensor, mode: Mode) -> Result<Tensor, PruneError> {
        let (all, none) = (Gradients::All, Gradients::None);
        let pass = match mode {
            Mode::Train { seed } => {
                Pass { seed: Some(seed), batch_statistics: true, moves: true, gradients: all, tangents: None }
            }
            Mode::Eval => Pass { seed: None, batch_statistics: false, moves: false, gradients: none, tangents: None },
            Mode::Probe { batch_statistics } => {
                Pass { seed: None, batch_statistics, moves: false, gradients: all, tangents: None }
            }
        };
        Ok(self.pass(x, &pass)?.value)
    }

    /// The logits of `x` and their tangent along `direction`, both differentiable by the tracked parameters; no dropout, and
    /// nothing in the network moves.
    ///
    /// # Errors
    /// As [`Net::forward`].
    pub(crate) fn push(&mut self, x: &Tensor, direction: &Direction) -> Result<Dual, PruneError> {
        let &Direction { tangents, tracked, batch_statistics } = direction;
        let gradients = Gradients::Of(tracked);
        self.pass(x, &Pass { seed: None, batch_statistics, moves: false, gradients, tangents: Some(tangents) })
    }

    fn pass(&mut self, x: &Tensor, pass: &Pass) -> Result<Dual, PruneError> {
        let (input, fact) = &self.graph.inputs()[0];
        if x.rank() != fact.rank() || x.dims().iter().skip(1).ne(fact.shape.iter().skip(1)) {
            let (expected, found) = (fact.shape.clone(), x.dims().to_vec());
            return Err(PruneError::Shape { name: self.graph.name(*input).into(), expected, found });
        }
        let mut live = HashMap::from([(*input, Dual { value: x.to_dtype(self.dtype)?, tangent: None })]);
        for (position, planned) in self.plan.iter().enumerate() {
            let node = &planned.node;
            let blame = |source| self.blame(node, source);
            let inputs: Vec<Dual> = node
                .inputs
                .iter()
                .map(|id| live.get(id).cloned().unwrap_or_else(|| self.constant(*id, pass)))
                .collect();
            let rate = self.rates.get(&planned.id).copied();
            let mut step = Step::new(pass.seed, position as u64, rate, planned.activation);
            step.batch_statistics = pass.batch_statistics;
            let values: Vec<&Tensor> = inputs.iter().map(|i| &i.value).collect();
            let value = node.op.lower(&values, &mut step).map_err(blame)?;
            let still = inputs.iter().all(|i| i.tangent.is_none());
            let tangent = if still { None } else { node.op.tangent(&inputs, &value, &mut step).map_err(blame)? };
            let output = Dual { value, tangent };
            for (index, value) in step.updates.into_iter().filter(|_| pass.moves) {
                let name = self.graph.name(node.inputs[index]);
                if let Some(buffer) = self.buffers.get(name) {
                    buffer.set(&value.detach()).map_err(blame)?;
                }
            }
            live.insert(node.output, output);
            for id in &planned.dead_after {
                live.remove(id);
            }
        }
        let constant = |value: &Tensor| Dual { value: value.clone(), tangent: None };
        let done = live.remove(&self.logits).or_else(|| self.values.get(&self.logits).map(constant));
        Ok(done.expect("the plan ends with the logits"))
    }

    /// An initializer as a pass sees it.
    fn constant(&self, id: ValueId, pass: &Pass) -> Dual {
        let value = &self.values[&id];
        let name = self.graph.name(id);
        let tracked = match pass.gradients {
            Gradients::All => true,
            Gradients::None => false,
            Gradients::Of(names) => names.contains(name),
        };
        let value = if tracked { value.clone() } else { value.detach() };
        Dual { value, tangent: pass.tangents.and_then(|t| t.get(name).cloned()) }
    }

    /// The nodes that a pass runs, in order.
    pub(crate) fn plan(&self) -> &[Planned] {
        &self.plan
    }

    /// The value that a pass ends with.
    pub(crate) fn logits(&self) -> ValueId {
        self.logits
    }

    /// The value of an initializer.
    pub(crate) fn constant_value(&self, id: ValueId) -> &Tensor {
        &self.values[&id]
    }

    /// The rate of a dropout node where it is not that of the graph.
    pub(crate) fn dropout_rate(&self, id: NodeId) -> Option<f32> {
        self.rates.get(&id).copied()
    }

    /// The running mean or variance of that name.
    pub(crate) fn buffer(&self, name: &str) -> Option<&Var> {
        self.buffers.get(name)
    }

    /// The trainable initializers, in graph order.
    pub fn vars(&self) -> &[Param] {
        &self.params
    }

    /// The trainable initializer of that name.
    pub fn var(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }

    /// Initializers that training moves without a gradient (running mean and variance), by name.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.buffers.iter().map(|(name, var)| (name.as_str(), var.as_tensor()))
    }

    /// Replaces one buffer of [`Net::buffers`].
    ///
    /// # Errors
    /// [`PruneError::Missing`] for an unknown name, [`PruneError::Shape`] when the shapes differ.
    pub fn set_buffer(&mut self, name: &str, value: &Tensor) -> Result<(), PruneError> {
        let Some(buffer) = self.buffers.get(name) else {
            return Err(PruneError::Missing { kind: "buffer", name: name.into() });
        };
        assign(name, buffer, value)
    }

    /// Replaces the value of one trainable initializer.
    ///
    /// # Errors
    /// [`PruneError::Missing`] for an unknown name, [`PruneError::Shape`] when the shapes differ.
    pub fn set_var(&mut self, name: &str, value: &Tensor) -> Result<(), PruneError> {
        let Some(param) = self.var(name) else {
            return Err(PruneError::Missing { kind: "parameter", name: name.into() });
        };
        assign(name, &param.var, value)
    }

    /// The device that the values live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The precision of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The graph that was lowered, without the values of parameters and buffers: see [`Net::to_graph`] for those.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The same graph with the current values.
    ///
    /// # Errors
    /// [`PruneError::Tensor`] when a value cannot be read back from the device.
    pub fn to_graph(&self) -> Result<Graph, PruneError> {
        let mut graph = self.graph.clone();
        let params = self.params.iter().map(|p| (p.name.as_str(), p.var.as_tensor()));
        for (name, value) in params.chain(self.buffers()) {
            let id = graph.value(name).expect("the net keeps the graph's names");
            let data = value.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            graph.set_initializer(id, sentei_graph::Tensor::new(value.dims(), data));
        }
        Ok(graph)
    }

    /// Takes every parameter and buffer from the initializer of the same name in `graph`.
    ///
    /// # Errors
    /// [`PruneError::Missing`] or [`PruneError::Shape`] when `graph` lacks one or has it in another shape; nothing is changed then.
    pub fn load_graph_values(&mut self, graph: &Graph) -> Result<(), PruneError> {
        let targets = self.params.iter().map(|p| (&p.name, &p.var)).chain(&self.buffers);
        let mut found = Vec::new();
        for (name, var) in targets {
            let tensor = graph.value(name).and_then(|id| graph.initializer(id));
            let Some(tensor) = tensor else {
                return Err(PruneError::Missing { kind: "initializer", name: name.clone() });
            };
            check_shape(name, var.dims(), &tensor.shape)?;
            let value = Tensor::from_slice(&tensor.data, tensor.shape.as_slice(), &self.device)?;
            found.push((var, value.to_dtype(self.dtype)?));
        }
        for (var, value) in found {
            var.set(&value)?;
        }
        Ok(())
    }

    /// Name and current rate of every dropout node.
    pub fn dropouts(&self) -> Vec<(&str, f32)> {
        let drops = self.graph.nodes().filter_map(|(id, node)| match &node.op {
            Op::Dropout(d) => Some((self.graph.name(node.output), self.rates.get(&id).copied().unwrap_or(d.rate))),
            _ => None,
        });
        drops.collect()
    }

    /// Sets the rate of one dropout node, `rate` in `[0, 1)`; [`Net::to_graph`] keeps the original rate.
    ///
    /// # Errors
    /// [`PruneError::Missing`] when no dropout node has that name, [`PruneError::Rate`] when the rate is out of range.
    pub fn set_dropout(&mut self, name: &str, rate: f32) -> Result<(), PruneError> {
        if !(0.0..1.0).contains(&rate) {
            return Err(PruneError::Rate { name: name.into(), rate });
        }
        let drop = self.graph.value(name).and_then(|v| self.graph.producer(v));
        match drop.filter(|id| matches!(self.graph.op(*id), Op::Dropout(_))) {
            Some(id) => {
                self.rates.insert(id, rate);
                Ok(())
            }
            None => Err(PruneError::Missing { kind: "dropout", name: name.into() }),
        }
    }

    pub(crate) fn blame(&self, node: &Node, source: candle_core::Error) -> PruneError {
        PruneError::Node { node: self.graph.name(node.output).into(), op: node.op.name(), source }
    }
}

fn check_shape(name: &str, expected: &[usize], found: &[usize]) -> Result<(), PruneError> {
    if expected == found {
        return Ok(());
    }
    Err(PruneError::Shape { name: name.into(), expected: expected.to_vec(), found: found.to_vec() })
}

fn assign(name: &str, var: &Var, value: &Tensor) -> Result<(), PruneError> {
    check_shape(name, var.dims(), value.dims())?;
    Ok(var.set(&value.to_device(var.device())?.to_dtype(var.dtype())?.detach())?)
}

fn logits_of(graph: &Graph) -> ValueId {
    let output = graph.outputs()[0];
    match graph.producer(output).map(|id| graph.node(id)) {
        Some(node) if matches!(node.op, Op::Softmax(_)) => node.inputs[0],
        _ => output,
    }
}

fn plan(graph: &Graph, logits: ValueId) -> Vec<Planned> {
    let mut needed = HashSet::from([logits]);
    let mut plan = Vec::new();
    for (id, node) in graph.nodes().rev() {
        if needed.contains(&node.output) {
            // Walking backwards, the first reader met is the last to run.
            let dead_after = node.inputs.iter().copied().filter(|v| needed.insert(*v)).collect();
            plan.push(Planned { id, node: node.clone(), activation: None, dead_after });
        }
    }
    plan.reverse();
    fuse_activations(graph, &mut plan);
    plan
}

/// Lets each batch norm compute the activation that is its only reader.
fn fuse_activations(graph: &Graph, plan: &mut Vec<Planned>) {
    let mut fused = Vec::new();
    for planned in plan.iter() {
        let Some(activation) = as_piecewise(&planned.node.op).filter(|f| f.slope_shows_in_output()) else { continue };
        if let Some(norm) = graph.sole_producer(planned.id, |op| matches!(op, Op::BatchNorm(_))) {
            fused.push((norm, planned.id, planned.node.output, activation));
        }
    }
    for (norm, id, output, activation) in fused {
        plan.retain(|p| p.id != id);
        if let Some(norm) = plan.iter_mut().find(|p| p.id == norm) {
            norm.node.output = output;
            norm.activation = Some(activation);
        }
    }
}
