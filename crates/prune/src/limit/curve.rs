//! Measures what global magnitude zeroing does, without and with training afterwards.

use candle_core::Tensor;
use rayon::slice::ParallelSliceMut;
use sentei_data::Split;
use sentei_graph::Mask;
use sentei_report::events::Event;
use serde::{Deserialize, Serialize};

use super::epsilon::sample_losses;
use super::knee::{CurvePoint, keeps_accuracy, keeps_loss, last_fine};
use crate::config::TrainConfig;
use crate::evaluate::evaluate;
use crate::masks::Masks;
use crate::snapshot::{Snapshot, values};
use crate::train::{Plan, Run, TrainError, train};
use crate::{Net, PruneError};

/// Two points closer than this are not refined further: a fifth of a percentage point.
const RESOLUTION: f64 = 0.002;

/// Weights of some parameters in the order in which global magnitude removes them.
#[derive(Clone, Debug)]
pub struct Removal {
    names: Vec<String>,
    /// Current values, one list per parameter.
    weights: Vec<Vec<f32>>,
    /// Positions in the concatenated list, smallest magnitude first; equal ones by position.
    order: Vec<usize>,
}

impl Removal {
    /// Ranks the current values of the parameters `names` together.
    ///
    /// # Errors
    /// [`PruneError::Missing`] for an unknown name.
    pub fn of(net: &Net, names: &[String]) -> Result<Removal, PruneError> {
        let weights = names.iter().map(|n| values(net, n)).collect::<Result<Vec<_>, _>>()?;
        let flat: Vec<f32> = weights.iter().flatten().map(|w| w.abs()).collect();
        let mut order: Vec<usize> = (0..flat.len()).collect();
        order.par_sort_unstable_by(|a, b| flat[*a].total_cmp(&flat[*b]).then(a.cmp(b)));
        Ok(Removal { names: names.to_vec(), weights, order })
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no weight.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Positions in the concatenated list of weights, smallest magnitude first.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Current values, one list per parameter.
    pub fn weights(&self) -> &[Vec<f32>] {
        &self.weights
    }

    /// Masks that keep all but the `removed` smallest weights; a parameter may lose all of them.
    pub fn masks(&self, removed: usize) -> Masks {
        let mut keep = vec![true; self.len()];
        self.order[..removed.min(self.len())].iter().for_each(|i| keep[*i] = false);
        let mut rest = &keep[..];
        let mut one = |(name, weights): (&String, &Vec<f32>)| {
            let (own, others) = rest.split_at(weights.len());
            rest = others;
            (name.clone(), Mask::from_bits(own.to_vec()))
        };
        self.names.iter().zip(&self.weights).map(&mut one).collect()
    }

    /// Sets the `removed` smallest weights of `net` to zero and all others to their original values.
    fn apply(&self, net: &mut Net, removed: usize) -> Result<(), PruneError> {
        let masks = self.masks(removed);
        for (name, weights) in self.names.iter().zip(&self.weights) {
            let mut kept = weights.clone();
            masks.get(name).expect("one mask per parameter").apply(&mut kept);
            let shape = net.var(name).expect("ranked parameters are of this net").var.shape().clone();
            let value = Tensor::from_vec(kept, shape, net.device())?;
            net.set_var(name, &value)?;
        }
        Ok(())
    }
}

/// What a curve is measured with.
pub struct Measure<'a> {
    /// Weights that go, smallest first.
    pub removal: &'a Removal,
    /// Training samples that the training loss is taken over.
    pub train: &'a [usize],
    /// Label smoothing of the training loss.
    pub smoothing: f64,
    /// Loss of validation accuracy that is allowed, in percentage points.
    pub drop_points: f64,
    /// Rise of the training loss that is allowed.
    pub epsilon: f64,
}

