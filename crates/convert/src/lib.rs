//! ONNX in and out, and the packed form of pruned weights.
//!
//! **In**: bytes of an ONNX model, dense or packed ([`import`], [`inspect`]), or a [`sentei_graph::Graph`].
//! **Out**: a graph, the bytes of a dense file ([`export`]), or the bytes of a packed file with the proof that it
//! computes the same ([`compile`]).
//!
//! ```
//! use sentei_convert::{CompileOptions, ImportOptions, compile, import, inspect};
//! use sentei_graph::Graph;
//!
//! let mut graph = Graph::parse("x = input f32[1,64]
//!     y = Gemm(x, w[32,64], b[32])")?;
//! let w = graph.value("w").expect("it is in the text");
//! let mut weight = graph.initializer(w).expect("it is a constant").clone();
//! for (i, v) in weight.data.iter_mut().enumerate().filter(|(i, _)| i % 10 != 0) {
//!     *v = 0.0;
//! }
//! graph.set_initializer(w, weight);
//!
//! let compiled = compile(&graph, &CompileOptions::default())?;
//! assert!(compiled.bytes.len() < compiled.dense_bytes.len());
//! assert_eq!(compiled.tensors[0].encoding, "gap4");
//! assert_eq!(import(&compiled.bytes, &ImportOptions::default())?.nodes().len(), 1);
//! assert_eq!(inspect(&compiled.bytes, &ImportOptions::default())?.dense_macs, Some(64 * 32));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants**
//! - Knows nothing of training, devices or engines; reads no file but external tensor data inside the folder it is given.
//! - No input makes it panic, and nothing of the decoded size is allocated before the byte budget allows it.
//! - `import(export(graph))` evaluates to the same bits; names of values survive both ways.
//! - A packed file decodes to the weights of its dense twin, bit for bit, and has its own checksum of them.
//! - [`compile`] returns bytes only after reading them back and comparing every layer; with `keep_groups`, every group of four too.

mod call;
mod codec;
mod compile;
mod constant;
mod equivalence;
mod error;
mod export;
mod fold;
mod import;
mod inspect;
mod pack;
mod proto;
mod shapes;
mod target;
mod two_of_four;

pub use compile::{CompileOptions, Compiled, compile};
pub use equivalence::{Equivalence, LayerError, Tolerance, compare, seeded_inputs, ulps};
pub use error::{ConvertError, UnsupportedOp};
pub use export::{ExportOptions, export};
pub use import::{ImportOptions, import};
pub use inspect::{Inspection, LayerRow, inspect};
pub use pack::{Packing, TensorRow, Values, quantise, weights_checksum};
pub use target::Target;
pub use two_of_four::{LayerPattern, TwoOfFour, check_kept, explain, two_of_four};
