//! sentei's model: a [`Graph`] of a closed set of ops over named `f32` values.
//!
//! **In**: a graph built by hand, by an architecture of `models`, from text ([`Graph::parse`]) or by the ONNX importer.
//! **Out**: shapes, multiply-adds, a slow reference evaluation, and rewritten graphs. The same graph is what the
//! trainer lowers, the pruner masks and the compiler writes; nothing translates it on the way.
//!
//! ```
//! use sentei_graph::{Graph, Tensor, passes};
//!
//! let graph = Graph::parse(
//!     "x = input f32[1,3,8,8]
//!      a = Conv(x, w[4,3,3,3]) pad=1
//!      n = BatchNorm(a, gamma[4], beta[4], mean[4], var[4])
//!      y = Relu(n)",
//! )?;
//! let deployed = passes::for_deployment(graph.clone())?;
//! assert_eq!(
//!     deployed.graph.to_text(),
//!     "x = input f32[1,3,8,8]\nn = Conv(x, w'[4,3,3,3], n.bias[4]) pad=1\ny = Relu(n)\n"
//! );
//! assert_eq!(deployed.steps[0].pass, "fold_batch_norm");
//!
//! let feeds = [Tensor::full([1, 3, 8, 8], 0.5)];
//! let (before, after) = (graph.eval(&feeds)?, deployed.graph.eval(&feeds)?);
//! assert!(before[0].data.iter().zip(&after[0].data).all(|(a, b)| (a - b).abs() < 1e-5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants**
//!
//! - No file, no ONNX byte, no candle tensor, no thread and no `unsafe` in here.
//! - Every value is `f32`; every op has one output; nodes stand in topological order.
//! - A checked graph has the shapes it says: [`Op::infer`] and [`Op::eval`] agree, and neither panics on any attribute.
//! - A pass never touches a graph; the one driver does, and checks it before and after every patch.
//! - A rewrite keeps the names and shapes of inputs and outputs, and the numbers up to rounding.
//! - Zeros of a weight stay `+0` through every rewrite: the zero pattern is the pruning mask.
//! - Nothing is random without a seed; text without values gives the same numbers on every machine.

pub mod blocks;
mod graph;
mod mask;
pub mod ops;
pub mod passes;
mod pattern;
mod tensor;
mod text;

pub use graph::{Graph, GraphError, Node, NodeId, ValueId};
pub use mask::Mask;
pub use ops::{ChannelFlow, Op, OpError, OpSpec, Role};
pub use pattern::{BrokenGroup, Pattern, first_broken_group, patterns};
pub use tensor::{Fact, Tensor};
pub use text::{TextError, TextErrorKind};
