//! Trains and prunes a [`sentei_graph::Graph`] with candle.

mod batch_norm;
mod conv;
mod device;
mod error;
mod loss;
mod lower;
mod net;

pub use device::device;
pub use error::PruneError;
pub use loss::cross_entropy;
pub use net::{Mode, Net, Param};
