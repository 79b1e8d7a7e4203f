//! The whole question for one trained network: curvature, noise, predicted limit, measured limit.

use std::time::{Duration, Instant};

use candle_core::Device;
use sentei_data::{Split, derive_seed};
use sentei_graph::{Graph, Role};
use serde::{Deserialize, Serialize};

use super::curve::{Measure, Removal, TunedPoint};
use super::epsilon::{BATCH, Noise, batch_noise, sample_losses};
use super::fixed_point::{Prediction, RemovedNorms, predict};
use super::knee::{CurvePoint, Knee, knee};
use super::lanczos::{Probe, signs};
use super::spectrum::Hessian;
use crate::Net;
use crate::config::TrainConfig;
use crate::layers::{PrunableSet, prunable_layers};
use crate::train::{Run, TrainError};

/// Weights whose Hessian row is looked at for the row-norm correction.
const ROWS: usize = 100;

/// How a limit is predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitSettings {
    /// Which layers take part; sparsity is counted over them.
    pub set: PrunableSet,
    /// Every weight of [`PrunableSet::ALL`] and every bias takes part, as in the paper; batch-norm scale and shift never do.
    pub all_parameters: bool,
    /// Lanczos steps per probe.
    pub steps: usize,
    /// Random start vectors.
    pub probes: usize,
    /// Training samples for curvature and training loss, drawn by the seed.
    pub samples: usize,
    /// Count weights with a flat Hessian row as flat; for large convolutional networks.
    pub row_norms: bool,
    /// Even steps of the measured curve.
    pub grid: usize,
    /// Loss of validation accuracy that is allowed, in percentage points.
    pub drop_points: f64,
    /// Training of the fine-tuned points; `None` measures plain zeroing only.
    pub fine_tune: Option<TrainConfig>,
    /// Networks to fine-tune.
    pub fine_tune_tries: usize,
    /// Label smoothing of the loss, as in training. Class weights are left out: every sample counts once.
    pub smoothing: f64,
    /// Seed of samples, batches and probes.
    pub seed: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            set: PrunableSet::ALL,
            all_parameters: false,
            steps: 64,
            probes: 2,
            samples: 2000,
            row_norms: false,
            grid: 50,
            drop_points: 0.5,
            fine_tune: None,
            fine_tune_tries: 6,
            smoothing: 0.0,
            seed: 0,
        }
    }
}

/// What an analysis will take, fine-tuning apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitCost {
    /// Parameters that take part.
    pub parameters: usize,
    /// Hessian-vector products.
    pub products: usize,
    /// Bytes of the Lanczos vectors that are kept.
    pub bytes: u64,
    /// Time of all products and of the measured curve, from one of each on a few samples.
    pub time: Duration,
}

/// Size and curvature of one parameter's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitLayer {
    /// Name of the initializer.
    pub name: String,
    /// Number of weights.
    pub weights: usize,
    /// Mean magnitude.
    pub mean: f64,
    /// Median magnitude.
    pub median: f64,
    /// 99 % of the magnitudes are at most this.
    pub p99: f64,
    /// Trace of the parameter's block of the Hessian over its number of weights, averaged over probes.
    pub curvature: f64,
    /// Standard deviation of that between probes.
    pub curvature_spread: f64,
    /// Share of its weights that global magnitude removes at the predicted limit.
    pub removed: f64,
}

/// Predicted and measured limit of one trained network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitReport {
    /// Parameters that take part.
    pub parameters: usize,
    /// Samples behind the curvature and the training loss.
    pub samples: usize,
    /// Hessian-vector products that were made.
    pub products: usize,
    /// The loss that counts as noise.
    pub noise: Noise,
    /// Spectral density as each probe saw it.
    pub probes: Vec<Probe>,
    /// Largest eigenvalue found: the sharpness.
    pub sharpness: f64,
    /// Estimates of the trace of the Hessian, one per probe.
    pub traces: Vec<f64>,
    /// Share of flat rows, when the row-norm correction was asked for.
    pub flat_rows: Option<f64>,
    /// The predicted limit.
    pub prediction: Prediction,
    /// One row per parameter, in graph order.
    pub layers: Vec<LimitLayer>,
    /// The measured curve of plain zeroing, ascending in sparsity; the first point is the dense network.
    pub curve: Vec<CurvePoint>,
    /// Measured limits of the curve.
    pub knee: Knee,
    /// The curve at the predicted limit.
    pub at_prediction: CurvePoint,
    /// Pruned networks after fine-tuning, ascending in sparsity.
    pub tuned: Vec<TunedPoint>,
    /// Largest fine-tuned sparsity that kept its accuracy, with no failure below it; at least the knee of plain zeroing.
    pub tuned_limit: Option<f64>,
}

