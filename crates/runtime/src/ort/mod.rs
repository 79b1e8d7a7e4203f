//! The ONNX Runtime engine, through a library found at run time.
//!
//! In: the bytes of an ONNX file and [`OrtOptions`]. Out: a session, and which provider really ran each node of it.
//! Packed files in function form are handed over as they are: ONNX Runtime inlines the functions and folds the decoding
//! away while loading, so it computes with dense weights.
//!
//! **Invariants**
//! - Nothing is linked: the library, and with it every provider, is found and loaded at run time.
//! - A provider that was asked for and cannot be had is an error; one that is there and does not run the model is one too.

mod convolution;
mod options;
mod placement;
mod values;

#[cfg(feature = "ort")]
mod absence;
#[cfg(feature = "ort")]
mod library;
#[cfg(feature = "ort")]
mod needs;
#[cfg(feature = "ort")]
mod probe;
#[cfg(feature = "ort")]
mod profile;
#[cfg(feature = "ort")]
mod register;
#[cfg(feature = "ort")]
mod session;

#[cfg(feature = "ort")]
pub use library::{LibrariesFound, LibraryInfo, library_info};
pub use options::{KEYS, Key, OptionError, OrtOptions, Provider};
pub use placement::{NodePlace, judge, per_provider};
#[cfg(feature = "ort")]
pub use probe::{LibraryReport, ProviderReport, probe};
#[cfg(feature = "ort")]
pub use session::Ort;
pub use values::{Arena, ConvSearch, Level, Optimise};

#[cfg(feature = "ort")]
const NAME: &str = "ort";

/// An ONNX file that every provider runs: `y = Conv(x, w)`, a few hundred bytes.
pub fn smallest_model() -> Vec<u8> {
    convolution::bytes()
}
