//! Tests across rooms, in one binary: the walls, op conformance, packed files in stock engines, the program, the whole flow.

mod analyze;
mod board;
mod cli;
mod conformance;
mod layering;
mod packed;
mod peers;
mod pipeline;
mod providers;
mod support;
mod sweep;
#[cfg(all(unix, not(feature = "cuda")))]
mod trainer;
mod two_of_four;
