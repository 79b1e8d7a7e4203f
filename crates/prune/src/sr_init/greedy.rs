//! One block at a time, measured anew on what is left: more expensive, and aware of blocks that stand in for each other.

use candle_core::Device;
use sentei_graph::Graph;
use sentei_graph::blocks::{Block, blocks};
use sentei_graph::passes::remove_blocks;
use serde::{Deserialize, Serialize};

use super::drops::{BlockDrop, Ranking, Which, rank};
use super::select::cheapest_first;
use super::{Selection, SrInit};
use crate::PruneError;
use crate::train::{Run, TrainError};

/// One removal of [`greedy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// What the block cost at that time; its number is that in the network given.
    pub cost: BlockDrop,
    /// Metric of the network with the block, without the ones removed before.
    pub baseline: f64,
}

/// What [`greedy`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Greedy {
    /// The removals, first one first.
    pub removals: Vec<Removal>,
    /// What is left; not fine-tuned.
    pub graph: Graph,
}

impl Greedy {
    /// Numbers of the removed blocks, ascending.
    pub fn numbers(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.removals.iter().map(|r| r.cost.block).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Removes the cheapest candidate, measures what is left, and so on as long as `until` allows.
///
/// It costs about as many rankings as blocks are removed.
///
/// # Errors
/// [`TrainError::GreedyGap`] for [`Selection::LargestGap`], which needs all drops at once; else as [`rank`].
pub fn greedy(
    graph: &Graph,
    how: &SrInit,
    until: Selection,
    device: &Device,
    run: &mut Run,
) -> Result<Greedy, TrainError> {
    let original = blocks(graph).map_err(PruneError::from)?;
    let mut done = Greedy { removals: Vec::new(), graph: graph.clone() };
    loop {
        let left = blocks(&done.graph).map_err(PruneError::from)?;
        let enough = match until {
            Selection::Count(count) => done.removals.len() >= count,
            Selection::Threshold(_) => false,
            Selection::LargestGap => return Err(TrainError::GreedyGap),
        };
        if enough || !left.iter().any(Block::is_candidate) {
            return Ok(done);
        }
        let Ranking { blocks: all, drops, baseline, .. } = rank(&done.graph, how, Which::Candidates, device, run)?;
        let cheapest = cheapest_first(&all, &drops)[0].clone();
        if matches!(until, Selection::Threshold(tau) if cheapest.mean() > tau) {
            return Ok(done);
        }
        let name = &all[cheapest.block].name;
        let block = original.iter().position(|b| b.name == *name).expect("removal keeps the names of the other blocks");
        done.graph = remove_blocks(done.graph, &[cheapest.block])?.graph;
        done.removals.push(Removal { cost: BlockDrop { block, ..cheapest }, baseline });
    }
}