impl Measure<'_> {
    /// What `net` does with the `removed` smallest weights at zero; the weights are left that way.
    fn at(&self, net: &mut Net, removed: usize, run: &mut Run) -> Result<CurvePoint, TrainError> {
        self.removal.apply(net, removed)?;
        self.point(net, removed, run)
    }

    fn point(&self, net: &mut Net, removed: usize, run: &mut Run) -> Result<CurvePoint, TrainError> {
        let val = evaluate(net, run.data, &run.data.indices(Split::Val), run.normalise)?;
        let losses = sample_losses(net, run.data, self.train, run.normalise, self.smoothing)?;
        let train_loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let sparsity = removed as f64 / self.removal.len().max(1) as f64;
        Ok(CurvePoint { removed, sparsity, accuracy: val.accuracy(), val_loss: val.loss, train_loss })
    }

    /// The curve of plain zeroing: `grid` even steps, 99 and 99.5 %, the share `also`, and both knees to a fifth of a point.
    ///
    /// `net` has its weights back at the end. Points ascend in sparsity; the first one is the dense network.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] when `run.stop` asks for it, and what evaluation reports.
    pub fn curve(&self, net: &mut Net, grid: usize, also: f64, run: &mut Run) -> Result<Vec<CurvePoint>, TrainError> {
        let all = self.removal.len();
        let count = |share: f64| ((share * all as f64).round() as usize).min(all);
        let mut counts: Vec<usize> = (0..grid).map(|i| count(i as f64 / grid as f64)).collect();
        counts.extend([count(0.99), count(0.995), count(also)]);
        counts.sort_unstable();
        counts.dedup();
        let (phase, steps) = ("limit: curve".to_string(), counts.len() as u64);
        run.events.emit(&Event::PhaseStarted { phase: phase.clone(), planned: Some(steps) });
        let mut points = Vec::new();
        for (step, removed) in counts.into_iter().enumerate() {
            let step = step as u64 + 1;
            stop_here(&phase, step, run)?;
            points.push(self.at(net, removed, run)?);
            run.events.emit(&Event::Progress { phase: phase.clone(), step, steps });
        }
        let dense = points[0];
        self.refine(net, &mut points, |p| keeps_accuracy(p, &dense, self.drop_points), run)?;
        self.refine(net, &mut points, |p| keeps_loss(p, &dense, self.epsilon), run)?;
        self.removal.apply(net, 0)?;
        Ok(points)
    }

    /// Measures between the last fine point and the next one until they are close.
    fn refine(
        &self,
        net: &mut Net,
        points: &mut Vec<CurvePoint>,
        fine: impl Fn(&CurvePoint) -> bool,
        run: &mut Run,
    ) -> Result<(), TrainError> {
        loop {
            let last = last_fine(points, &fine);
            let Some(next) = points.get(last + 1) else { return Ok(()) };
            let (low, high) = (points[last].removed, next.removed);
            if next.sparsity - points[last].sparsity <= RESOLUTION || high - low < 2 {
                return Ok(());
            }
            stop_here("limit: curve", points.len() as u64, run)?;
            let middle = self.at(net, low + (high - low) / 2, run)?;
            points.insert(last + 1, middle);
        }
    }
}

/// A pruned network after training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunedPoint {
    /// What it does.
    #[serde(flatten)]
    pub point: CurvePoint,
    /// Whether its accuracy is within the allowed points of the dense one.
    pub fine: bool,
}

impl Measure<'_> {
    /// What fine-tuning saves: the share `first`, then a bisection over log density between `from` and `to`.
    ///
    /// * `config`: how each pruned network is trained, from the trained weights and with the pruned ones at zero.
    /// * `tries`: networks to train, at least 1.
    ///
    /// Points ascend in sparsity; `net` has its weights back at the end.
    ///
    /// # Errors
    /// What training reports.
    pub fn tuned(
        &self,
        net: &mut Net,
        dense: &CurvePoint,
        config: &TrainConfig,
        (first, from, to): (f64, f64, f64),
        tries: usize,
        run: &mut Run,
    ) -> Result<Vec<TunedPoint>, TrainError> {
        let start = Snapshot::of(net)?;
        let all = self.removal.len() as f64;
        let mut points: Vec<TunedPoint> = Vec::new();
        let (mut low, mut high) = (from, to);
        let mut share = first;
        for _ in 0..tries.max(1) {
            let removed = (share * all).round() as usize;
            let masks = self.removal.masks(removed);
            let phase = format!("fine-tune {:.2} %", share * 100.0);
            start.restore(net)?;
            train(net, Plan::new(&phase, config, &masks), run)?;
            let point = self.point(net, removed, run)?;
            let fine = keeps_accuracy(&point, dense, self.drop_points);
            points.push(TunedPoint { point, fine });
            if fine {
                low = low.max(share)
            } else {
                high = high.min(share)
            }
            if low >= high {
                break;
            }
            share = 1.0 - ((1.0 - low) * (1.0 - high)).sqrt();
        }
        start.restore(net)?;
        points.sort_by_key(|p| p.point.removed);
        Ok(points)
    }
}

