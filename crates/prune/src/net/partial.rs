//! A forward pass in evaluation mode that can pause, go on more than once, and read other values than the network's own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use candle_core::Tensor;
use sentei_graph::{NodeId, Op, ValueId};

use super::Net;
use crate::lower::{Lower, Step};
use crate::{PruneError, batch_norm};

/// Values that stand in for initializers during a pass; the network itself is not touched.
pub(crate) type Overrides = HashMap<ValueId, Tensor>;

/// A forward pass that stopped before a node.
#[derive(Clone, Debug)]
pub(crate) struct Paused {
    live: HashMap<ValueId, Tensor>,
    at: usize,
}

/// Batch statistics of some batch norms, added up over batches.
#[derive(Debug)]
pub(crate) struct Moments {
    nodes: HashSet<NodeId>,
    /// Mean, unbiased variance and number of batches, by running mean and variance.
    sums: BTreeMap<(ValueId, ValueId), (Tensor, Tensor, usize)>,
}

impl Net {
    /// A pass over `x` that has not run a node yet.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when `x` does not fit.
    pub(crate) fn start(&self, x: &Tensor) -> Result<Paused, PruneError> {
        let (input, fact) = &self.graph.inputs()[0];
        if x.rank() != fact.rank() || x.dims().iter().skip(1).ne(fact.shape.iter().skip(1)) {
            let (expected, found) = (fact.shape.clone(), x.dims().to_vec());
            return Err(PruneError::Shape { name: self.graph.name(*input).into(), expected, found });
        }
        Ok(Paused { live: HashMap::from([(*input, x.clone())]), at: 0 })
    }

    /// Goes on to position `to` of the plan, or to its end.
    ///
    /// * `over`: read in place of the network's own values;
    /// * `moments`: when given, its batch norms normalise by their batch and add the statistics to it.
    ///
    /// # Errors
    /// [`PruneError::Node`] when a node cannot be computed.
    pub(crate) fn advance(
        &self,
        pass: &mut Paused,
        to: usize,
        over: &Overrides,
        mut moments: Option<&mut Moments>,
    ) -> Result<(), PruneError> {
        while let Some(planned) = self.plan.get(pass.at).filter(|_| pass.at < to) {
            let node = &planned.node;
            let blame = |source| self.blame(node, source);
            let value = |id: &ValueId| match pass.live.get(id).or_else(|| over.get(id)) {
                Some(value) => value.clone(),
                None => self.values[id].detach(),
            };
            let inputs: Vec<Tensor> = node.inputs.iter().map(value).collect();
            let output = match (&mut moments, &node.op, &inputs[..]) {
                (Some(moments), Op::BatchNorm(norm), [x, gamma, beta, _, _]) if moments.nodes.contains(&planned.id) => {
                    let seen = batch_norm::statistics(x).map_err(blame)?;
                    moments.add((node.inputs[3], node.inputs[4]), &seen).map_err(blame)?;
                    let [mean, variance] = [&seen.mean, &seen.variance];
                    batch_norm::affine(x, [gamma, beta], [mean, variance], norm.epsilon, planned.activation)
                        .map_err(blame)?
                }
                _ => {
                    let rate = self.rates.get(&planned.id).copied();
                    let mut step = Step::new(None, pass.at as u64, rate, planned.activation);
                    node.op.lower(&inputs.iter().collect::<Vec<_>>(), &mut step).map_err(blame)?
                }
            };
            pass.live.insert(node.output, output);
            for id in &planned.dead_after {
                pass.live.remove(id);
            }
            pass.at += 1;
        }
        Ok(())
    }

    /// The logits, by going on to the end.
    ///
    /// # Errors
    /// As [`Net::advance`].
    pub(crate) fn finish(&self, mut pass: Paused, over: &Overrides) -> Result<Tensor, PruneError> {
        self.advance(&mut pass, usize::MAX, over, None)?;
        let done = pass.live.remove(&self.logits).or_else(|| self.values.get(&self.logits).cloned());
        Ok(done.expect("the plan ends with the logits"))
    }

    /// From the first to after the last of `nodes` in the plan; `None` when the logits depend on none of them.
    pub(crate) fn span(&self, nodes: impl Iterator<Item = NodeId>) -> Option<Range<usize>> {
        let nodes: Vec<NodeId> = nodes.collect();
        let inside = |(i, p): (usize, &super::Planned)| nodes.contains(&p.id).then_some(i);
        let positions: Vec<usize> = self.plan.iter().enumerate().filter_map(inside).collect();
        Some(*positions.first()?..*positions.last()? + 1)
    }

