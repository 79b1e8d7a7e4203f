//! Trains and prunes. In goes a [`sentei_graph::Graph`] with its values, a data set and two tables of a recipe; out comes
//! the same graph with trained values, of which the pruned ones are zero.
//!
//! ```
//! use std::sync::Arc;
//! use sentei_data::{InspectionSpec, Normalise, Split, inspection};
//! use sentei_prune::config::{PruneConfig, Retrain, TrainConfig};
//! use sentei_prune::train::{Plan, Run, Stop, train};
//! use sentei_prune::{Masks, Net, device, prune_and_retrain};
//!
//! let data = Arc::new(inspection(&InspectionSpec { train: 32, val: 12, test: 6, ..InspectionSpec::default() }, 1));
//! let spec = sentei_models::Spec { channels: 1, height: 64, width: 64, classes: data.classes.len(), seed: 1 };
//! let graph = sentei_models::build("inspect", &spec)?;
//! let (device, normalise, stop) = (device("cpu")?, Normalise::of(&data, Split::Train), Stop::never());
//! let mut events = Vec::new();
//! let mut run = Run { data: &data, normalise: &normalise, events: &mut events, stop: &stop, checkpoint: None };
//!
//! let config = TrainConfig { epochs: 1, batch_size: 16, ..TrainConfig::default() };
//! let mut net = Net::new(&graph, &device)?;
//! train(&mut net, Plan::new("train", &config, &Masks::default()), &mut run)?;
//! let prune = PruneConfig { sparsity: Some(0.9), retrain: Retrain { epochs: 1, ..Retrain::default() }, ..PruneConfig::default() };
//! let pruned = prune_and_retrain(&net.to_graph()?, &config, &prune, &device, &mut run)?;
//! assert_eq!(pruned.masks.kept(), (pruned.masks.prunable() as f64 * 0.1).round() as usize);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A method of a paper is [`score`] x [`granularity`] x [`distribution`] x [`schedule`] x [`parameterisation`]; a new one is at most
//! one new file in one of them.
//!
//! # Invariants
//! - No files but checkpoints, no ONNX, no engines, no terminal; progress leaves as events.
//! - The test split is never read.
//! - After every step a masked weight and its optimiser state are `+0.0`, bit for bit; what SR-STE trains behind the masks is in
//!   the optimiser, never in the network. Masks only shrink, unless a policy regrows.
//! - Same recipe, data, seed and machine: same bytes, whatever the number of threads; killed and resumed: same bytes too.
//! - Exactly as many weights (or whole groups of them) are kept as asked for, ties included, and no layer is ever emptied.
//! - Never another device than the one asked for.

pub mod ablation;
mod batch_norm;
mod checkpoint;
pub mod config;
mod conv;
pub mod curvature;
mod device;
mod distill;
pub mod distribution;
mod dropout;
mod engine;
mod error;
mod evaluate;
mod given;
pub mod granularity;
mod layers;
pub mod limit;
mod loss;
mod lower;
mod masks;
pub mod methods;
mod net;
pub mod optim;
pub mod parameterisation;
mod pipeline;
pub mod schedule;
pub mod score;
pub mod sensitivity;
mod signs;
mod snapshot;
pub mod sr_init;
pub mod survivors;
#[cfg(test)]
mod testing;
mod threads;
pub mod train;

pub use candle_core::{DType, Device, Tensor};
pub use checkpoint::{CheckpointError, Checkpointing};
pub use device::device;
pub use distill::{Distill, Teacher, divergence};
pub use dropout::{DropoutRule, dropout_rules, retraining_rate};
pub use error::PruneError;
pub use evaluate::{Evaluation, evaluate};
pub use layers::{Layer, LayerKind, PrunableSet, layers, prunable_layers};
pub use loss::cross_entropy;
pub use masks::{MaskError, Masks, top_k};
pub use net::{Mode, Net, Param};
pub use pipeline::{LayerRow, PruneOutcome, RoundRow, prune_and_retrain, prune_from, prune_only};
pub use signs::{LayerSigns, SignRow, recombine};
pub use snapshot::values;