impl LimitSettings {
    /// Names of the parameters that take part, in graph order.
    ///
    /// # Errors
    /// [`TrainError::NothingPrunable`] when there are none.
    pub fn parameters(&self, graph: &Graph) -> Result<Vec<String>, TrainError> {
        let names: Vec<String> = if self.all_parameters {
            let taken = |role: Role| matches!(role, Role::Weight | Role::Bias);
            let trainable = graph.parameters().into_iter().filter(|(_, role)| taken(*role));
            trainable.map(|(id, _)| graph.name(id).to_string()).collect()
        } else {
            prunable_layers(graph, self.set).into_iter().map(|l| l.name).collect()
        };
        if names.is_empty() { Err(TrainError::NothingPrunable) } else { Ok(names) }
    }

    /// The training samples that curvature and training loss are taken over, ascending.
    fn indices(&self, run: &Run) -> Result<Vec<usize>, TrainError> {
        let mut indices = run.data.indices(Split::Train);
        if indices.is_empty() {
            return Err(TrainError::NoTraining(run.data.name.clone()));
        }
        if run.data.indices(Split::Val).is_empty() {
            return Err(TrainError::NoValidation(run.data.name.clone(), "the measured limit"));
        }
        // Sorting by a seeded hash of the index draws a subset that does not depend on anything else.
        indices.sort_by_cached_key(|i| derive_seed(self.seed, "limit samples", &i.to_string()));
        indices.truncate(self.samples.max(1));
        indices.sort_unstable();
        Ok(indices)
    }

    /// Products for the row-norm correction.
    fn rows(&self, parameters: usize) -> usize {
        if self.row_norms { ROWS.min(parameters) } else { 0 }
    }
}

/// What [`analyse`] will take on this machine; one product over a few samples is timed.
///
/// # Errors
/// As [`analyse`].
pub fn cost(graph: &Graph, settings: &LimitSettings, device: &Device, run: &mut Run) -> Result<LimitCost, TrainError> {
    let mut net = Net::new(graph, device)?;
    let names = settings.parameters(graph)?;
    let indices = settings.indices(run)?;
    let few = &indices[..indices.len().min(256)];
    let mut hessian = Hessian::new(&mut net, &names, few, settings.smoothing, run)?;
    let parameters = hessian.dimension();
    let vector = signs::<f32>(parameters, 0);
    let started = Instant::now();
    hessian.product(&vector)?;
    let product = started.elapsed().div_f64(few.len() as f64).mul_f64(indices.len() as f64);
    let started = Instant::now();
    sample_losses(&mut net, run.data, few, run.normalise, settings.smoothing)?;
    let sample = started.elapsed().div_f64(few.len() as f64);
    let point = sample.mul_f64((indices.len() + run.data.indices(Split::Val).len()) as f64);
    let noise = sample.mul_f64(run.data.indices(Split::Train).len() as f64);
    let products = settings.steps.min(parameters) * settings.probes + settings.rows(parameters);
    // Two refined knees take about ten points on top of the grid.
    let time = product.mul_f64(products as f64) + point.mul_f64(settings.grid as f64 + 13.0) + noise;
    Ok(LimitCost { parameters, products, bytes: 4 * (settings.steps.min(parameters) * parameters) as u64, time })
}

