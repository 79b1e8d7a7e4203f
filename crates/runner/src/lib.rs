//! What runs on a board: load a model, classify images, measure models side by side, test a model against its own expected
//! output. The program `sentei-run` is these parts behind a few flags; `sentei run` and `sentei bench` use the same parts.
//!
//! **In**: ONNX files, images, or a model at the end of the program itself ([`embedded`]). **Out**: verdicts, and the records of
//! the report room with raw samples.
//!
//! ```
//! use sentei_runner::{classify::rank, self_test::SelfTest};
//!
//! let ranked = rank(&[0.0, 2.0], &["good".into(), "scratch".into()])?;
//! assert_eq!(ranked[0].0, "scratch");
//!
//! // the digest of an output that the model file carries allows for another order of additions, not for another result
//! let expected = SelfTest::of(7, &[vec![0.25, -1.0]]);
//! assert!(expected.compare(&[vec![0.250_01, -1.0]])?.passed());
//! assert!(!expected.compare(&[vec![0.26, -1.0]])?.passed());
//! # Ok::<(), sentei_runner::RunnerError>(())
//! ```
//!
//! **Invariants**
//! - No training, no graph rewriting, no argument parser, nothing that a board does not need.
//! - No number is reported for a model whose self-test failed.
//! - A file is written whole or not at all.

pub mod classify;
pub mod embedded;
pub mod files;
pub mod measure;
pub mod preprocessing;
pub mod self_test;
pub mod sidecar;

mod error;

pub use error::RunnerError;