fn stop_here(phase: &str, step: u64, run: &Run) -> Result<(), TrainError> {
    if run.stop.tick() { Err(TrainError::Stopped { phase: phase.into(), epoch: 1, step }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Harness};
    use candle_core::Device;

    fn names() -> Vec<String> {
        ["fc0.w", "fc1.w"].map(String::from).to_vec()
    }

    #[test]
    fn the_smallest_go_first_over_all_layers_and_ties_by_position() {
        let mut graph = testing::mlp(&[4, 2, 2], None);
        let mut set = |name: &str, shape: [usize; 2], data: &[f32]| {
            let id = graph.value(name).unwrap();
            graph.set_initializer(id, sentei_graph::Tensor::new(shape, data.to_vec()));
        };
        set("fc0.w", [2, 4], &[0.5, -0.1, 0.2, 0.2, 0.9, -0.2, 0.7, 0.8]);
        set("fc1.w", [2, 2], &[-0.2, 0.3, 0.1, 2.0]);
        let net = Net::new(&graph, &Device::Cpu).unwrap();
        let removal = Removal::of(&net, &names()).unwrap();
        assert_eq!(removal.order()[..6], [1, 10, 2, 3, 5, 8]);
        let masks = removal.masks(4);
        assert_eq!(masks.get("fc0.w").unwrap().bits(), [true, false, false, false, true, true, true, true]);
        assert_eq!(masks.get("fc1.w").unwrap().bits(), [true, true, false, true]);
        assert_eq!(removal.masks(99).kept(), 0);
    }

    #[test]
    fn a_curve_starts_dense_ascends_refines_its_knees_and_puts_the_weights_back() {
        let mut harness = Harness::new();
        let graph = testing::mlp(&[16, 8, 3], None);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let config = TrainConfig { epochs: 8, batch_size: 16, ..TrainConfig::default() };
        let masks = Masks::default();
        harness.with_run(|run| train(&mut net, Plan::new("train", &config, &masks), run)).unwrap();
        let before = testing::bits(&net.to_graph().unwrap());
        let removal = Removal::of(&net, &names()).unwrap();
        let train: Vec<usize> = harness.data.indices(Split::Train);
        let measure = Measure { removal: &removal, train: &train, smoothing: 0.0, drop_points: 0.5, epsilon: 0.01 };
        let points = harness.with_run(|run| measure.curve(&mut net, 20, 0.123, run)).unwrap();
        assert_eq!(testing::bits(&net.to_graph().unwrap()), before);
        assert_eq!(points[0].removed, 0);
        assert!(points.is_sorted_by(|a, b| a.removed < b.removed));
        assert!(points.iter().any(|p| p.removed == (0.123 * 152.0_f64).round() as usize));
        assert!(points.len() > 23, "refined");
        let known =
            harness.with_run(|run| evaluate(&mut net, run.data, &run.data.indices(Split::Val), run.normalise)).unwrap();
        assert_eq!(points[0].accuracy, known.accuracy());
        let last = last_fine(&points, |p| keeps_loss(p, &points[0], 0.01));
        assert!(points[last + 1].removed - points[last].removed == 1, "152 weights are told apart one by one");
        // With all weights zero only the biases speak: every sample gets the same answer.
        let empty = harness.with_run(|run| measure.at(&mut net, 152, run)).unwrap();
        assert!(empty.accuracy < 0.5 && empty.train_loss > 1.0, "{empty:?}");
    }

    #[test]
    fn tuned_networks_keep_their_zeros_and_the_start_comes_back() {
        let mut harness = Harness::new();
        let graph = testing::mlp(&[16, 8, 3], None);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let removal = Removal::of(&net, &names()).unwrap();
        let before = testing::bits(&graph);
        let measure = Measure { removal: &removal, train: &[0, 1], smoothing: 0.0, drop_points: 0.5, epsilon: 0.01 };
        let config = TrainConfig { epochs: 1, batch_size: 16, ..TrainConfig::default() };
        let found = harness
            .with_run(|run| {
                let dense = measure.point(&mut net, 0, run)?;
                measure.tuned(&mut net, &dense, &config, (0.5, 0.1, 0.99), 3, run)
            })
            .unwrap();
        assert_eq!(testing::bits(&net.to_graph().unwrap()), before);
        assert_eq!(found.len(), 3);
        assert!(found.iter().any(|p| p.point.removed == 76));
        assert!(found.is_sorted_by(|a, b| a.point.removed <= b.point.removed));
    }
}
