//! Samples for training and measuring: in goes a folder, an archive, IDX or CIFAR files, or the seed of the embedded
//! generator; out comes a [`Dataset`] in memory with labels and splits, and from it [`Batch`]es of standardised values.
//!
//! ```
//! use sentei_data::{Augment, InspectionSpec, Normalise, Order, Split, batches, inspection};
//! use std::sync::Arc;
//!
//! let spec = InspectionSpec { train: 40, val: 20, test: 20, ..InspectionSpec::default() };
//! let data = Arc::new(inspection(&spec, 1));
//! let normalise = Normalise::of(&data, Split::Train);
//! let augment = Augment { flip_horizontal: true, shift: 2, ..Augment::default() };
//! let order = Order::Shuffled { seed: 1, epoch: 0 };
//! for batch in batches(&data, &data.indices(Split::Train), 16, order, Some(&augment), &normalise).drop_last() {
//!     assert_eq!(batch.images.len(), 16 * 64 * 64);
//! }
//! ```
//!
//! **Invariants**
//! - Knows nothing of models, devices or training.
//! - The same input, options and seed give the same bytes, whatever the number of threads.
//! - No bad file panics or makes it allocate beyond [`ReadOptions::byte_budget`] before the bytes are there.
//! - Nothing is written to disk.
//! - All images of a [`Dataset`] have one shape, every label is below the number of classes, and there is training data.
//! - Groups of a split file are never torn apart by a drawn split.
#![forbid(unsafe_code)]

mod augment;
mod cifar;
mod dataset;
mod defects;
mod draws;
mod error;
mod idx;
mod inspection;
mod limit;
mod loader;
mod members;
mod picture;
mod read;
mod samples;
mod split;
mod split_file;
mod texture;

pub use augment::Augment;
pub use dataset::{Dataset, Split};
pub use draws::derive_seed;
pub use error::DataError;
pub use inspection::{InspectionSpec, inspection};
pub use loader::{Batch, Loader, Normalise, Order, batches};
pub use picture::{Picture, read_picture};
pub use read::{ReadOptions, open};
pub use split::SplitRatios;
