//! How much each layer can lose alone, without retraining: the scan that suggests densities per layer.
//!
//! Source: Han et al. 2015 (arXiv:1506.02626), section 4.1 and figure 6.

use std::collections::BTreeMap;

use candle_core::Device;
use sentei_data::{Split, derive_seed};
use sentei_graph::Graph;
use sentei_report::events::Event;
use sentei_report::record::{SensitivityPoint, SensitivityScan};

use crate::Net;
use crate::config::TrainConfig;
use crate::distribution::Distribution;
use crate::evaluate::evaluate;
use crate::layers::{PrunableSet, prunable_layers};
use crate::masks::{MaskError, Masks};
use crate::optim::Optimizer;
use crate::score::{Pruner, Score};
use crate::snapshot::Snapshot;
use crate::train::{Run, TrainError};

/// Densities that each layer is tried at.
pub const DENSITIES: [f64; 11] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05];

/// Accuracy of the network with one layer pruned, for each layer of `set` and each of [`DENSITIES`].
///
/// * `samples`: at most so many of the validation split, drawn once from `seed` and the same for every point.
///
/// A density at which a layer would keep no weight is left out of its points.
///
/// # Errors
/// [`TrainError::NoValidation`] without a validation split, [`TrainError::Stopped`] when `run.stop` asks for it.
pub fn sensitivity(
    graph: &Graph,
    set: PrunableSet,
    score: &dyn Score,
    samples: usize,
    seed: u64,
    device: &Device,
    run: &mut Run,
) -> Result<Vec<SensitivityScan>, TrainError> {
    let mut indices = run.data.indices(Split::Val);
    if indices.is_empty() {
        return Err(TrainError::NoValidation(run.data.name.clone(), "a sensitivity scan"));
    }
    // Sorting by a seeded hash of the index draws a subset that does not depend on anything else.
    indices.sort_by_key(|i| derive_seed(seed, "sensitivity", &i.to_string()));
    indices.truncate(samples.max(1));

    let mut net = Net::new(graph, device)?;
    let layers = prunable_layers(graph, set);
    let start = Snapshot::of(&net)?;
    let dense = Masks::of_zeros(graph, &layers);
    let steps = (layers.len() * DENSITIES.len()) as u64;
    let phase = "sensitivity".to_string();
    run.events.emit(&Event::PhaseStarted { phase: phase.clone(), planned: Some(steps) });
    let mut scans: Vec<SensitivityScan> = Vec::new();
    let mut step = 0;
    for layer in &layers {
        let mut points = Vec::new();
        for density in DENSITIES {
            if run.stop.tick() {
                return Err(TrainError::Stopped { phase, epoch: 1, step });
            }
            let one = std::slice::from_ref(layer);
            let pruner = Pruner { seed, ..Pruner::new(one, score, &Distribution::Uniform) };
            match pruner.masks(&mut net, &dense, density) {
                Ok(masks) => {
                    Optimizer::new(&TrainConfig::default(), net.vars()).set_masks(net.vars(), &masks)?;
                    let accuracy = evaluate(&mut net, run.data, &indices, run.normalise)?.accuracy();
                    points.push(SensitivityPoint { sparsity: 1.0 - density, accuracy });
                    start.restore(&mut net)?;
                }
                Err(TrainError::Mask(MaskError::LayerCollapse { .. })) => {}
                Err(other) => return Err(other),
            }
            step += 1;
            run.events.emit(&Event::Progress { phase: phase.clone(), step, steps });
        }
        scans.push(SensitivityScan { layer: layer.name.clone(), points });
    }
    Ok(scans)
}

/// Per layer, the smallest density at which it and every greater one lose at most `budget_points` of accuracy.
///
/// * `budget_points`: percentage points below the accuracy of the dense network.
///
/// The result is a table for [`Distribution::PerLayer`].
pub fn suggest(scans: &[SensitivityScan], budget_points: f64) -> BTreeMap<String, f64> {
    let suggestion = |scan: &SensitivityScan| {
        let dense = scan.points.first().map_or(0.0, |p| p.accuracy);
        let within = scan.points.iter().take_while(|p| (dense - p.accuracy) * 100.0 <= budget_points + 1e-9);
        (scan.layer.clone(), within.last().map_or(1.0, |p| 1.0 - p.sparsity))
    };
    scans.iter().map(suggestion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Magnitude;
    use crate::testing::{self, Harness};

    #[test]
    fn a_scan_starts_at_the_dense_accuracy_and_leaves_out_collapse() {
        let mut harness = Harness::new();
        let graph = testing::mlp(&[16, 6, 3], None);
        let found = harness
            .with_run(|run| sensitivity(&graph, PrunableSet::ALL, &Magnitude, 20, 1, &Device::Cpu, run))
            .unwrap();
        let names: Vec<&str> = found.iter().map(|s| s.layer.as_str()).collect();
        assert_eq!(names, ["fc0.w", "fc1.w"]);
        assert_eq!(found[0].points.len(), DENSITIES.len());
        assert_eq!(found[0].points[0].accuracy, found[1].points[0].accuracy);
        let last = found[1].points.last().unwrap();
        assert!((last.sparsity - 0.95).abs() < 1e-12, "18 weights keep one at density 0.05");
    }

    #[test]
    fn the_suggestion_stops_at_the_first_density_over_budget() {
        let points = [(0.0, 0.9), (0.5, 0.89), (0.8, 0.7), (0.9, 0.9)];
        let points = points.map(|(sparsity, accuracy)| SensitivityPoint { sparsity, accuracy }).to_vec();
        let scans = [SensitivityScan { layer: "w".into(), points }];
        assert_eq!(suggest(&scans, 1.0)["w"], 0.5);
        assert_eq!(suggest(&scans, 0.0)["w"], 1.0);
    }
}
