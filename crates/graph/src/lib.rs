//! sentei's model: a [`Graph`] of a closed set of ops over named `f32` values.
//!
//! **In**: a graph built by hand, by an architecture of `models`, from text ([`Graph::parse`]) or by the ONNX importer.
//! **Out**: shapes, multiply-adds, a slow reference evaluation, and rewritten graphs.

mod graph;
mod mask;
pub mod ops;
pub mod passes;
mod tensor;
mod text;

pub use graph::{Graph, GraphError, Node, NodeId, ValueId};
pub use mask::Mask;
pub use ops::{ChannelFlow, Op, OpError, OpSpec, Role};
pub use tensor::{Fact, Tensor};
pub use text::{TextError, TextErrorKind};
