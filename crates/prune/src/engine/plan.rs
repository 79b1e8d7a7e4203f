//! From the plan of a net to the nodes of a step: what runs together, and in whose memory.

use std::collections::HashMap;

use sentei_graph::{Op, ValueId};

use crate::lower::{Piecewise, as_piecewise};
use crate::net::Planned;

use super::layer::{Layer, Placement};
use super::slots::{Life, assign};

/// Nodes of a net's plan that run as one.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Position in the net's plan of the one that gives the op.
    pub position: usize,
    /// Positions of the others.
    pub joined: Vec<usize>,
    /// The maps and constants that it reads; for a batch norm with a residual the residual comes last.
    pub inputs: Vec<ValueId>,
    pub output: ValueId,
    /// What is applied to the output.
    pub activation: Option<Piecewise>,
    /// Whether the last input is added before the activation.
    pub residual: bool,
}

/// The parts of a plan, in an order in which they can run.
///
/// A batch norm takes in the addition that is its only reader, and an addition the activation that is its only reader.
///
/// * `is_map`: whether a value is computed from the images.
/// * `alike`: whether two values have one shape; an addition that repeats one of them is left to itself.
pub(super) fn parts(
    plan: &[Planned],
    logits: ValueId,
    is_map: impl Fn(ValueId) -> bool,
    alike: impl Fn(ValueId, ValueId) -> bool,
) -> Vec<Part> {
    let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (position, planned) in plan.iter().enumerate() {
        planned.node.inputs.iter().for_each(|value| readers.entry(*value).or_default().push(position));
    }
    let only_reader = |value: ValueId| match readers.get(&value).map(Vec::as_slice) {
        Some([reader]) if value != logits => Some(*reader),
        _ => None,
    };
    let mut parts: Vec<Option<Part>> = (plan.iter().enumerate())
        .map(|(position, planned)| {
            let (inputs, output) = (planned.node.inputs.clone(), planned.node.output);
            let activation = planned.activation;
            Some(Part { position, joined: Vec::new(), inputs, output, activation, residual: false })
        })
        .collect();
    for position in 0..plan.len() {
        let Op::Add(_) = plan[position].node.op else { continue };
        let [a, b] = plan[position].node.inputs[..] else { continue };
        if !is_map(a) || !is_map(b) || a == b || !alike(a, b) {
            continue;
        }
        let follower = only_reader(plan[position].node.output).and_then(|reader| {
            let f = as_piecewise(&plan[reader].node.op).filter(|f| f.slope_shows_in_output())?;
            Some((reader, f))
        });
        if let (Some((reader, f)), Some(add)) = (follower, &mut parts[position]) {
            (add.activation, add.output) = (Some(f), plan[reader].node.output);
            add.joined.push(reader);
            parts[reader] = None;
        }
        let norm = [(a, b), (b, a)].into_iter().find_map(|(value, other)| {
            let maker = plan.iter().position(|p| p.node.output == value)?;
            let plain = matches!(plan[maker].node.op, Op::BatchNorm(_)) && plan[maker].activation.is_none();
            (plain && only_reader(value) == Some(position)).then_some((maker, other))
        });
        if let Some((maker, other)) = norm
            && let (Some(mut norm), Some(add)) = (parts[maker].take(), &mut parts[position])
        {
            norm.inputs.push(other);
            norm.joined = [vec![position], std::mem::take(&mut add.joined)].concat();
            *add = Part { output: add.output, activation: add.activation, residual: true, ..norm };
        }
    }
    parts.into_iter().flatten().collect()
}

/// A layer with its maps, before they have a place.
pub(super) struct Draft {
    pub layer: Box<dyn Layer>,
    /// The maps among its inputs.
    pub inputs: Vec<ValueId>,
    pub output: ValueId,
}

/// What becomes of the gradient of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nobody asks for it.
    Nothing,
    /// Written to the place of the input's gradient.
    Write,
    /// Added there.
    Add,
    /// The gradient of the output has become it, in its place.
    Passed,
    /// The gradient of the output has become it, and is added to what is there.
    AddPassed,
}

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Places {
    /// Place of each map.
    pub maps: HashMap<ValueId, usize>,
    /// Place of the gradient of each map that has one.
    pub gradients: HashMap<ValueId, usize>,
    /// Per layer and input.
    pub flows: Vec<Vec<Flow>>,
    /// Length of each place.
    pub lengths: Vec<usize>,
}

