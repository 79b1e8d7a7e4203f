//! Files of the verbs; how they are written and hashed is the runner room's.

use std::path::Path;

use anyhow::{Context, Result};

pub use sentei_runner::files::{read, sha256, write_atomic};

/// Reads a text file; the error names it.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Fails now rather than after an hour of work when `path` cannot be written.
pub fn check_writable(path: &Path) -> Result<()> {
    tempfile::NamedTempFile::new_in(sentei_runner::files::folder_of(path)).with_context(|| {
        format!("{} cannot be written: its folder is missing or read-only (choose another with -o)", path.display())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_named_before_any_work() {
        let error = check_writable(Path::new("/no/such/folder/x.onnx")).expect_err("cannot be written");
        assert!(error.to_string().contains("/no/such/folder/x.onnx"), "{error}");
    }
}
