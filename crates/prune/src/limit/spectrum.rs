//! The curvature of a trained network's loss: Hessian-vector products on flat vectors, its spectrum, and flat rows.

use std::convert::Infallible;

use candle_core::Tensor;
use sentei_data::{Order, batches, derive_seed};
use sentei_report::events::Event;

use super::lanczos::{LanczosError, Probe, Real, lanczos};
use crate::curvature::{Objective, hessian_vector};
use crate::evaluate::to_tensors;
use crate::train::{Run, TrainError};
use crate::{Net, PruneError};

/// Samples per pass; memory grows with it, results do not change.
const BATCH: usize = 128;

/// L1 norm of a Hessian row below which its weight counts as exactly flat.
const FLAT_ROW: f64 = 1e-7;

/// The Hessian of one loss at one network, by some of its parameters.
pub struct Hessian<'a> {
    net: &'a mut Net,
    params: &'a [String],
    batches: Vec<(Tensor, Vec<u32>)>,
    objective: Objective,
}

/// What all probes saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// One spectral density per probe.
    pub probes: Vec<Probe>,
    /// Estimates of the trace of each parameter's own block, by parameter and then by probe.
    pub traces: Vec<Vec<f64>>,
}

impl<'a> Hessian<'a> {
    /// Reads the samples `indices`; the Hessian is that of their mean loss in evaluation mode.
    ///
    /// * `params`: names of trainable initializers, each once.
    ///
    /// # Errors
    /// [`PruneError::Missing`] for an unknown parameter, and when samples do not fit the network.
    pub fn new(
        net: &'a mut Net,
        params: &'a [String],
        indices: &[usize],
        smoothing: f64,
        run: &Run,
    ) -> Result<Hessian<'a>, TrainError> {
        if let Some(name) = params.iter().find(|name| net.var(name).is_none()) {
            return Err(PruneError::Missing { kind: "parameter", name: name.clone() }.into());
        }
        let loader = batches(run.data, indices, BATCH, Order::Sequential, None, run.normalise);
        let batches = loader.map(|batch| to_tensors(net, batch)).collect::<Result<_, _>>()?;
        let objective = Objective { label_smoothing: smoothing as f32, ..Objective::default() };
        Ok(Hessian { net, params, batches, objective })
    }

    /// Entries per parameter.
    fn lengths(&self) -> Vec<usize> {
        let length = |name: &String| self.net.var(name).map_or(0, |p| p.var.elem_count());
        self.params.iter().map(length).collect()
    }

    /// Entries of a vector.
    pub fn dimension(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// `Hv` for a vector over all parameters, concatenated in order.
    ///
    /// # Errors
    /// [`PruneError::Shape`] when `v` has another length, and what the pass reports.
    pub fn product<T: Real>(&mut self, v: &[T]) -> Result<Vec<T>, PruneError> {
        let dimension = self.dimension();
        if v.len() != dimension {
            let (expected, found) = (vec![dimension], vec![v.len()]);
            return Err(PruneError::Shape { name: "direction".into(), expected, found });
        }
        let mut rest = v;
        let mut direction = Vec::with_capacity(self.params.len());
        for name in self.params {
            let var = &self.net.var(name).expect("checked when the Hessian was made").var;
            let (own, others) = rest.split_at(var.elem_count());
            rest = others;
            direction.push(Tensor::from_slice(own, var.shape(), self.net.device())?);
        }
        let images = hessian_vector(self.net, self.params, &self.batches, &direction, &self.objective)?;
        let mut flat = Vec::with_capacity(dimension);
        for image in images {
            flat.extend(image.flatten_all()?.to_dtype(T::DTYPE)?.to_vec1::<T>()?);
        }
        Ok(flat)
    }

    /// Spectral densities from `probes` start vectors of `steps` products each.
    ///
    /// # Errors
    /// [`TrainError::Curvature`] when a product is not finite, [`TrainError::Stopped`] when `run.stop` asks for it.
    pub fn spectrum<T: Real>(
        &mut self,
        steps: usize,
        probes: usize,
        seed: u64,
        run: &mut Run,
    ) -> Result<Spectrum, TrainError> {
        let (lengths, dimension) = (self.lengths(), self.dimension());
        let phase = "limit: spectrum".to_string();
        let planned = (steps.min(dimension) * probes) as u64;
        run.events.emit(&Event::PhaseStarted { phase: phase.clone(), planned: Some(planned) });
        let mut traces = vec![Vec::with_capacity(probes); lengths.len()];
        let mut found = Vec::with_capacity(probes);
        let mut done = 0;
        for probe in 0..probes {
            let mut first = true;
            let product = |v: &[T]| -> Result<Vec<T>, TrainError> {
                if run.stop.tick() {
                    return Err(TrainError::Stopped { phase: phase.clone(), epoch: 1, step: done });
                }
                let image = self.product(v)?;
                if std::mem::take(&mut first) {
                    for (trace, own) in traces.iter_mut().zip(block_traces(&lengths, v, &image)) {
                        trace.push(own);
                    }
                }
                done += 1;
                run.events.emit(&Event::Progress { phase: phase.clone(), step: done, steps: planned });
                Ok(image)
            };
            let seed = derive_seed(seed, "limit probe", &probe.to_string());
            found.push(lanczos(dimension, steps, seed, product).map_err(flatten)?);
        }
        Ok(Spectrum { probes: found, traces })
    }

    /// Share of the weights at `rows` even steps of `order` whose row of the Hessian has an L1 norm below 1e-7.
    ///
    /// * `order`: positions in the concatenated vector, smallest magnitude first.
    ///
    /// # Errors
    /// As [`Hessian::spectrum`].
    pub fn flat_share(&mut self, order: &[usize], rows: usize, run: &mut Run) -> Result<f64, TrainError> {
        let rows = rows.min(order.len());
        let phase = "limit: rows".to_string();
        run.events.emit(&Event::PhaseStarted { phase: phase.clone(), planned: Some(rows as u64) });
        let mut flat = 0usize;
        for row in 0..rows {
            if run.stop.tick() {
                return Err(TrainError::Stopped { phase, epoch: 1, step: row as u64 });
            }
            let mut unit = vec![0.0f32; order.len()];
            unit[order[row * order.len() / rows]] = 1.0;
            let norm: f64 = self.product(&unit)?.iter().map(|v| f64::from(v.abs())).sum();
            if !norm.is_finite() {
                return Err(flatten(LanczosError::<TrainError>::NotFinite { step: row + 1 }));
            }
            flat += usize::from(norm < FLAT_ROW);
            run.events.emit(&Event::Progress { phase: phase.clone(), step: row as u64 + 1, steps: rows as u64 });
        }
        Ok(flat as f64 / rows.max(1) as f64)
    }
}