/// Finds a place for every map and gradient of the step.
///
/// * `len`: numbers of a map.
pub(super) fn places(drafts: &[Draft], input: ValueId, logits: ValueId, len: impl Fn(ValueId) -> usize) -> Places {
    let count = drafts.len();
    let (forward, backward) = (|i: usize| i + 1, |i: usize| 2 * count + 1 - i);
    let mut lives = Lives::default();
    let mut maps = HashMap::from([(input, lives.add(len(input), 0))]);
    let mut tracked: HashMap<ValueId, bool> = HashMap::from([(input, false)]);
    for (i, draft) in drafts.iter().enumerate() {
        draft.inputs.iter().for_each(|value| lives.reach(maps[value], forward(i)));
        let fresh = lives.add(len(draft.output), forward(i));
        maps.insert(draft.output, fresh);
        if let (Placement::Same, Some(x)) = (draft.layer.placement(), draft.inputs.first()) {
            lives.join(maps[x], fresh);
        }
        let learns = !draft.layer.trained().is_empty() || draft.inputs.iter().any(|v| tracked[v]);
        tracked.insert(draft.output, learns);
    }
    lives.reach(maps[&logits], count + 1);
    let mut gradients = HashMap::from([(logits, lives.add(len(logits), count + 1))]);
    let mut flows = vec![Vec::new(); count];
    for (i, draft) in drafts.iter().enumerate().rev() {
        let needs = draft.layer.needs();
        if needs.inputs {
            draft.inputs.iter().for_each(|value| lives.reach(maps[value], backward(i)));
        }
        if needs.output {
            lives.reach(maps[&draft.output], backward(i));
        }
        let Some(own) = gradients.get(&draft.output).copied() else {
            flows[i] = vec![Flow::Nothing; draft.inputs.len()];
            continue;
        };
        lives.reach(own, backward(i));
        for (index, value) in draft.inputs.iter().enumerate() {
            let passed = draft.layer.passes() == Some(index);
            let flow = match (tracked[value], gradients.get(value).copied(), passed) {
                (false, ..) => Flow::Nothing,
                (true, Some(there), passed) => {
                    lives.reach(there, backward(i));
                    if passed { Flow::AddPassed } else { Flow::Add }
                }
                (true, None, true) => {
                    gradients.insert(*value, own);
                    Flow::Passed
                }
                (true, None, false) => {
                    gradients.insert(*value, lives.add(len(*value), backward(i)));
                    Flow::Write
                }
            };
            flows[i].push(flow);
        }
    }
    let (ids, found) = lives.done();
    let (at, lengths) = assign(&found);
    let place = |id: &usize| at[ids[*id]];
    let maps = maps.iter().map(|(value, id)| (*value, place(id))).collect();
    let gradients = gradients.iter().map(|(value, id)| (*value, place(id))).collect();
    Places { maps, gradients, flows, lengths }
}

/// Lives while they are found out; those that were joined count as one.
#[derive(Default)]
struct Lives {
    lives: Vec<Life>,
    parents: Vec<usize>,
}

impl Lives {
    fn add(&mut self, len: usize, at: usize) -> usize {
        self.lives.push(Life { len, from: at, to: at });
        self.parents.push(self.parents.len());
        self.parents.len() - 1
    }

    fn root(&self, mut id: usize) -> usize {
        while self.parents[id] != id {
            id = self.parents[id];
        }
        id
    }

    fn reach(&mut self, id: usize, at: usize) {
        let root = self.root(id);
        self.lives[root].to = self.lives[root].to.max(at);
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.lives[a] = self.lives[a].join(self.lives[b]);
            self.parents[b] = a;
        }
    }

    /// Index among the lives that are left, for every id.
    fn done(self) -> (Vec<usize>, Vec<Life>) {
        let roots: Vec<usize> = (0..self.parents.len()).filter(|id| self.parents[*id] == *id).collect();
        let index = |id: usize| roots.iter().position(|root| *root == self.root(id)).unwrap_or_default();
        let ids = (0..self.parents.len()).map(index).collect();
        (ids, roots.iter().map(|root| self.lives[*root]).collect())
    }
}
