//! Why a model could not be run or measured.

use std::path::{Path, PathBuf};

use sentei_runtime::RuntimeError;

/// Everything that can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// A flag or a combination of flags that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A model could not be loaded or run.
    #[error("{}: {source}", path.display())]
    Model {
        /// Its file.
        path: PathBuf,
        /// The engine's reason.
        source: RuntimeError,
    },
    /// An image could not be read.
    #[error(transparent)]
    Image(#[from] sentei_data::DataError),
    /// What the model file says of itself is missing or contradicts the model.
    #[error("{0}")]
    Description(String),
    /// A model computes something else on this machine than where it was compiled.
    #[error(
        "{}: self-test failed: output differs by {difference:.3e} where {tolerance:.1e} is allowed; no number is reported \
         (try --kernels dense, and report the processor)",
        path.display()
    )]
    SelfTest {
        /// Its file.
        path: PathBuf,
        /// Largest difference of an output.
        difference: f64,
        /// Largest difference allowed.
        tolerance: f64,
    },
}

impl RunnerError {
    /// Process exit code, as of the `sentei` program: 2 usage, 4 outputs differ, 5 engine absent, 6 limit exceeded, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::SelfTest { .. } => 4,
            Self::Model { source, .. } => source.exit_code(),
            _ => 1,
        }
    }

    /// Names the model file of an engine's error.
    pub fn of_model(path: &Path) -> impl FnOnce(RuntimeError) -> Self {
        move |source| Self::Model { path: path.to_owned(), source }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_self_test_has_the_exit_code_of_a_mismatch() {
        let failed = RunnerError::SelfTest { path: "m.onnx".into(), difference: 0.5, tolerance: 1e-4 };
        assert_eq!(failed.exit_code(), 4);
        assert!(failed.to_string().starts_with("m.onnx: self-test failed: output differs by 5.000e-1"), "{failed}");
        let limit = RuntimeError::LimitExceeded { what: "w".into(), needed: 2, limit: 1, unit: "bytes", flag: "-b" };
        assert_eq!(RunnerError::of_model(Path::new("m"))(limit).exit_code(), 6);
    }
}
