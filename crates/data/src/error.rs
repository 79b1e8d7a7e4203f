//! What can be wrong with a data set, and the cap on what reading one may cost.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a data set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused, or a compressed stream is damaged.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder that was being read.
        path: PathBuf,
        /// The underlying error.
        source: io::Error,
    },
    /// Nothing known was found at the path.
    #[error("{}: {reason}", path.display())]
    Unrecognised {
        /// What was given.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// An IDX or CIFAR file does not follow its format.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
    /// Reading on would hold more bytes than [`crate::ReadOptions::byte_budget`] allows.
    #[error("{name}: reading needs more than the budget of {budget} bytes; use --size to read smaller images")]
    OverBudget {
        /// File or data set that went over.
        name: String,
        /// The budget, in bytes.
        budget: u64,
    },
    /// One image cannot be decoded.
    #[error("image `{name}`: {reason}")]
    Image {
        /// Member name or path.
        name: String,
        /// What the decoder said.
        reason: String,
    },
    /// Images differ in size and no size was asked for.
    #[error("image `{other}` is {}x{} but `{first}` is {}x{}; use --size HxW to resize all", other_size.0, other_size.1, first_size.0, first_size.1)]
    MixedSizes {
        /// First image.
        first: String,
        /// Its height and width in pixels.
        first_size: (usize, usize),
        /// First image of another size.
        other: String,
        /// Its height and width in pixels.
        other_size: (usize, usize),
    },
    /// A class folder without an image.
    #[error("class folder `{0}` holds no image (png, jpg, jpeg, bmp, pgm, ppm, pnm)")]
    EmptyClass(String),
    /// A classifier needs two classes.
    #[error("`{name}` has {found} class(es), at least 2 are needed; expected one sub-folder per class")]
    TooFewClasses {
        /// The data set.
        name: String,
        /// How many classes were found.
        found: usize,
    },
    /// A file or folder name is not UTF-8.
    #[error("name `{0}` is not valid UTF-8; rename the file")]
    NotUtf8(String),
    /// A split file is malformed or does not fit its images.
    #[error("split file {}: {reason}", path.display())]
    SplitFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where one is known.
        reason: String,
    },
    /// An option is out of range.
    #[error("{0}")]
    Option(String),
    /// No image is left to train on.
    #[error("`{0}` has no image in its train split")]
    NoTraining(String),
}

impl DataError {
    pub(crate) fn io(path: &Path, budget: u64) -> impl Fn(io::Error) -> DataError + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::FileTooLarge => DataError::OverBudget { name: path.display().to_string(), budget },
            _ => DataError::Io { path: path.clone(), source },
        }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> DataError {
        DataError::Format { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// Passes bytes through and fails with `FileTooLarge` on the first byte over the cap.
pub(crate) struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Capped<R> {
    pub(crate) fn new(inner: R, cap: u64) -> Self {
        Capped { inner, left: cap }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capped_lets_the_cap_through_and_stops_the_byte_after() {
        let mut out = Vec::new();
        assert_eq!(Capped::new(&[1u8; 5][..], 5).read_to_end(&mut out).unwrap(), 5);
        let error = Capped::new(&[1u8; 6][..], 5).read_to_end(&mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