/// Predicts and measures how sparse `graph`, which is trained, can get under global magnitude order.
///
/// Prediction and training loss are taken over training samples, accuracy over the validation split. The noise level is that
/// of mini-batches of 128 over the whole training split. `graph` itself is not changed.
///
/// # Errors
/// [`TrainError::NoValidation`] without a validation split, [`TrainError::NothingPrunable`], [`TrainError::Curvature`], and what
/// evaluation and training report.
pub fn analyse(
    graph: &Graph,
    settings: &LimitSettings,
    device: &Device,
    run: &mut Run,
) -> Result<LimitReport, TrainError> {
    let names = settings.parameters(graph)?;
    let indices = settings.indices(run)?;
    let mut net = Net::new(graph, device)?;
    let everything = run.data.indices(Split::Train);
    let losses = sample_losses(&mut net, run.data, &everything, run.normalise, settings.smoothing)?;
    let noise = batch_noise(&losses, BATCH, settings.seed);

    let removal = Removal::of(&net, &names)?;
    let norms = RemovedNorms::of(removal.weights().iter().map(Vec::as_slice));
    let mut hessian = Hessian::new(&mut net, &names, &indices, settings.smoothing, run)?;
    let spectrum = hessian.spectrum::<f32>(settings.steps, settings.probes, settings.seed, run)?;
    let flat_rows = if settings.row_norms { Some(hessian.flat_share(removal.order(), ROWS, run)?) } else { None };
    let epsilon = (noise.epsilon, noise.uncertainty);
    let prediction = predict(&norms, &spectrum.probes, epsilon, flat_rows.unwrap_or(0.0));

    let (drop_points, smoothing) = (settings.drop_points, settings.smoothing);
    let measure = Measure { removal: &removal, train: &indices, smoothing, drop_points, epsilon: noise.epsilon };
    let curve = measure.curve(&mut net, settings.grid, prediction.sparsity, run)?;
    let found = knee(&curve, drop_points, noise.epsilon).expect("a curve starts at the dense network");
    let at = (prediction.sparsity * removal.len() as f64).round() as usize;
    let at_prediction = *curve.iter().find(|p| p.removed == at).expect("the curve was measured there");
    let tuned = match &settings.fine_tune {
        None => Vec::new(),
        Some(config) => {
            let ceiling = 0.999f64.max(found.accuracy);
            let bounds = (prediction.sparsity.min(ceiling), found.accuracy, ceiling);
            measure.tuned(&mut net, &curve[0], config, bounds, settings.fine_tune_tries, run)?
        }
    };
    let kept = tuned.iter().take_while(|p| p.fine).last().map(|p| p.point.sparsity);
    let tuned_limit = settings.fine_tune.as_ref().map(|_| kept.unwrap_or(0.0).max(found.accuracy));
    let largest = spectrum.probes.iter().filter_map(|p| p.nodes.last()).map(|n| n.value);
    Ok(LimitReport {
        parameters: removal.len(),
        samples: indices.len(),
        products: spectrum.probes.iter().map(|p| p.steps).sum::<usize>() + settings.rows(removal.len()),
        noise,
        sharpness: largest.fold(f64::NEG_INFINITY, f64::max),
        traces: spectrum.probes.iter().map(|p| p.mean_eigenvalue() * removal.len() as f64).collect(),
        layers: layers(&names, &removal, at, &spectrum.traces),
        probes: spectrum.probes,
        flat_rows,
        prediction,
        curve,
        knee: found,
        at_prediction,
        tuned,
        tuned_limit,
    })
}

