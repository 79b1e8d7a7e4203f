//! Trains and prunes a [`sentei_graph::Graph`] with candle.

mod batch_norm;
mod checkpoint;
pub mod config;
mod conv;
mod device;
pub mod distribution;
mod dropout;
mod error;
mod evaluate;
mod layers;
mod loss;
mod lower;
mod masks;
mod net;
pub mod optim;
mod pipeline;
pub mod schedule;
pub mod score;
pub mod sensitivity;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod train;

pub use candle_core::Device;
pub use checkpoint::{CheckpointError, Checkpointing};
pub use device::device;
pub use dropout::{DropoutRule, dropout_rules, retraining_rate};
pub use error::PruneError;
pub use evaluate::{Evaluation, evaluate};
pub use layers::{Layer, LayerKind, PrunableSet, layers, prunable_layers};
pub use loss::cross_entropy;
pub use masks::{MaskError, Masks, top_k};
pub use net::{Mode, Net, Param};
pub use pipeline::{LayerRow, PruneOutcome, RoundRow, prune_and_retrain, prune_only};
pub use snapshot::values;