/// `v . Hv` over each parameter's entries, times the dimension: for random signs of unit length an unbiased trace of its block.
fn block_traces<T: Real>(lengths: &[usize], v: &[T], image: &[T]) -> Vec<f64> {
    let mut start = 0;
    let mut one = |length: &usize| -> f64 {
        let range = start..start + length;
        start = range.end;
        let products = v[range.clone()].iter().zip(&image[range]).map(|(a, b)| a.wide() * b.wide());
        products.sum::<f64>() * v.len() as f64
    };
    lengths.iter().map(&mut one).collect()
}

fn flatten(error: LanczosError<TrainError>) -> TrainError {
    match error {
        LanczosError::Product(own) => own,
        LanczosError::Length { expected, found } => {
            TrainError::Curvature(LanczosError::<Infallible>::Length { expected, found }.to_string())
        }
        LanczosError::NotFinite { step } => {
            TrainError::Curvature(LanczosError::<Infallible>::NotFinite { step }.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Golden, Harness, depthwise_net};
    use candle_core::{DType, Device};
    use sentei_data::Split;

    fn with_golden<R>(dtype: DType, body: impl FnOnce(&Golden, &mut Hessian, &mut Run) -> R) -> R {
        let golden = Golden::read();
        let mut net = golden.net(dtype);
        let params = Golden::params();
        let objective = Objective::default();
        let mut hessian = Hessian { net: &mut net, params: &params, batches: golden.batches(), objective };
        Harness::new().with_run(|run| body(&golden, &mut hessian, run))
    }

    #[test]
    fn limit_oracle_4_lanczos_on_the_golden_net_finds_its_spectrum() {
        with_golden(DType::F64, |golden, hessian, run| {
            assert_eq!(hessian.dimension(), 52);
            let found = hessian.spectrum::<f64>(52, 12, 3, run).unwrap();
            let known = &golden.hessian_eigenvalues_ascending;
            for probe in &found.probes {
                let (first, last) = (probe.nodes[0].value, probe.nodes.last().unwrap().value);
                assert!((last - known[51]).abs() < 1e-9 && (first - known[0]).abs() < 1e-9, "{first} {last}");
            }
            let traces: Vec<f64> = found.probes.iter().map(|p| 52.0 * p.mean_eigenvalue()).collect();
            for (probe, trace) in traces.iter().enumerate() {
                let blocks: f64 = found.traces.iter().map(|t| t[probe]).sum();
                assert!((blocks - trace).abs() < 1e-9, "the blocks of {blocks} add up to {trace}");
            }
            let mean = traces.iter().sum::<f64>() / 12.0;
            let deviation = (traces.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 11.0).sqrt();
            assert!((mean - golden.hessian_trace).abs() < 3.0 * deviation / 12f64.sqrt(), "{mean} ± {deviation}");
        });
    }

    #[test]
    fn f32_and_f64_agree_and_a_wrong_length_is_named() {
        let largest = |dtype| {
            with_golden(dtype, |_, hessian, run| match dtype {
                DType::F32 => hessian.spectrum::<f32>(20, 1, 3, run).unwrap().probes[0].nodes.last().unwrap().value,
                _ => hessian.spectrum::<f64>(20, 1, 3, run).unwrap().probes[0].nodes.last().unwrap().value,
            })
        };
        assert!((largest(DType::F32) / largest(DType::F64) - 1.0).abs() < 1e-5);
        with_golden(DType::F64, |_, hessian, _| {
            assert!(matches!(hessian.product(&[0.0f32; 51]), Err(PruneError::Shape { .. })));
        });
    }

    #[test]
    fn rows_without_curvature_are_the_flat_share() {
        let mut harness = Harness::new();
        let mut graph = depthwise_net();
        // A filter of zeros with zero statistics beside it: nothing it reads or feeds moves the loss.
        let zero = |graph: &mut sentei_graph::Graph, name: &str, range: std::ops::Range<usize>| {
            let id = graph.value(name).unwrap();
            let mut tensor = graph.initializer(id).unwrap().clone();
            tensor.data[range].fill(0.0);
            graph.set_initializer(id, tensor);
        };
        zero(&mut graph, "pw.gamma", 0..4);
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let params = vec!["pw.w".to_string()];
        let indices = harness.data.indices(Split::Train)[..20].to_vec();
        let order: Vec<usize> = (0..32).collect();
        let share = harness.with_run(|run| {
            let mut hessian = Hessian::new(&mut net, &params, &indices, 0.0, run).unwrap();
            hessian.flat_share(&order, 32, run).unwrap()
        });
        assert!(share >= 0.5, "16 of 32 weights feed a channel scaled by zero: {share}");
        let missing = vec!["nope".to_string()];
        let error = harness.with_run(|run| Hessian::new(&mut net, &missing, &indices, 0.0, run).map(|_| ()));
        assert!(error.unwrap_err().to_string().contains("`nope`"));
    }
}