fn layers(names: &[String], removal: &Removal, removed: usize, traces: &[Vec<f64>]) -> Vec<LimitLayer> {
    let masks = removal.masks(removed);
    let one = |((name, weights), traces): ((&String, &Vec<f32>), &Vec<f64>)| {
        let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
        sizes.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| sizes.get((share * sizes.len() as f64) as usize).map_or(0.0, |v| f64::from(*v));
        let count = sizes.len().max(1) as f64;
        let probes = traces.len().max(1) as f64;
        let curvature = traces.iter().sum::<f64>() / probes / count;
        let scatter = traces.iter().map(|t| (t / count - curvature).powi(2)).sum::<f64>();
        LimitLayer {
            name: name.clone(),
            weights: weights.len(),
            mean: sizes.iter().map(|v| f64::from(*v)).sum::<f64>() / count,
            median: at(0.5),
            p99: at(0.99),
            curvature,
            curvature_spread: (scatter / (probes - 1.0).max(1.0)).sqrt(),
            removed: 1.0 - masks.get(name).map_or(1.0, |m| m.density()),
        }
    };
    names.iter().zip(removal.weights()).zip(traces).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masks::Masks;
    use crate::testing::{self, Harness};
    use crate::train::{Plan, train};

    fn trained(harness: &mut Harness) -> Graph {
        let mut net = Net::new(&testing::mlp(&[16, 12, 3], None), &Device::Cpu).unwrap();
        let config = TrainConfig { epochs: 10, batch_size: 16, ..TrainConfig::default() };
        let masks = Masks::default();
        harness.with_run(|run| train(&mut net, Plan::new("train", &config, &masks), run)).unwrap();
        net.to_graph().unwrap()
    }

    #[test]
    fn a_trained_network_gets_a_limit_a_curve_and_a_row_per_layer() {
        let mut harness = Harness::new();
        let graph = trained(&mut harness);
        let fine_tune = Some(TrainConfig { epochs: 1, batch_size: 16, ..TrainConfig::default() });
        let settings = LimitSettings {
            steps: 30,
            samples: 100,
            grid: 20,
            row_norms: true,
            fine_tune,
            fine_tune_tries: 2,
            ..LimitSettings::default()
        };
        let cost = harness.with_run(|run| cost(&graph, &settings, &Device::Cpu, run)).unwrap();
        assert_eq!((cost.parameters, cost.products, cost.bytes), (228, 160, 30 * 228 * 4));
        assert!(cost.time > Duration::ZERO);
        let found = harness.with_run(|run| analyse(&graph, &settings, &Device::Cpu, run)).unwrap();
        assert_eq!((found.parameters, found.products, found.samples), (228, 160, 100));
        let limit = found.prediction.sparsity;
        assert!(limit > 0.05 && limit < 0.99, "{limit}");
        assert!(found.prediction.low <= limit && limit <= found.prediction.high);
        assert_eq!(found.at_prediction.removed, (limit * 228.0).round() as usize);
        assert_eq!(found.layers.iter().map(|l| l.weights).collect::<Vec<_>>(), [192, 36]);
        let removed: f64 = found.layers.iter().map(|l| l.removed * l.weights as f64).sum();
        assert_eq!(removed.round() as usize, found.at_prediction.removed);
        assert!(found.sharpness > 0.0 && found.noise.epsilon > 0.0 && found.flat_rows.is_some());
        assert_eq!(found.tuned.len(), 2);
        assert!(found.tuned_limit.unwrap() >= found.knee.accuracy);
        let again = harness.with_run(|run| analyse(&graph, &settings, &Device::Cpu, run)).unwrap();
        assert_eq!(found, again, "same seed, same report");
    }

    #[test]
    fn all_parameters_take_the_biases_in_but_no_batch_norm_and_a_missing_validation_split_is_an_error() {
        let graph = testing::mlp(&[16, 12, 3], None);
        let settings = LimitSettings { all_parameters: true, ..LimitSettings::default() };
        assert_eq!(settings.parameters(&graph).unwrap(), ["fc0.w", "fc0.b", "fc1.w", "fc1.b"]);
        let normed = settings.parameters(&testing::depthwise_net()).unwrap();
        assert_eq!(normed, ["stem.w", "dw.w", "pw.w", "fc.w", "fc.b"]);
        let mut data = testing::dataset();
        data.splits.iter_mut().filter(|s| **s == Split::Val).for_each(|s| *s = Split::Train);
        let mut harness = Harness::on(data);
        let error = harness.with_run(|run| analyse(&graph, &settings, &Device::Cpu, run)).unwrap_err();
        assert!(matches!(error, TrainError::NoValidation(..)), "{error}");
    }
}
