//! Blocks: the units that can leave a network whole. In a residual network these are the branches beside a shortcut, in
//! a plain chain the convolutions with what belongs to them.
//!
//! Source of the rule which of them may leave: Tang, Lu & Xuan 2023, "SR-init" (arXiv:2303.07677).

mod chain;
mod residual;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::{Fact, Graph, GraphError, NodeId, ValueId};

/// One unit of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Name of [`Block::exit`]; it stays while other blocks are removed.
    pub name: String,
    /// What kind of unit it is.
    pub kind: BlockKind,
    /// The value that the unit reads.
    pub entry: ValueId,
    /// The value that takes the unit's place in the network: the sum, or the end of the chain link.
    pub exit: ValueId,
    /// Nodes that vanish with the block, the addition left out, in topological order.
    pub branch: Vec<NodeId>,
    /// Nodes of the shortcut; none for an identity.
    pub shortcut: Vec<NodeId>,
    /// Shape of `entry`.
    pub input: Fact,
    /// Shape of `exit`.
    pub output: Fact,
    /// Whether the unit opens a stage: the first one, and each whose output has another shape than the one before.
    pub stage_entry: bool,
    /// Why the block cannot be removed, if so.
    pub obstacle: Option<Obstacle>,
    /// Trainable numbers of branch and shortcut: weights, biases, batch-norm scale and shift.
    pub parameters: u64,
    /// Multiply-adds of convolutions and linear layers in branch and shortcut, per sample.
    pub macs: u64,
}

/// What kind of unit a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A branch added to a shortcut.
    Residual(Shortcut),
    /// A convolution, with the batch norm and the activation after it.
    Chain,
}

/// What the other side of the addition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Nothing.
    Identity,
    /// A convolution (and batch norm).
    Projection,
    /// No parameters: a strided slice and zeros for the missing channels (option A), or pooling.
    Plain,
}

/// Why a block cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Input and output differ in shape.
    Shape {
        /// Shape of the input.
        input: Fact,
        /// Shape of the output.
        output: Fact,
    },
    /// The shortcut is not the identity.
    Shortcut(Shortcut),
    /// Something else reads a value from within.
    Read {
        /// The value inside the branch.
        value: String,
    },
    /// The network's output is the block's own.
    Output,
}

impl Block {
    /// Whether the block may be short-circuited.
    pub fn is_removable(&self) -> bool {
        self.obstacle.is_none()
    }

    /// Whether a ranking may choose the block: removable, and not the entry of a stage.
    pub fn is_candidate(&self) -> bool {
        self.is_removable() && !self.stage_entry
    }

    /// Nodes of branch and shortcut.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.branch.iter().chain(&self.shortcut).copied()
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockKind::Residual(shortcut) => write!(f, "{shortcut} shortcut"),
            BlockKind::Chain => f.write_str("chain"),
        }
    }
}

impl fmt::Display for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shortcut::Identity => "identity",
            Shortcut::Projection => "projection",
            Shortcut::Plain => "slice and pad",
        })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Shape { input, output } => write!(f, "it turns {input} into {output}"),
            Obstacle::Shortcut(shortcut) => write!(f, "its shortcut is a {shortcut}, not the identity"),
            Obstacle::Read { value } => write!(f, "`{value}` inside it is read elsewhere"),
            Obstacle::Output => f.write_str("its result is an output of the network"),
        }
    }
}

/// Every block of `graph` in topological order; the position in the list is the number that people know a block by.
///
/// Residual blocks where there is one, removable or not; otherwise the links of the chain, one per convolution.
///
/// # Errors
/// As [`Graph::facts`].
pub fn blocks(graph: &Graph) -> Result<Vec<Block>, GraphError> {
    let view = View::of(graph)?;
    let find = |of: fn(&View, NodeId) -> Option<Block>| -> Vec<Block> {
        graph.nodes().filter_map(|(id, _)| of(&view, id)).collect()
    };
    let mut found = find(residual::at);
    if found.is_empty() {
        found = find(chain::at);
    }
    let mut before: Option<Fact> = None;
    for block in &mut found {
        block.stage_entry = match block.kind {
            BlockKind::Residual(_) => before.as_ref() != Some(&block.output),
            BlockKind::Chain => block.input != block.output,
        };
        before = Some(block.output.clone());
    }
    Ok(found)
}

