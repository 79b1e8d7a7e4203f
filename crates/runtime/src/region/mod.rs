//! Consecutive layers as one operator: our own form of them, what is fused, where a graph is cut, and which kernels run them.
//!
//! [`regions`] cuts, [`fuse`] fuses, [`build`] lays out, tunes and prepares. Nothing here knows tract; `tract/find.rs` translates.

mod build;
mod choice;
mod cut;
mod fuse;
mod graph;
mod layout;
mod slabs;
mod tune;
mod weights;

pub(crate) use build::{Built, build};
pub(crate) use cut::{Item, regions};
pub(crate) use fuse::{fuse, named};
pub(crate) use graph::{Kind, Layer, Net, Pool, Shape, Value};
pub(crate) use tune::Tuner;
pub(crate) use weights::Weights;