    /// Node of each position of the plan.
    pub(crate) fn planned_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.plan.iter().map(|p| p.id)
    }
}

#[cfg(test)]
impl Paused {
    /// A value that later nodes will read.
    pub(crate) fn value(&self, id: ValueId) -> Option<Tensor> {
        self.live.get(&id).cloned()
    }
}

impl Moments {
    /// No batch yet; of the batch norms among `nodes`.
    pub(crate) fn of(nodes: impl Iterator<Item = NodeId>) -> Self {
        Moments { nodes: nodes.collect(), sums: BTreeMap::new() }
    }

    fn add(&mut self, key: (ValueId, ValueId), seen: &batch_norm::Statistics) -> candle_core::Result<()> {
        let (mean, variance) = (seen.mean.clone(), seen.unbiased_variance()?);
        let sum = match self.sums.remove(&key) {
            None => (mean, variance, 1),
            Some((m, v, n)) => ((m + mean)?, (v + variance)?, n + 1),
        };
        self.sums.insert(key, sum);
        Ok(())
    }

    /// The means over batches, as running statistics.
    pub(crate) fn means(&self) -> candle_core::Result<Overrides> {
        let mut over = Overrides::new();
        for ((mean, variance), (m, v, n)) in &self.sums {
            let share = 1.0 / *n as f64;
            over.insert(*mean, m.affine(share, 0.0)?);
            over.insert(*variance, v.affine(share, 0.0)?);
        }
        Ok(over)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Mode;
    use crate::testing::depthwise_net;

    #[test]
    fn a_pass_that_pauses_anywhere_ends_in_the_same_bits() {
        let mut net = Net::new(&depthwise_net(), &Device::Cpu).unwrap();
        let x = Tensor::rand(-1f32, 1., (3, 1, 4, 4), &Device::Cpu).unwrap();
        let bits = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        let whole: Vec<u32> = bits(net.forward(&x, Mode::Eval).unwrap());
        for stop in 0..=net.plan.len() {
            let mut pass = net.start(&x).unwrap();
            net.advance(&mut pass, stop, &Overrides::new(), None).unwrap();
            let twice = [pass.clone(), pass].map(|p| bits(net.finish(p, &Overrides::new()).unwrap()));
            assert_eq!(twice, [whole.clone(), whole.clone()], "paused before node {stop}");
        }
    }

    #[test]
    fn a_value_that_stands_in_counts_for_its_pass_alone() {
        let net = Net::new(&depthwise_net(), &Device::Cpu).unwrap();
        let x = Tensor::rand(-1f32, 1., (3, 1, 4, 4), &Device::Cpu).unwrap();
        let run = |over: &Overrides| {
            net.finish(net.start(&x).unwrap(), over).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let own = run(&Overrides::new());
        let id = net.graph().value("fc.w").unwrap();
        let zero = Tensor::zeros((3, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(run(&HashMap::from([(id, zero)])), [0.0; 9]);
        assert_eq!(run(&Overrides::new()), own);
    }

    #[test]
    fn moments_are_means_over_batches_of_the_chosen_norms() {
        let net = Net::new(&depthwise_net(), &Device::Cpu).unwrap();
        let norm = net.graph().producer(net.graph().value("stem.bn").unwrap()).unwrap();
        let found = |seeds: &[f64]| -> Vec<Vec<f32>> {
            let mut moments = Moments::of([norm].into_iter());
            for seed in seeds {
                let x = Tensor::arange(0f32, 32., &Device::Cpu).unwrap().reshape((2, 1, 4, 4)).unwrap();
                let x = (x * *seed).unwrap().sin().unwrap();
                net.advance(&mut net.start(&x).unwrap(), usize::MAX, &Overrides::new(), Some(&mut moments)).unwrap();
            }
            let means = moments.means().unwrap();
            assert_eq!(means.len(), 2, "one norm, its mean and its variance");
            let names = ["stem.mean", "stem.var"];
            names.map(|n| means[&net.graph().value(n).unwrap()].to_vec1().unwrap()).to_vec()
        };
        let (first, second, both) = (found(&[0.3]), found(&[1.7]), found(&[0.3, 1.7]));
        for i in 0..2 {
            for c in 0..both[i].len() {
                assert!((both[i][c] - (first[i][c] + second[i][c]) / 2.0).abs() < 1e-6);
            }
        }
        assert_ne!(first, second);
    }
}