/// The block that ends in `node`, as [`blocks`] finds it but for [`Block::stage_entry`].
///
/// # Errors
/// As [`Graph::facts`].
pub(crate) fn block_at(graph: &Graph, node: NodeId) -> Result<Option<Block>, GraphError> {
    let view = View::of(graph)?;
    Ok(residual::at(&view, node).or_else(|| chain::at(&view, node)))
}

/// A graph with what the search asks again and again.
struct View<'a> {
    graph: &'a Graph,
    facts: HashMap<ValueId, Fact>,
    macs: Vec<u64>,
    producer: HashMap<ValueId, NodeId>,
    readers: HashMap<ValueId, Vec<NodeId>>,
}

impl<'a> View<'a> {
    fn of(graph: &'a Graph) -> Result<Self, GraphError> {
        let mut readers: HashMap<ValueId, Vec<NodeId>> = HashMap::new();
        for (id, node) in graph.nodes() {
            for value in &node.inputs {
                readers.entry(*value).or_default().push(id);
            }
        }
        let producer = graph.nodes().map(|(id, node)| (node.output, id)).collect();
        let batch = graph.inputs().first().and_then(|(_, fact)| fact.shape.first()).map_or(1, |n| (*n).max(1) as u64);
        let macs = graph.macs()?.into_iter().map(|(_, n)| n / batch).collect();
        Ok(View { graph, facts: graph.facts()?, macs, producer, readers })
    }

    /// Inputs of a node that are no constants.
    fn data_inputs(&self, node: NodeId) -> impl Iterator<Item = ValueId> + '_ {
        self.graph.node(node).inputs.iter().copied().filter(|v| self.graph.initializer(*v).is_none())
    }

    /// Whether the node has a weight: convolutions and linear layers.
    fn is_weighted(&self, node: NodeId) -> bool {
        let node = self.graph.node(node);
        (0..node.inputs.len())
            .any(|i| node.op.role(i) == crate::Role::Weight && self.graph.initializer(node.inputs[i]).is_some())
    }

    /// A block of these nodes, with everything that follows from them.
    fn block(
        &self,
        kind: BlockKind,
        (entry, exit): (ValueId, ValueId),
        branch: BTreeSet<NodeId>,
        shortcut: BTreeSet<NodeId>,
    ) -> Block {
        let nodes: Vec<NodeId> = branch.union(&shortcut).copied().collect();
        let constants: BTreeSet<ValueId> = nodes
            .iter()
            .flat_map(|id| {
                let node = self.graph.node(*id);
                node.inputs.iter().enumerate().filter(|(i, _)| node.op.role(*i).is_trainable()).map(|(_, v)| *v)
            })
            .collect();
        let parameters = constants.iter().filter_map(|v| self.graph.initializer(*v)).map(|t| t.len() as u64).sum();
        let (input, output) = (self.facts[&entry].clone(), self.facts[&exit].clone());
        let obstacle = self.obstacle(kind, (&input, &output), exit, &branch);
        Block {
            name: self.graph.name(exit).into(),
            kind,
            entry,
            exit,
            macs: nodes.iter().map(|id| self.macs[id.0 as usize]).sum(),
            branch: branch.into_iter().collect(),
            shortcut: shortcut.into_iter().collect(),
            input,
            output,
            stage_entry: false,
            obstacle,
            parameters,
        }
    }

    fn obstacle(
        &self,
        kind: BlockKind,
        (input, output): (&Fact, &Fact),
        exit: ValueId,
        branch: &BTreeSet<NodeId>,
    ) -> Option<Obstacle> {
        if input != output {
            return Some(Obstacle::Shape { input: input.clone(), output: output.clone() });
        }
        if let BlockKind::Residual(shortcut @ (Shortcut::Projection | Shortcut::Plain)) = kind {
            return Some(Obstacle::Shortcut(shortcut));
        }
        if self.graph.outputs().contains(&exit) {
            return Some(Obstacle::Output);
        }
        let end = self.producer[&exit];
        let inside = |reader: &NodeId| branch.contains(reader) || *reader == end;
        let leak = branch.iter().map(|id| self.graph.node(*id).output).filter(|v| *v != exit).find(|v| {
            self.graph.outputs().contains(v) || !self.readers.get(v).is_some_and(|all| all.iter().all(inside))
        });
        leak.map(|value| Obstacle::Read { value: self.graph.name(value).into() })
    }
}

#[cfg(test)]
mod tests;
