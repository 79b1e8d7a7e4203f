//! SynFlow: how much of the flow from input to output passes through a weight, without any data.
//!
//! Source: Tanaka, Kunin, Yamins, Ganguli 2020, "Pruning neural networks without any data by iteratively conserving synaptic
//! flow" (arXiv:2006.05467), section 6.

use candle_core::{DType, Device, Tensor};

use super::linear::linear;
use super::{Score, ScoreInput, on_host, parameter, products};
use crate::PruneError;
use crate::net::{Mode, Net};
use crate::train::TrainError;

/// `|w| * dR/d|w|`, where `R` sums the outputs of the [linear twin](super::linear) for an input of ones.
///
/// Computed in f64 on the CPU, for one image of ones: `R` is a product of layer gains and overflows f32 in deep networks.
/// Scores are divided by the largest one. Whole layers starve in one shot; many rounds avoid that.
#[derive(Clone, Copy, Debug)]
pub struct Synflow {
    /// Rounds in which the density is reached, 100 in the paper.
    pub rounds: u32,
}

impl Score for Synflow {
    fn score(&self, input: ScoreInput) -> Result<Vec<Vec<f32>>, TrainError> {
        let names: Vec<String> = input.layers.iter().map(|l| l.name.clone()).collect();
        let mut flow = Flow::new(&input.net.to_graph()?)?;
        let scores = flow.scores(&names)?;
        let mut largest = 0.0f64;
        for scores in &scores {
            largest = largest.max(scores.flatten_all()?.max(0)?.to_scalar::<f64>()?);
        }
        // Nothing flows any more when the largest is 0; then all weights are equal.
        let share = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        scores.iter().map(|t| on_host(&t.affine(share, 0.0)?)).collect()
    }

    fn rounds(&self) -> u32 {
        self.rounds
    }
}

/// The linear twin of a graph in f64.
pub(crate) struct Flow {
    pub net: Net,
}

impl Flow {
    pub fn new(graph: &sentei_graph::Graph) -> Result<Self, PruneError> {
        Ok(Flow { net: Net::with_dtype(&linear(graph)?, &Device::Cpu, DType::F64)? })
    }

    /// `R`: the sum of all outputs for one image of ones.
    pub fn objective(&mut self) -> Result<Tensor, PruneError> {
        let ones = Tensor::ones(self.net.graph().inputs()[0].1.shape.as_slice(), DType::F64, &Device::Cpu)?;
        // The twin has no batch norm and no dropout: the mode only says that gradients are wanted.
        Ok(self.net.forward(&ones, Mode::Train { seed: 0 })?.sum_all()?)
    }

    /// `|w| * dR/d|w|` of each parameter.
    pub fn scores(&mut self, names: &[String]) -> Result<Vec<Tensor>, TrainError> {
        let grads = self.objective()?.backward()?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let weight = parameter(&self.net, name)?;
            found.push(match grads.get(weight) {
                Some(g) => g.clone(),
                None => weight.zeros_like()?,
            });
        }
        products(&self.net, names, &found)
    }
}

/// Whether any path from input to output is left in `graph`: its linear twin passes something on.
///
/// Layers that all keep weights can still be cut off from each other.
///
/// # Errors
/// Whatever the network reports.
pub fn passes_signal(graph: &sentei_graph::Graph) -> Result<bool, PruneError> {
    Ok(Flow::new(graph)?.objective()?.to_scalar::<f64>()? > 0.0)
}
